"""Rows of one length."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinytorch.base.errors import SettingError
from tinytorch.text import pad

ROWS = st.lists(st.lists(st.integers(0, 99), max_size=8), max_size=5)


@settings(deadline=None)
@given(ROWS, st.none() | st.integers(1, 10), st.sampled_from(["right", "left"]))
def test_rows_are_filled_and_cut(rows, length, side):
    """Ground truth: the definition with lists: cut, then fill, on the side that is named."""
    ids, mask = pad(rows, length, 100, side)
    T = max(map(len, rows), default=0) if length is None else length
    assert ids.shape == mask.shape == (len(rows), T)
    assert ids.dtype == np.int64 and mask.dtype == bool
    for row, got, real in zip(rows, ids.tolist(), mask.tolist(), strict=True):
        n = min(len(row), T)
        fill = [100] * (T - n)
        kept = row[:n] if side == "right" else row[len(row) - n :]
        assert got == (kept + fill if side == "right" else fill + kept)
        assert real == [x != 100 for x in got]


@pytest.mark.parametrize("wrong", [{"length": 0}, {"length": 1.5}, {"side": "top"}])
def test_settings_outside_their_range(wrong):
    """Ground truth: the documented ranges."""
    with pytest.raises(SettingError, match=next(iter(wrong))):
        pad([[1]], **wrong)
