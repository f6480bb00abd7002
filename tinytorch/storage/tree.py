"""Nested state as JSON and arrays: dictionaries, lists, numbers, text, arrays; nothing else.

Knows values, never files. What comes back is equal to what went in, types included, and reading
can run no code: unlike a pickle, a tree only says what values it holds.

An array's place is taken by {"$array": name} (a TypedArray's by "$typed"), and its numbers stand
beside the JSON under that name. Values that JSON lacks are marked the same way: {"$tuple": [...]},
{"$float": "nan"}, {"$bytes": hexadecimal}, {"$scalar": name}; an object with a key that begins with
"$" is wrapped as {"$dict": ...}.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinytorch.base.dtypes import OF_NUMPY, DType
from tinytorch.base.errors import DTypeError, FileFormatError, short

DEEPEST = 100  # levels of nesting; Python's JSON reader ends at about ten times that
LONGEST_INT = 8192  # bits; Python reads whole numbers of up to 4300 digits, 14 thousand bits
_KINDS = "biufcUS"  # NumPy's kinds without objects: bits that mean the same everywhere
_KIND = re.compile(rf"[<>|][{_KINDS}][0-9]{{1,9}}")  # as NumPy spells them in `dtype.str`


@dataclass(frozen=True, eq=False)
class TypedArray:
    """An array in storage form with its type, which NumPy's own type does not always tell.

    Args:
        array: the numbers; bfloat16 as its bits.
        dtype: what they are.
    """

    array: np.ndarray
    dtype: DType


Pairs = dict[str, tuple[np.ndarray, DType]]


def encode(tree: Any) -> tuple[Any, Pairs]:
    """A nested value as a JSON value, and the arrays that stood in it by name.

    Args:
        tree: dictionaries with text keys, lists, tuples, None, bool, int, float, str, bytes, NumPy
            arrays and scalars, TypedArrays.

    Returns:
        a JSON value; (array in storage form, DType) by path, for example "optimizer/step".

    Raises:
        DTypeError: anything else; the message names its path.

    Example:
        >>> json_value, arrays = encode({"step": 3, "average": np.zeros(2, np.float32)})
        >>> json_value, list(arrays)
        ({'step': 3, 'average': {'$array': 'average'}}, ['average'])
        >>> decode(json_value, arrays)
        {'step': 3, 'average': array([0., 0.], dtype=float32)}
    """
    arrays: Pairs = {}
    return _encode(tree, (), arrays), arrays


def _encode(x: Any, path: tuple[str, ...], arrays: Pairs) -> Any:
    if len(path) > DEEPEST:
        raise _unsaveable(path, "a value that is nested too deeply or holds itself")
    if x is None or type(x) in (bool, str) or (type(x) is int and x.bit_length() <= LONGEST_INT):
        return x
    if type(x) is float:
        return x if math.isfinite(x) else {"$float": repr(x)}
    if type(x) is bytes:
        return {"$bytes": x.hex()}
    if isinstance(x, Mapping):
        return _encode_mapping(x, path, arrays)
    if type(x) is list or type(x) is tuple:
        items = [_encode(item, (*path, str(i)), arrays) for i, item in enumerate(x)]
        return items if type(x) is list else {"$tuple": items}
    if isinstance(x, TypedArray):
        return {"$typed": _keep(path, x.array, x.dtype, arrays)}
    if isinstance(x, (np.ndarray, np.generic)) and x.dtype.kind in _KINDS:
        kind = "$array" if isinstance(x, np.ndarray) else "$scalar"
        return _encode_array(kind, np.asarray(x), path, arrays)
    raise _unsaveable(path, f"a {type(x).__name__}")


def _encode_mapping(x: Mapping, path: tuple[str, ...], arrays: Pairs) -> Any:
    for key in x:
        if type(key) is not str:
            raise _unsaveable(path, f"the key {key!r}, a {type(key).__name__}")
    table = {key: _encode(value, (*path, key), arrays) for key, value in x.items()}
    return {"$dict": table} if any(key.startswith("$") for key in x) else table


def _encode_array(kind: str, x: np.ndarray, path: tuple[str, ...], arrays: Pairs) -> Any:
    plain = x.dtype.newbyteorder("=")
    if plain in OF_NUMPY:
        return {kind: _keep(path, x, OF_NUMPY[plain], arrays)}
    # A type that TinyTorch lacks (uint64 of a random state, text) is kept as its bytes.
    little = np.ascontiguousarray(x, x.dtype.newbyteorder("<"))
    raw = np.frombuffer(little.tobytes(), np.uint8)
    name = _keep(path, raw, OF_NUMPY[raw.dtype], arrays)
    return {kind: name, "dtype": little.dtype.str, "shape": list(x.shape)}


def _keep(path: tuple[str, ...], array: np.ndarray, dtype: DType, arrays: Pairs) -> str:
    name = "/".join(path) or "value"
    # "__metadata__" is not free in safetensors; a key with "/" in it may look like two keys.
    while name in arrays or name == "__metadata__":
        name += "'"
    arrays[name] = (array, dtype)
    return name


def _unsaveable(path: tuple[str, ...], got: str) -> DTypeError:
    return DTypeError(
        f"the state at {'/'.join(path[:8]) or 'its top'} cannot be saved",
        got=got,
        rule="None, bool, int, float, str, bytes, arrays, Tensors, and lists, tuples and "
        "dictionaries (with text keys) of them",
        fix="give the object a state_dict() of such values",
    )


def decode(value: Any, arrays: Mapping[str, tuple[np.ndarray, DType]]) -> Any:
    """The nested value that `encode` was given.

    Args:
        value: a JSON value.
        arrays: (array in storage form, DType) by name.

    Returns:
        the value; arrays are copies that can be written to.

    Raises:
        FileFormatError: a mark that does not exist, an array that is not there or is named twice,
            or more nesting than `encode` writes.
    """
    return _Reader(arrays).value(value, 0)


class _Reader:
    """Goes once through a JSON value; every array is handed out once.

    Args:
        arrays: (array in storage form, DType) by name.
    """

    def __init__(self, arrays: Mapping[str, tuple[np.ndarray, DType]]):
        self._arrays, self._used = arrays, set()

    def value(self, value: Any, depth: int) -> Any:
        """The value at this depth of nesting."""
        if depth > DEEPEST:
            raise _unreadable(value, f"at most {DEEPEST} levels of nesting")
        if isinstance(value, list):
            return [self.value(item, depth + 1) for item in value]
        if not isinstance(value, dict):
            return value
        mark = next(iter(value), "")
        if not mark.startswith("$"):
            return {key: self.value(item, depth + 1) for key, item in value.items()}
        if mark not in _MARKS or value.keys() not in ({mark}, {mark, *_RAW.get(mark, ())}):
            raise _unreadable(value, "one of " + ", ".join(_MARKS))
        try:
            return _MARKS[mark](self, value, depth + 1)
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            if isinstance(error, FileFormatError):
                raise
            raise _unreadable(value, f"{type(error).__name__}: {short(str(error))}") from None

    def read_float(self, value: dict, depth: int) -> float:
        """A float that JSON lacks."""
        return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[value["$float"]]

    def read_tuple(self, value: dict, depth: int) -> tuple:
        """A tuple."""
        if not isinstance(value["$tuple"], list):
            raise TypeError("not a list")
        return tuple(self.value(item, depth) for item in value["$tuple"])

    def read_dictionary(self, value: dict, depth: int) -> dict:
        """A dictionary with a key that looks like a mark."""
        return {key: self.value(item, depth) for key, item in value["$dict"].items()}

    def read_bytes(self, value: dict, depth: int) -> bytes:
        """Bytes."""
        return bytes.fromhex(value["$bytes"])

    def _take(self, name: Any) -> tuple[np.ndarray, DType]:
        """The array of that name. What `encode` wrote names each once: a file that names one a
        million times would fill the memory with copies."""
        if not isinstance(name, str) or name in self._used:
            raise ValueError("an array that is named twice")
        self._used.add(name)
        return self._arrays[name]

    def read_typed(self, value: dict, depth: int) -> TypedArray:
        """An array with the type that it has in its file, and no other."""
        array, dtype = self._take(value["$typed"])
        return TypedArray(array.copy(), dtype)

    def read_array(self, value: dict, depth: int) -> np.ndarray:
        """A NumPy array."""
        return self._numpy(value, "$array").copy()

    def read_scalar(self, value: dict, depth: int) -> Any:
        """A NumPy scalar."""
        return self._numpy(value, "$scalar")[()]

    def _numpy(self, value: dict, mark: str) -> np.ndarray:
        array, _ = self._take(value[mark])
        if "dtype" not in value:
            return array
        kind, shape = value["dtype"], value["shape"]
        if not isinstance(kind, str) or not _KIND.fullmatch(kind):
            raise TypeError(f"{short(kind)} is not a plain type")
        if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
            raise TypeError("a shape that is no list of whole numbers >= 0")
        return np.frombuffer(array.tobytes(), np.dtype(kind)).reshape(shape)


_RAW = {"$array": ("dtype", "shape"), "$scalar": ("dtype", "shape")}  # kept as bytes
_MARKS: dict[str, Callable[[_Reader, dict, int], Any]] = {
    "$array": _Reader.read_array,
    "$scalar": _Reader.read_scalar,
    "$typed": _Reader.read_typed,
    "$tuple": _Reader.read_tuple,
    "$dict": _Reader.read_dictionary,
    "$float": _Reader.read_float,
    "$bytes": _Reader.read_bytes,
}


def _unreadable(value: Any, rule: str) -> FileFormatError:
    return FileFormatError(
        "the saved state has a value that cannot be read",
        got=short(value),
        rule=rule,
        fix="use an older checkpoint; this one is damaged",
    )
