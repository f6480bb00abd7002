"""grad, vjp, jvp, custom_vjp, gradcheck, checkpoint.

Ground truths: closed forms, differences, the function without checkpointing.
"""

import gc
import tracemalloc

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import GradientError, SettingError, ShapeError
from tinytorch.primitives import TABLE


def randn(*shape, seed=0):
    return tt.randn(*shape, dtype="float64", generator=tt.Generator(seed))


def test_third_derivative():
    """Closed form: (x^4)''' = 24 x."""
    f = lambda x: x * x * x * x  # noqa: E731
    assert tt.grad(tt.grad(tt.grad(f)))(tt.Tensor(2.0)).item() == 48.0


def test_grad_of_several_arguments_and_aux():
    """Closed form: d(a b) = b, a."""
    f = lambda a, b: ((a * b).sum(), "kept")  # noqa: E731
    (g_a, g_b), aux = tt.grad(f, argnums=(0, 1), has_aux=True)(tt.Tensor([2.0]), tt.Tensor([3.0]))
    assert (g_a.item(), g_b.item(), aux) == (3.0, 2.0, "kept")


def test_result_of_grad_is_not_connected_unless_the_caller_records():
    """Invariant: no tape stays behind, but an outer one goes through: d/dw d/dx w x^2 = 2x."""
    w = tt.Tensor(3.0, requires_grad=True)
    assert not tt.grad(lambda x: x * x)(tt.Tensor(1.0)).requires_grad
    g = tt.grad(lambda x: w * x * x)(tt.Tensor(5.0))
    g.backward()
    assert w.grad.item() == 10.0


def test_nested_functions_are_not_confused():
    """Closed form: d/dx [x * d/dy (x + y)] at 1 is 1 (perturbation confusion would say 2)."""
    inner = lambda x: tt.grad(lambda y: x + y)(tt.Tensor(1.0))  # noqa: E731
    assert tt.grad(lambda x: x * inner(x))(tt.Tensor(1.0)).item() == 1.0


def test_jvp_agrees_with_differences():
    """Finite differences: central, float64, h = 1e-6: error about h^2 + eps/h = 1e-9."""
    f = lambda x, y: tt.softmax(x @ y, 1)  # noqa: E731
    x, y, dx, dy = randn(3, 4), randn(4, 2, seed=1), randn(3, 4, seed=2), randn(4, 2, seed=3)
    out, change = tt.jvp(f, (x, y), (dx, dy))
    numeric = (f(x + dx * 1e-6, y + dy * 1e-6) - f(x - dx * 1e-6, y - dy * 1e-6)) / 2e-6
    assert np.array_equal(out.numpy(), f(x, y).numpy())
    assert np.allclose(change.numpy(), numeric.numpy(), rtol=0, atol=1e-8)


def test_vjp_is_the_transpose_of_jvp():
    """Invariant: <u, J v> = <J^T u, v>, float64, 12 terms: relative 1e-13."""
    f = lambda x: (x[1:] * x[:-1]).tanh()  # noqa: E731
    x, v, u = randn(7), randn(7, seed=1), randn(6, seed=2)
    left = (u * tt.jvp(f, (x,), (v,))[1]).sum().item()
    right = (tt.vjp(f, x)[1](u)[0] * v).sum().item()
    assert left == pytest.approx(right, rel=1e-13)


def test_vjp_of_a_constant_is_zero():
    """Closed form."""
    y, pull = tt.vjp(lambda x: tt.ones(2), tt.ones(3))
    assert pull(tt.ones(2))[0].tolist() == [0.0] * 3


def test_vjp_refuses_a_cotangent_of_another_shape():
    """Ground truth: the message."""
    with pytest.raises(ShapeError, match="another shape than the result"):
        tt.vjp(lambda x: x * 2, tt.ones(3))[1](tt.ones(2))


def test_custom_vjp_to_second_order():
    """Closed form: square with its gradient given: 2 x, then 2."""

    @tt.custom_vjp
    def square(x):
        return x * x

    square.define(lambda x: (x * x, (x, x * 2)), lambda kept, g: (g * kept[1],))
    assert tt.grad(lambda x: square(x))(tt.Tensor(3.0)).item() == 6.0
    assert tt.grad(tt.grad(lambda x: square(x)))(tt.Tensor(3.0)).item() == 2.0
    assert square(tt.Tensor(3.0)).item() == 9.0


def test_custom_vjp_refuses_wrong_shapes_and_missing_rules():
    """Ground truth: the messages."""
    f = tt.custom_vjp(lambda x: x * 1)
    with pytest.raises(GradientError, match="no gradient is defined"):
        f(tt.ones(2).requires_grad_())
    f.define(lambda x: (x * 1, None), lambda kept, g: (g.sum(),))
    with pytest.raises(ShapeError, match="do not fit the arguments"):
        f(tt.ones(2).requires_grad_()).sum().backward()


def test_primitive_adds_a_row():
    """Closed form: a user's row with its gradient."""

    double = tt.primitive(
        "test_double", infer=lambda x: x, numpy=lambda x: 2 * x, vjp=lambda g, out, x: (g * 2,)
    )
    try:
        assert tt.gradcheck(lambda x: double(x).exp(), [tt.ones(3)])
    finally:
        del TABLE["test_double"]


def test_a_row_of_a_user_has_a_class_that_the_compiler_can_take():
    """Ground truth: NumPy's; and of rows such as views the compiler knows each by its own rule."""
    row = {"infer": lambda x: x, "numpy": lambda x: 2 * x}
    with pytest.raises(SettingError, match="op_class") as caught:
        tt.primitive("test_viewed", op_class="movement", **row)
    assert all((caught.value.what, caught.value.got, caught.value.rule, caught.value.fix))
    try:
        double = tt.primitive("test_doubled", op_class="elementwise", **row)
        viewed = tt.primitive("test_seen", infer=lambda x: x, numpy=lambda x: x[:], view=True)
        x = tt.tensor([1.0, 2.0])
        assert tt.compile(lambda x: viewed(double(x) + 1))(x).tolist() == [3.0, 5.0]
    finally:
        TABLE.pop("test_doubled", None)
        TABLE.pop("test_seen", None)


def test_gradcheck_finds_a_wrong_gradient():
    """Ground truth: a gradient wrong by 1 %."""
    f = tt.custom_vjp(lambda x: x.exp())
    f.define(lambda x: (x.exp(), x), lambda x, g: (g * x.exp() * 1.01,))
    with pytest.raises(GradientError, match="not that of the function"):
        tt.gradcheck(f, [tt.ones(3)], order=1)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: tt.softmax(x, 0),
        lambda x: tt.log_softmax(x),
        lambda x: tt.logsumexp(x, 1),
        lambda x: x.var(0),
        lambda x: x.std(1, keepdim=True),
        lambda x: tt.sigmoid(x),
        lambda x: tt.log1p(x * x),
        lambda x: x**3 + x**2 + (x * x + 1) ** 0.5 + (x * x + 1) ** -0.5,
        lambda x: x[1:, ::-2],
        lambda x: x[[0, 2, 0], :, None],
        lambda x: x[[0, 1], [2, 0]],
        lambda x: tt.concat([x, x * 2], 1).roll(2, 1),
        lambda x: tt.stack([x, x.exp()], -1).flatten(),
        lambda x: x.repeat(2, 3) * x.repeat_interleave(2, 0).repeat(1, 3),
        lambda x: tt.outer(x[0], x[1]).tril(),
        lambda x: tt.clip(x * 3, -2.0, 2.0),
        lambda x: x.norm(dim=1),
        lambda x: tt.where(x > 0, x * x, -x),
        lambda x: x.max(1).values + x.min(1).values,
        lambda x: tt.gather(x, 1, tt.tensor([[0, 0], [1, 3], [2, 2]])),
        lambda x: x.prod(0),
        lambda x: x.cumsum(1),
        lambda x: x @ x.mT,
        lambda x: tt.matmul(x[0], x.T),
    ],
)
def test_compositions_by_differences(f):
    """Finite differences in float64, first and second order, one random direction."""
    assert tt.gradcheck(f, [randn(3, 4, seed=11)])


# --- checkpointing: the same gradients, less memory ---


def gradients(block, steps: int = 3, wrap=lambda f: f):
    """Gradients of a chain of blocks with weights of their own, and of its input."""
    generator = tt.Generator(1)
    weights = [
        tt.randn(4, 4, dtype="float64", generator=generator).requires_grad_() for _ in range(steps)
    ]
    x = tt.randn(5, 4, dtype="float64", generator=generator).requires_grad_()
    y = x
    for w in weights:
        y = wrap(lambda y, w=w: block(y, w))(y)
    (y * y).sum().backward()
    return [t.grad.numpy() for t in (x, *weights)]


def test_gradients_are_those_of_the_function():
    """Invariant: bit for bit, for arguments and for what the block closes over."""
    block = lambda y, w: ((y @ w).tanh() * y).exp()  # noqa: E731
    for a, b in zip(gradients(block), gradients(block, wrap=tt.checkpoint), strict=True):
        assert np.array_equal(a, b)


def test_second_derivatives():
    """Finite differences, both orders, through nested checkpoints."""
    inner = tt.checkpoint(lambda x: (x * x).sin())
    assert tt.gradcheck(tt.checkpoint(lambda x: inner(x) * x), [tt.rand(3)])


def test_several_results_and_other_things_among_them():
    """Closed form: the gradients of 2x and of x^2, one of them unused."""
    block = tt.checkpoint(lambda x, scale: (x * scale, "text", x * x))
    x = tt.Tensor([3.0], requires_grad=True)
    double, text, square = block(x, scale=2.0)
    assert text == "text"
    double.sum().backward(retain_graph=True)
    (double + square).sum().backward()
    assert x.grad.tolist() == [2.0 + 2.0 + 6.0]


def test_memory_falls_to_one_block():
    """Measured with tracemalloc: 16 blocks of 8 arrays of 800 kB; without checkpoints 128 are kept,
    with them 16 inputs and the 8 of one block, so less than a third."""

    def block(x):
        for _ in range(8):
            x = x.sin()
        return x

    def peak(wrap) -> int:
        x = tt.ones(100_000, dtype="float64", requires_grad=True)
        gc.collect()
        tracemalloc.start()
        y = x
        for _ in range(16):
            y = wrap(block)(y)
        y.sum().backward()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    plain, less = peak(lambda f: f), peak(tt.checkpoint)
    assert plain > 128 * 800_000 and less < plain / 3


def test_random_numbers_are_the_same_again():
    """Closed form: the gradient of sum(x * mask) is the mask; the generator moves on once."""
    mask = []

    def block(x):
        mask.append(tt.rand(4))
        return x * mask[-1]

    tt.manual_seed(3)
    x = tt.ones(4, requires_grad=True)
    y = tt.checkpoint(block)(x)
    after = tt.default_generator.state.tolist()
    drawn = tt.rand(2)
    y.sum().backward()
    assert x.grad.tolist() == mask[0].tolist() == mask[1].tolist()
    assert tt.default_generator.state.tolist() != after
    tt.manual_seed(3)
    tt.rand(4)
    assert tt.rand(2).tolist() == drawn.tolist()


def test_what_the_block_assigns_is_assigned_once():
    """Invariant: a running mean counts each forward once, though the block runs twice."""
    count = tt.zeros(1)

    def block(x):
        with tt.no_grad():
            count.assign_(count + 1.0)
        return x * count

    x = tt.ones(1, requires_grad=True)
    block = tt.checkpoint(block)
    first, second = block(x), block(x)
    (first + second).sum().backward()
    assert count.item() == 2.0
    assert x.grad.item() == 3.0


def test_a_weight_changed_in_between_is_noticed():
    """Ground truth: the message; the value it had is gone."""
    w, x = tt.ones(2, requires_grad=True), tt.ones(2, requires_grad=True)
    y = tt.checkpoint(lambda x: x * w)(x)
    with tt.no_grad():
        w += 1.0
    with pytest.raises(GradientError, match=r"(?s)changed in place.*got:.*rule:.*fix:"):
        y.sum().backward()


def test_an_argument_is_kept_as_it_was():
    """Closed form: d(x y)/dx is the y of the call, whatever y holds later."""
    x, y = tt.ones(2, requires_grad=True), tt.full((2,), 3.0)
    z = tt.checkpoint(lambda x, y: x * y)(x, y)
    y += 1.0
    z.sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_the_precision_of_the_first_time_is_used_again():
    """Closed form: 1 + 2^-9 is 1 in bfloat16, so the gradient of x @ w is exactly 1."""
    x, w = tt.ones(1, 1, requires_grad=True), tt.full((1, 1), 1 + 2**-9)
    with tt.precision("bf16"):
        y = tt.checkpoint(lambda x: x @ w)(x)
    y.sum().backward()
    assert x.grad.item() == 1.0


def test_without_recording_it_is_the_function():
    """Invariant."""
    block = tt.checkpoint(lambda x: x * 2)
    with tt.no_grad():
        assert not block(tt.ones(1, requires_grad=True)).requires_grad
    assert not block(tt.ones(1)).requires_grad
    assert tt.checkpoint(lambda: None)() is None


def test_compiled_gives_the_same():
    """Invariant: eager gradients, with random numbers inside; float32, one product of 4: 1e-6."""
    w = tt.randn(4, 4, generator=tt.Generator(2)).requires_grad_()
    block = tt.checkpoint(lambda x: (x @ w).tanh() * tt.rand(3, 4))

    def step(x):
        w.grad = None
        loss = (block(x) * 2.0).sum()
        loss.backward()
        return loss.detach(), w.grad

    x = tt.randn(3, 4, generator=tt.Generator(5))
    tt.manual_seed(0)
    eager = [t.numpy() for t in step(x)]
    w.grad = None
    tt.manual_seed(0)
    compiled = [t.numpy() for t in tt.compile(step)(x)]
    for a, b in zip(eager, compiled, strict=True):
        assert np.allclose(a, b, rtol=1e-6, atol=1e-6)


def test_a_block_of_layers():
    """Invariant: the gradients of every parameter, the running statistics and the dropout masks are
    those of the block without a checkpoint, bit for bit; both steps of a small training."""
    from tinytorch import nn

    def trained(wrap):
        tt.manual_seed(4)
        block = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.3))
        head = nn.Linear(5, 1)
        x = tt.randn(8, 6)
        for _ in range(2):
            loss = (head(wrap(block)(x)) ** 2).mean()
            loss.backward()
            with tt.no_grad():
                for p in (*block.parameters(), *head.parameters()):
                    p.sub_(p.grad, alpha=0.1)
                    p.grad = None
        return {**block.state_dict(), "head": head.weight, "loss": loss.detach()}

    plain, kept = trained(lambda f: f), trained(tt.checkpoint)
    assert set(plain) == set(kept) and len(plain) > 6
    for name, value in plain.items():
        assert np.array_equal(np.asarray(value), np.asarray(kept[name])), name
