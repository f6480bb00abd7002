"""Checkpointing: the same gradients, less memory. Ground truth: the function without it."""

import gc
import tracemalloc

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import GradientError


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
