"""Lengths that are known when a program runs: arithmetic, what is decided, what is refused."""

import operator

import pytest

from tinytorch.base.errors import CompileError, SettingError
from tinytorch.base.lengths import (
    Length,
    at_bound,
    at_most,
    bound_of,
    dim,
    dims_of,
    holds_length,
    is_size,
    is_symbolic,
    value_at,
)

T_DIM, B_DIM = dim("T", max=8), dim("B", max=4)
T, B = Length.of(T_DIM), Length.of(B_DIM)
EXPRESSIONS = [
    lambda t, b: t + 1,
    lambda t, b: 5 - t,
    lambda t, b: (t + 1) * (b - 2),
    lambda t, b: 3 * t * b - t * t,
    lambda t, b: (2 * t * b) // t,
    lambda t, b: (t + 1) // 2,
    lambda t, b: t % 3,
    lambda t, b: -(-t // 4),
    lambda t, b: t**2,
    lambda t, b: 1.0 / t,
    lambda t, b: t**-0.5 * (b + 0.5),
    lambda t, b: 2**t,
]


@pytest.mark.parametrize("number", range(len(EXPRESSIONS)))
def test_arithmetic_is_that_of_whole_numbers(number):
    """Ground truth: Python's, for every pair of lengths."""
    f = EXPRESSIONS[number]
    made = f(T, B)
    for t in range(1, 9):
        for b in range(1, 5):
            assert value_at(made, {T_DIM: t, B_DIM: b}) == f(t, b)


def test_equal_sums_are_equal_however_they_were_made():
    """Closed form; a length that is no longer one is a plain number."""
    assert (T + 1) * 2 == 2 * T + 2 and hash((T + 1) * 2) == hash(2 * T + 2)
    assert type(T - T) is int and T - T == 0 and (T + 3) - T == 3
    assert (6 * T * B).exactly(2 * T) == 3 * B and (T + 1).exactly(2) is None


def test_bounds_hold():
    """Ground truth: the values for all lengths."""
    for made in (T * B, 5 - T, T * T - 3 * T, (T + B) // 3):
        values = [made.at({T_DIM: t, B_DIM: b}) for t in range(1, 9) for b in range(1, 5)]
        assert made.low <= min(values) and max(values) <= made.high
    assert bound_of(T * B) == 32 and at_bound((2, T, (T - 1,))) == (2, 8, (7,))


def test_what_is_the_same_for_every_length_is_decided():
    """Closed form."""
    assert T <= 8 and not T > 8 and T >= 1 and T + 8 > T and T != 0 and not T == 9
    assert T == T and T * B == B * T and T - 9 < 0 and T < 8.5


@pytest.mark.parametrize("sign", [operator.lt, operator.le, operator.gt, operator.eq, operator.ne])
def test_what_python_would_have_to_decide_is_refused(sign):
    """Ground truth: the four parts, with the line of the user."""
    with pytest.raises(CompileError, match="decides by a length") as caught:
        sign(T, 5)
    assert "test_lengths.py" in caught.value.got and "T is 1 to 8" in caught.value.rule


@pytest.mark.parametrize("convert", [range, int, float, operator.index, lambda t: [0] * t, round])
def test_a_length_is_no_number_yet(convert):
    """Python cannot count to it: CompileError, or TypeError where it does not ask."""
    with pytest.raises((CompileError, TypeError)):
        convert(T)


def test_ends_are_known_or_refused():
    """Ground truth: all lengths."""
    assert at_most(T, 8, "an end") and not at_most(9, T, "an end") and at_most(0, T - 1, "an end")
    with pytest.raises(CompileError, match="for some lengths"):
        at_most(3, T, "an end")


def test_questions():
    """Closed form."""
    assert is_size(T) and is_size(3) and not is_size(-1) and not is_size(1.0)
    assert is_symbolic(1.0 / T) and not is_symbolic(2) and holds_length((1, [T]))
    assert dims_of(T / (B + 1)) == (T_DIM, B_DIM)
    assert repr(2 * T * B - 1) == "2*B*T - 1" and repr(1.0 / T) == "(1.0 / T)"


@pytest.mark.parametrize(
    "settings", [("T", 0), ("T", 2.5), ("T T", 4), (3, 4), ("T", 4, 5), ("T", 4, -1), ("T", True)]
)
def test_bounds_of_a_dim_are_checked(settings):
    """Ground truth: the four-part error."""
    name, most, *least = settings
    with pytest.raises(SettingError, match="dim: "):
        dim(name, max=most, min=least[0] if least else 1)
