"""compile(check_nan=True): the first operation that gives NaN or infinity, and unchanged states.

Ground truth: which line of these functions computes what no number is, known by their arithmetic.
"""

import inspect

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import NonFiniteError

INF, NAN = np.inf, np.nan


def line_of(function, text):
    """ "test_check_nan.py:12", where `text` stands in a function."""
    lines, first = inspect.getsourcelines(function)
    (found,) = [i for i, line in enumerate(lines) if text in line]
    return f"test_check_nan.py:{first + found}"


def logarithm(x):
    y = x * 2
    z = y.log()  # 1
    return z.sum() + y.exp().sum()  # 2


def difference(x):
    y = x * 3e38
    z = y * 10  # 1
    return (z - z.flip(0)).sum()  # 2


def quotient(x):
    n = x - x
    return n / n  # 1


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize(
    "function, x, kind, operation, line",
    [
        (logarithm, [1.0, -1.0], "NaN", "log", "# 1"),
        (logarithm, [1.0, 0.0], "infinity", "log", "# 1"),
        (logarithm, [1.0, 1e3], "infinity", "exp", "# 2"),
        (quotient, [1.0, 2.0], "NaN", "div", "# 1"),
    ],
)
def test_forward(function, x, kind, operation, line, dtype):
    """Ground truth: log(-1), log(0), exp(2000), 0 / 0; the operation after them is not named."""
    compiled = tt.compile(function, check_nan=True)
    if function is logarithm:
        assert np.isfinite(compiled(tt.tensor([1.0, 2.0], dtype=getattr(tt, dtype))).item())
    with pytest.raises(NonFiniteError, match=f"computed {kind}: {operation} at ") as caught:
        compiled(tt.tensor(x, dtype=getattr(tt, dtype)))
    assert line_of(function, line) in caught.value.what and kind in caught.value.got
    assert caught.value.rule and caught.value.fix
    assert isinstance(caught.value, FloatingPointError)


def test_the_first_of_several_is_named():
    """Ground truth: x * 3e39 is infinite in float32 before infinity - infinity is NaN."""
    with pytest.raises(NonFiniteError, match="computed infinity: mul at") as caught:
        tt.compile(difference, check_nan=True)(tt.Tensor([1.0, 1.0]))
    assert line_of(difference, "# 1") in caught.value.what
    assert "up to 3e+38" in caught.value.got


def test_backward_names_the_operation_whose_gradient_it_is():
    """Closed form: the slope of sqrt at 0 is infinite; the loss is a number."""

    def step(x):
        y = (w * x).sqrt()  # forward
        loss = y.sum()
        loss.backward()  # backward
        optimizer.step()
        optimizer.zero_grad()
        return loss

    w = tt.Tensor([1.0, 4.0], requires_grad=True)
    optimizer = tt.optim.AdamW([w], lr=0.1)
    compiled = tt.compile(step, check_nan=True)
    compiled(tt.Tensor([1.0, 1.0]))
    before = w.tolist(), repr(optimizer.state_dict())
    with pytest.raises(NonFiniteError, match="infinity: div at") as caught:
        compiled(tt.Tensor([0.0, 1.0]))
    assert line_of(step, "# backward") in caught.value.what
    assert f"in the gradient of sqrt at {line_of(step, '# forward')}" in caught.value.what
    assert (w.tolist(), repr(optimizer.state_dict())) == before
    compiled(tt.Tensor([1.0, 1.0]))
    assert w.tolist() != before[0]


def test_what_does_not_matter_in_the_end_is_no_error():
    """Closed form: masked scores, a slope that `where` does not take, infinity that was given."""
    x = tt.Tensor([4.0, 0.0], requires_grad=True)

    def f(scores, mask):
        weights = tt.where(mask, scores, -INF).softmax(0)
        taken = tt.where(x > 0, x.sqrt(), 0.0).sum()
        taken.backward()
        g, x.grad = x.grad, None
        return weights, g

    compiled = tt.compile(f, check_nan=True)
    weights, g = compiled(tt.Tensor([1.0, 1.0, 2.0]), tt.tensor([True, True, False]))
    assert weights.tolist() == [0.5, 0.5, 0] and g.tolist() == [0.25, 0]
    only = tt.compile(lambda x: x * 2, check_nan=True)
    assert only(tt.Tensor([INF, 1.0])).tolist() == [INF, 2]


def test_nan_that_was_given_is_told_from_nan_that_arose():
    """The message names the argument, or the state."""
    w = tt.Tensor([1.0, NAN])
    f = tt.compile(lambda x: x * w, check_nan=True)
    with pytest.raises(NonFiniteError, match="was given NaN") as caught:
        f(tt.Tensor([1.0, 1.0]))
    assert "state 0" in caught.value.got
    w.assign_(tt.ones(2))
    f(tt.Tensor([1.0, 1.0]))
    with pytest.raises(NonFiniteError, match="was given NaN") as caught:
        f(tt.Tensor([1.0, NAN]))
    assert "argument 0" in caught.value.got


def test_a_step_with_checks_is_the_step_without():
    """Ground truth: the program without checks; three steps of a small network with dropout."""
    found = []
    for checked in (False, True):
        tt.manual_seed(3)
        model = tt.nn.Sequential(
            tt.nn.Linear(5, 8), tt.nn.GELU(), tt.nn.Dropout(0.2), tt.nn.Linear(8, 3)
        )
        optimizer = tt.optim.AdamW(model.parameters(), lr=0.01)

        @tt.compile(check_nan=checked)
        def step(x, y, model=model, optimizer=optimizer):
            loss = tt.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            return loss

        x = tt.Tensor(np.linspace(-1, 1, 20, dtype=np.float32).reshape(4, 5))
        losses = [step(x, np.array([0, 1, 2, 1])).item() for _ in range(3)]
        found.append([*losses, *(p.numpy() for p in model.parameters())])
        assert ("python.check_nan" in step.explain()) == checked
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)  # sums in another order


def test_a_step_looks_at_its_ends_alone_until_one_is_not_finite():
    """Counting kernels that keep a largest number: those of the result; then of everything."""
    f = tt.compile(lambda x: (x.log() * 2).exp() - 1, check_nan=True)
    few = str(f.stages(tt.Tensor([1.0, 2.0]))["capture"]).count(" max(")
    with pytest.raises(NonFiniteError):
        f(tt.Tensor([1.0, -2.0]))
    many = str(f.stages()["capture"]).count(" max(")
    assert (few, many) == (1, 5)  # the argument, log, mul, exp and sub


def test_it_is_true_or_false():
    """The message names the setting."""
    with pytest.raises(tt.TinyTorchError, match="check_nan"):
        tt.compile(lambda x: x, check_nan="forward")


def test_a_program_without_floats_has_no_check():
    """Closed form: integers are always numbers."""
    f = tt.compile(lambda x: x + 1, check_nan=True)
    assert f(np.array([1, 2])).tolist() == [2, 3] and "host calls: 0" in f.explain()
