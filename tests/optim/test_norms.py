"""norms.py: lengths of gradients before and after clipping; closed forms of penalties."""

import math

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import optim
from tinytorch.base.errors import CompileError, GradientError, SettingError
from tinytorch.optim import clip_grad_norm_, clip_grad_value_, renorm_


def with_gradients() -> list[tt.Tensor]:
    """Three weights, two with gradients (3, 0) and (4,): a common length of 5."""
    a, b, c = (tt.Tensor(np.zeros(n), requires_grad=True) for n in (2, 1, 3))
    (a * tt.Tensor(np.array([3.0, 0.0]))).sum().backward()
    (b * 4.0).sum().backward()
    return [a, b, c]


def test_long_gradients_are_scaled_together():
    """Closed form: 3-4-5 triangle scaled to length 1; 1e-6 in the divisor is 2e-7 of 5."""
    a, b, c = with_gradients()
    assert clip_grad_norm_([a, b, c], 1.0).item() == 5.0
    assert a.grad.numpy() == pytest.approx([0.6, 0.0], rel=1e-6)
    assert b.grad.numpy() == pytest.approx([0.8], rel=1e-6)
    assert c.grad is None


def test_short_gradients_stay():
    """Ground truth: min(1, ...) is 1, bit for bit."""
    a, b, _ = with_gradients()
    clip_grad_norm_([a, b], 100.0)
    assert a.grad.tolist() == [3.0, 0.0] and b.grad.tolist() == [4.0]


def test_nothing_to_clip_has_length_zero():
    """Ground truth: an empty sum."""
    assert clip_grad_norm_([tt.Tensor([1.0], requires_grad=True)], 1.0).item() == 0.0


def test_bad_limit_is_named():
    """Ground truth: [0, inf]: a negative limit would turn the gradients round."""
    for limit in (-1.0, math.nan):
        with pytest.raises(SettingError, match="max_norm is outside its range"):
            clip_grad_norm_([], limit)
        with pytest.raises(SettingError, match="clip_value is outside its range"):
            clip_grad_value_([], limit)


@pytest.mark.parametrize(("kind", "length"), [(1, 7.0), (2, 5.0), (math.inf, 4.0)])
def test_other_lengths(kind, length):
    """Closed form: of (3, 0, 4); afterwards the length is 1, but for 1e-6 of it."""
    tensors = with_gradients()
    assert clip_grad_norm_(tensors, 1.0, kind).item() == length
    assert clip_grad_norm_(tensors, 1.0, kind).item() == pytest.approx(1.0, rel=1e-6)
    with pytest.raises(SettingError, match="no such length"):
        clip_grad_norm_(tensors, 1.0, 3)


def test_values_are_clipped_one_by_one():
    """Closed form: into [-3.5, 3.5]."""
    a, b, c = with_gradients()
    a.grad = tt.Tensor(np.array([-9.0, 3.0]))
    clip_grad_value_([a, b, c], 3.5)
    assert a.grad.tolist() == [-3.5, 3.0] and b.grad.tolist() == [3.5] and c.grad is None


EACH_WAY = pytest.mark.parametrize("through", [lambda f: f, tt.compile], ids=["eager", "compiled"])


def clipped(through, gradients, limit, kind=2.0):
    """The length, and the gradients afterwards."""
    tensors = [tt.zeros_like(g).requires_grad_() for g in gradients]

    @through
    def step(*gradients):
        for tensor, g in zip(tensors, gradients, strict=True):
            tensor.grad = g * 1.0
        return clip_grad_norm_(tensors, limit, kind)

    length = step(*gradients)
    return length, [t.grad.numpy() for t in tensors]


@EACH_WAY
@pytest.mark.parametrize(
    ("dtype", "size", "ends"),
    [
        (tt.float32, 1e20, 1e-6), (tt.float32, 1e36, 1e-6), (tt.float32, 1e-25, 1e-6),
        (tt.float32, 1e-38, 1e-6), (tt.float32, 0.0, 0.0), (tt.float64, 1e200, 1e-12),
        (tt.float64, 1e306, 1e-12), (tt.float64, 1e-200, 1e-12), (tt.float16, 6e4, 2e-3),
        (tt.float16, 1e-5, 2e-2), (tt.bfloat16, 1e20, 1e-2), (tt.bfloat16, 1e-30, 1e-2),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", [1, 2, math.inf])
def test_gradients_of_any_size_have_a_length(through, dtype, size, ends, kind):
    """Closed form: 100 gradients of one size (O04): 10, 100 or 1 times it; shared out, 1 / that.

    Tolerance: the rounding of one number to its type (a length of float16 is float32's).
    """
    numbers = tt.Tensor(np.full(100, size)).astype(dtype)
    times = {1: 100.0, 2: 10.0, math.inf: 1.0}[kind]
    length, (found,) = clipped(through, [numbers], 1.0, kind)
    assert length.item() == pytest.approx(size * times, rel=max(ends, 1e-7))
    expected = size if size * times < 1.0 else 1.0 / times
    assert found.astype(float) == pytest.approx(np.full(100, expected), rel=max(ends, 2e-6))


@EACH_WAY
def test_tiny_and_huge_gradients_together(through):
    """Closed form: the huge one decides; types are mixed."""
    gradients = [tt.Tensor(np.array([1e200, 0.0])), tt.Tensor([3.0, 1e-30]), tt.zeros(0)]
    length, found = clipped(through, gradients, 1.0)
    assert length.item() == pytest.approx(1e200, rel=1e-12)
    assert found[0] == pytest.approx([1.0, 0.0]) and found[1].tolist() == [0.0, 0.0]


@EACH_WAY
def test_lengths_that_are_not_finite_are_said(through):
    """Ground truth: PyTorch's: the length says inf or NaN."""
    for bad in (math.inf, -math.inf, math.nan):
        for dtype in (tt.float32, tt.float64):
            for kind in (1, 2, math.inf):
                length, _ = clipped(through, [tt.Tensor([bad, 1.0], dtype=dtype)], 1.0, kind)
                assert repr(length.item()) == repr(abs(bad)), (bad, dtype, kind)


def test_a_length_that_is_not_finite_can_be_refused():
    """Ground truth: its docstring; the gradients are as they were."""
    w = tt.zeros(2).requires_grad_()
    w.grad = tt.Tensor([math.inf, 1.0])
    with pytest.raises(GradientError, match="no finite length"):
        clip_grad_norm_([w], 1.0, error_if_nonfinite=True)
    assert w.grad.tolist() == [math.inf, 1.0]
    w.grad = tt.Tensor([3.0, 4.0])
    assert clip_grad_norm_([w], 1.0, error_if_nonfinite=True).item() == 5.0
    with pytest.raises(CompileError, match="error_if_nonfinite"):
        tt.compile(lambda: clip_grad_norm_([w], 1.0, error_if_nonfinite=True))()


@EACH_WAY
def test_the_ends_of_the_limit(through):
    """Closed form: 0 times anything finite is 0; no limit leaves all, inf too."""
    gradients = [tt.Tensor([3.0, 4.0])]
    assert clipped(through, gradients, 0.0)[1][0].tolist() == [0.0, 0.0]
    length, (found,) = clipped(through, gradients, math.inf)
    assert (length.item(), found.tolist()) == (5.0, [3.0, 4.0])
    _, (found,) = clipped(through, [tt.Tensor([math.inf, 1.0])], math.inf)
    assert found.tolist() == [math.inf, 1.0]


def test_clipping_in_a_compiled_step():
    """Closed form: gradient (3, 4) scaled to length 1, then by value to 0.7; lr 1."""
    w = tt.Tensor(np.array([0.0, 0.0]), requires_grad=True)
    sgd = tt.optim.SGD([w], lr=1.0)

    @tt.compile
    def step():
        (w * tt.Tensor(np.array([3.0, 4.0]))).sum().backward()
        length = clip_grad_norm_([w], 1.0)
        clip_grad_value_([w], 0.7)
        sgd.step()
        sgd.zero_grad()
        return length

    assert step().item() == 5.0
    np.testing.assert_allclose(w.detach().numpy(), [-0.6, -0.7], rtol=1e-6)


def weight(*values: float) -> tt.Tensor:
    return tt.Tensor(np.array(values), requires_grad=True)


@pytest.mark.parametrize("penalty", [optim.l1_penalty, optim.l2_penalty])
def test_penalties_pull_towards_zero(penalty):
    """Closed form: gradients strength * sign(p) and strength * p; the sums over all parameters."""
    a, b = weight(3.0, -2.0), weight(0.0)
    total = penalty([a, b], 0.5)
    total.backward()
    first = penalty is optim.l1_penalty
    assert total.item() == (0.5 * 5.0 if first else 0.25 * 13.0)
    assert a.grad.tolist() == ([0.5, -0.5] if first else [1.5, -1.0])
    assert b.grad.tolist() == [0.0]
    assert penalty([], 0.5).item() == 0.0
    with pytest.raises(SettingError, match="strength is outside its range"):
        penalty([a], -1.0)


def test_l2_penalty_is_weight_decay_of_sgd():
    """Ground truth: SGD's own weight_decay."""
    a, b = weight(3.0, -2.0), weight(3.0, -2.0)
    decayed, plain = optim.SGD([a], lr=0.1, weight_decay=0.3), optim.SGD([b], lr=0.1)
    for _ in range(5):
        for w, sgd in ((a, decayed), (b, plain)):
            sgd.zero_grad()
            loss = (w.sin()).sum() + (optim.l2_penalty([w], 0.3) if w is b else 0.0)
            loss.backward()
            sgd.step()
    # Five steps of five roundings of 1e-16.
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-14)


@pytest.mark.parametrize("through", [lambda f: f, tt.compile])
@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_weights_are_brought_to_one_length(through, size):
    """Closed form: the square of a weight of K rows sums to K, its direction stays; zeros stay."""
    start = np.random.default_rng(0).standard_normal((5, 2, 3, 3)).astype(np.float32)
    w, zero = tt.Tensor(start * np.float32(size), requires_grad=True), tt.zeros(2, 2)
    through(lambda: renorm_([w, zero]))()
    exact = start * math.sqrt(5 / (start.astype(float) ** 2).sum())
    # a rounding of the weight, of the factor and of their product, and in NumPy half of those of a
    # sum of 90 squares in float32, which are at most 16 one after the other
    np.testing.assert_allclose(w.numpy(), exact, rtol=11 * 2.0**-24)
    assert w.requires_grad and not zero.numpy().any()
