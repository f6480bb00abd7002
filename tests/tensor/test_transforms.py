"""grad, vjp, jvp, custom_vjp, gradcheck."""

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
