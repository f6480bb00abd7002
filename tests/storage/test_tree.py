"""Nested state: what goes in comes back, types included; anything else is refused by its path."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinytorch.base.dtypes import bfloat16, float32
from tinytorch.base.errors import DTypeError, FileFormatError
from tinytorch.storage import tree
from tinytorch.storage.tree import TypedArray


def same(a, b) -> bool:
    """Equal in value and type, NaN with NaN, -0.0 apart from 0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, TypedArray):
        return a.dtype is b.dtype and same(a.array, b.array)
    if isinstance(a, (np.ndarray, np.generic)):
        little = a.dtype.newbyteorder("<")
        return (a.shape, little) == (b.shape, b.dtype.newbyteorder("<")) and (
            np.asarray(a, little).tobytes() == np.asarray(b, little).tobytes()
        )
    if isinstance(a, float):
        return repr(a) == repr(b)
    return a == b


def through(value):
    """Encoded, written as JSON text, and decoded."""
    encoded, arrays = tree.encode(value)
    return tree.decode(json.loads(json.dumps(encoded, allow_nan=False)), arrays)


def test_every_kind_of_value_comes_back():
    """Ground truth: the value itself."""
    value = {
        "none": None, "yes": True, "whole": -(10**40), "real": 0.1, "minus zero": -0.0,
        "nan": math.nan, "infinite": [math.inf, -math.inf], "text": 'é\n"\ud800',
        "bytes": b"\0\xff",
        "pair": (1, (2.5,), []), "empty": {}, "": {"": 0}, "$dollar": {"$array": "no array"},
        "scalar": np.float32(1 / 3), "number": np.array(7, np.int8),
        "words": np.array(["a", "long"]), "state": np.array([2**64 - 1], np.uint64),
        "big endian": np.arange(6, dtype=">u2").reshape(2, 3), "complex": np.array([1j]),
        "view": np.arange(12.0).reshape(3, 4).T[::-1], "none of it": np.zeros((0, 3), np.uint64),
        "typed": TypedArray(np.array([16256], np.uint16), bfloat16),
    }  # fmt: skip
    assert same(through(value), value)


def test_equal_paths_are_kept_apart():
    """Ground truth: three arrays whose paths read the same, and the name safetensors reserves."""
    value = {"a": {"b": np.array(1)}, "a/b": np.array(2), "a/b'": np.array(3)}
    value["__metadata__"] = np.array(4)
    encoded, arrays = tree.encode(value)
    assert len(arrays) == 4 and "__metadata__" not in arrays
    assert same(tree.decode(encoded, arrays), value)


def test_arrays_are_copies():
    """Ground truth: writing into what was read leaves the source alone."""
    encoded, arrays = tree.encode({"x": np.zeros(2), "t": TypedArray(np.zeros(2), float32)})
    read = tree.decode(encoded, arrays)
    read["x"][:] = 1
    read["t"].array[:] = 1
    assert not arrays["x"][0].any() and not arrays["t"][0].any()


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(max_size=8),
    hnp.arrays(
        st.sampled_from([np.float32, np.int64, np.uint16, "<U3"]), hnp.array_shapes(min_side=0)
    ),
)  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.sampled_from("a$/'é"), max_size=3), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(TREES)
def test_any_value_comes_back(value):
    """Ground truth: the value itself, for trees made at random."""
    assert same(through(value), value)


class Thing:
    pass


def test_what_is_no_value_is_named_by_its_path():
    """Ground truth: the path written by hand; nothing is turned into text in silence."""
    own: list = []
    own.append(own)
    for value, path in [
        ({"a": [0, {"b": Thing()}]}, "a/1/b"),
        ({"f": len}, "f"),
        ({"a": {1: 2}}, "a"),
        ({"o": np.array([Thing()], object)}, "o"),
        ({"s": {1, 2}}, "s"),
        ({"record": np.zeros(1, [("x", "i4")])}, "record"),
        ({"long": 1 << 10_000}, "long"),
        (Thing(), "its top"),
        (own, "0/0"),
    ]:
        with pytest.raises(DTypeError, match=f"state at {path}.* cannot be saved"):
            tree.encode(value)


@pytest.mark.parametrize(
    "value",
    [
        {"$unknown": 1},
        {"$array": "missing"},
        {"$array": ["x"]},
        {"$array": "x", "more": 1},
        {"$array": "x", "dtype": "O", "shape": [1]},
        {"$array": "x", "dtype": "no type", "shape": [1]},
        {"$array": "x", "dtype": "<f8", "shape": [3]},
        {"$array": "x", "dtype": "<f8"},
        {"$array": "x", "dtype": "i4,i4", "shape": [1]},
        {"$float": "1.5"},
        {"$float": []},
        {"$tuple": "ab"},
        {"$dict": [1]},
        {"$bytes": "0"},
        {"$bytes": 1},
    ],
)
def test_marks_that_make_no_sense(value):
    """Ground truth: the marks of the module's page; nothing else is raised."""
    arrays = {"x": (np.zeros(8, np.uint8), float32)}
    with pytest.raises(FileFormatError, match="cannot be read"):
        tree.decode([value], arrays)


def test_nesting_without_end_is_refused():
    """Ground truth: deeper than Python's stack."""
    value: list = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(FileFormatError, match="cannot be read"):
        tree.decode(value, {})
    while value:  # freed level by level: Python's own way to free it recurses
        value = value.pop()


@pytest.mark.parametrize(
    "shape", [[-1], [2, -2], [True, 4], [2.0, 2], ["4"], "4", {"4": 1}, None, 4]
)
def test_a_shape_is_a_list_of_whole_numbers(shape):
    """Ground truth: what `encode` writes; NumPy would work a -1 out."""
    value, arrays = tree.encode(np.arange(4, dtype=np.uint64))
    assert value["shape"] == [4]
    with pytest.raises(FileFormatError, match="cannot be read"):
        tree.decode({**value, "shape": shape}, arrays)


def test_arrays_with_types_are_compared_by_identity():
    """Invariant: two arrays have no single answer to ==, so equal ones are not asked for it."""
    array = np.zeros(2, np.float32)
    one, other = TypedArray(array, float32), TypedArray(array, float32)
    assert one == one and one != other and len({one, other}) == 2


def test_every_level_counts_once():
    """Closed form: what can be written can be read, to the deepest tuple."""
    deep: object = 1
    for _ in range(tree.DEEPEST):
        deep = (deep,)
    value, arrays = tree.encode(deep)
    assert tree.decode(value, dict(arrays)) == deep
