"""Rotary waves that were stretched: closed forms and limits; the peer is in tests/peer."""

import math

import pytest

from tinytorch.base.errors import SettingError
from tinytorch.models import llama3_factors, yarn_factors, yarn_scale


def turns(i, size, base, length):
    """How often the wave of pair i turns within a text."""
    return length / (2 * math.pi * base ** (2 * i / size))


def test_llama3_keeps_short_waves():
    """Closed form: 1 of waves shorter than length / 4, the factor of those longer than length."""
    found = llama3_factors(32, 1000.0, 6.0, 1.0, 4.0, 512)
    for i, factor in enumerate(found):
        times = turns(i, 32, 1000.0, 512)
        assert times < 4 or factor == pytest.approx(1.0)
        assert times > 1 or factor == pytest.approx(6.0)
    assert sorted(found) == list(found) and {1.0, 6.0} < set(map(lambda x: round(x, 6), found))


def test_yarn_keeps_waves_that_turn_often():
    """Closed form: with borders between pairs 1 where a wave turns more than 8 times, the factor
    where it turns less than once; between the two the frequency is a mean of both, and pair by pair
    a step of the same size."""
    found = yarn_factors(64, 1000.0, 6.0, 8.0, 1.0, 512, whole_pairs=False)
    between = []
    for i, factor in enumerate(found):
        times = turns(i, 64, 1000.0, 512)
        if times > 8 or times < 1:
            assert factor == pytest.approx(1.0 if times > 8 else 6.0)
        else:
            between.append((1 / factor - 1 / 6) / (1 - 1 / 6))
    steps = [a - b for a, b in zip(between, between[1:], strict=False)]
    assert len(steps) > 5 and steps == pytest.approx([steps[0]] * len(steps))
    assert yarn_factors(64, factor=1.0) == pytest.approx([1.0] * 32)


def test_borders_of_whole_pairs_lie_outside():
    """Invariant: rounding outwards, no pair between the borders becomes one beyond them; borders
    that fall together part the pairs in two."""
    exact, rounded = (yarn_factors(64, whole_pairs=flag) for flag in (False, True))
    assert all(1.0 < b < 4.0 for a, b in zip(exact, rounded, strict=True) if 1.0 < a < 4.0)
    assert set(yarn_factors(64, fast=2.0, slow=2.0, whole_pairs=False)) == {1.0, 4.0}


def test_scales_and_settings():
    """Closed form: a tenth of the logarithm; settings outside their range are named."""
    assert yarn_scale(math.e) == pytest.approx(1.1) and yarn_scale(math.e, 2.0) == pytest.approx(
        1.2
    )
    assert yarn_scale(1.0) == yarn_scale(0.3) == 1.0
    for name in ("factor", "fast", "slow", "length"):
        with pytest.raises(SettingError, match=f"{name} is outside its range"):
            yarn_factors(8, **{name: 0.0})
    with pytest.raises(SettingError, match="base is outside its range"):
        yarn_factors(8, base=1.0)
