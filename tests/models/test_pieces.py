"""pieces.py: parts of weights, by hand. The tables that use it: test_hugging_face.py."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.dtypes import bfloat16, float16, float32
from tinytorch.base.errors import FileFormatError
from tinytorch.models.pieces import Piece, fill, taken_apart

PIECES = [
    Piece("weight", ("top", "bottom"), rows=(1, 2)),
    Piece("bias", ("shift",)),
]


def test_rows_and_turned_matrices_both_ways():
    """Closed form: rows stacked in order; a matrix turned around twice is itself."""
    layer = tt.nn.Linear(2, 3)
    numbers = np.arange(6, dtype=np.float32).reshape(3, 2)
    arrays = {
        "top": (numbers[:1], float32), "bottom": (numbers[1:], float32),
        "shift": (np.ones(3, np.float32), float32),
    }  # fmt: skip
    fill(layer, PIECES, arrays, "a file")
    assert np.array_equal(layer.weight.detach().numpy(), numbers)
    back = taken_apart(layer, PIECES)
    assert list(back) == ["top", "bottom", "shift"]
    assert all(np.array_equal(back[n][0], arrays[n][0]) for n in back)
    turned = [Piece("weight", ("w",), transposed=True)]
    fill(layer, turned, {"w": (numbers.T.copy() + 1, float32)}, "a file")
    assert np.array_equal(layer.weight.detach().numpy(), numbers + 1)
    assert np.array_equal(taken_apart(layer, turned)["w"][0], numbers.T + 1)


def test_parts_of_different_types_are_joined_in_float32():
    """Closed form: 1.5 is exact in all of them."""
    layer = tt.nn.Linear(2, 3, bias=False)
    half = np.full((1, 2), 1.5, np.float16), float16
    brain = np.full((2, 2), 0x3FC0, np.uint16), bfloat16
    fill(layer, PIECES[:1], {"top": half, "bottom": brain}, "a file")
    assert (layer.weight.detach().numpy() == 1.5).all()


def test_nothing_changes_when_something_is_wrong():
    """Invariant: all weights or none."""
    layer = tt.nn.Linear(2, 3)
    before = layer.weight.detach().numpy().copy()
    arrays = {
        n: (np.zeros(s, np.float32), float32) for n, s in (("top", (1, 2)), ("bottom", (2, 2)))
    }
    with pytest.raises(FileFormatError, match=r"a file lacks weights[\s\S]*1 of 3: 'shift'"):
        fill(layer, PIECES, arrays, "a file")
    arrays["shift"] = np.zeros(4, np.float32), float32
    with pytest.raises(FileFormatError, match=r"'shift' has another shape"):
        fill(layer, PIECES, arrays, "a file")
    arrays["shift"] = np.zeros(3, np.float32), float32
    arrays["spare"] = arrays["more"] = arrays["shift"]
    with pytest.raises(FileFormatError, match=r"no place for[\s\S]*got:  1: 'more'"):
        fill(layer, PIECES, arrays, "a file", spare="spare")
    assert np.array_equal(layer.weight.detach().numpy(), before)
