"""Where the weights of a model lie in another program's file: names, parts, turned matrices.

Knows names, shapes and arrays, never formats. The same table loads and saves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from tinytorch.base.dtypes import DType, from_bfloat16
from tinytorch.base.errors import FileFormatError, short
from tinytorch.nn.module import Module
from tinytorch.tensor.assignment import copy_named

Array = tuple[np.ndarray, DType]  # in storage form, with what it means


@dataclass(frozen=True)
class Piece:
    """One weight.

    Args:
        ours: its name in `state_dict()`.
        theirs: the arrays that make it up, stacked along the first axis.
        rows: how many rows each gives; () for a single array, which gives all.
        transposed: whether a matrix lies there as (inputs, outputs).
    """

    ours: str
    theirs: tuple[str, ...]
    rows: tuple[int, ...] = ()
    transposed: bool = False

    def shapes(self, whole: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The shape of each array there, of a weight of this shape."""
        if self.transposed:
            return [whole[::-1]]
        return [(n, *whole[1:]) for n in self.rows] if self.rows else [whole]


def fill(
    model: Module,
    pieces: Iterable[Piece],
    arrays: Mapping[str, Array],
    where: str,
    spare: str = "",
) -> None:
    """Copy arrays into the weights of a model; everything is checked before anything is changed.

    Args:
        model: what receives them. Two names of one weight need a piece for one of them.
        pieces: where each weight lies.
        arrays: by the file's names.
        where: what messages call the file.
        spare: names that may be there and are not needed, as a pattern.

    Raises:
        FileFormatError: arrays are missing, or unknown, or of another shape than the model's.
    """
    own, wanted = model.state_dict(), list(pieces)
    names = [name for piece in wanted for name in piece.theirs]
    if missing := [name for name in names if name not in arrays]:
        _refuse(f"{where} lacks weights", _listed(missing, len(names)), "all weights of the model")
    needed = set(names)
    unknown = [n for n in arrays if n not in needed and not re.fullmatch(spare, n)]
    if unknown:
        rule = "no weights but those of the model that config and sizes describe"
        _refuse(f"{where} holds weights that the model has no place for", _listed(unknown), rule)
    for piece in wanted:
        shapes = piece.shapes(tuple(own[piece.ours].shape))
        for name, shape in zip(piece.theirs, shapes, strict=True):
            _check(where, name, piece.ours, arrays[name], shape)
    # One weight at a time: what is mapped is in memory once, what is joined for a moment twice.
    for piece in wanted:
        parts = [arrays[name] for name in piece.theirs]
        if piece.transposed:
            value = (np.ascontiguousarray(parts[0][0].T), parts[0][1])
        elif len(parts) == 1:
            value = parts[0]
        elif len({dtype for _, dtype in parts}) == 1:
            value = (np.concatenate([array for array, _ in parts]), parts[0][1])
        else:
            value = np.concatenate([_numbers(part) for part in parts])
        copy_named({piece.ours: own[piece.ours]}, {piece.ours: value}, owner=where)


def _numbers(part: Array) -> np.ndarray:
    array, dtype = part
    return from_bfloat16(array) if dtype.name == "bfloat16" else array.astype(np.float32)


def _check(where: str, name: str, ours: str, array: Array, shape: tuple[int, ...]) -> None:
    values, dtype = array
    if not dtype.is_float:
        rule = "floating-point numbers"
        _refuse(f"{where}: {short(name)} holds no weights", dtype.name, rule)
    if values.shape == shape:
        return
    if ours.endswith("tokens.weight") and values.shape[1:] == shape[1:]:
        got = f"a table of {values.shape[0]} tokens, a vocabulary of {shape[0]}"
        _refuse(f"{where}: the vocabulary does not fit the model", got, "a row for each token")
    rule = f"{shape}, as the sizes of the model say"
    _refuse(f"{where}: {short(name)} has another shape", str(values.shape), rule)


def _listed(names: list[str], of: int = 0) -> str:
    shown = ", ".join(short(name) for name in names[:5])
    more = ", ..." if len(names) > 5 else ""
    return f"{len(names)}" + (f" of {of}" if of else "") + f": {shown}{more}"


def _refuse(what: str, got: str, rule: str) -> NoReturn:
    fix = "fetch or save it again; weights and sizes of one model belong together"
    raise FileFormatError(what, got=got, rule=rule, fix=fix)


def taken_apart(model: Module, pieces: Iterable[Piece]) -> dict[str, Array]:
    """The weights of a model as the arrays of a file, by the file's names.

    Args:
        model: whose weights they are.
        pieces: where each weight lies.

    Returns:
        arrays in storage form with their types: views of the model's memory where they can be.
    """
    own = model.state_dict()
    found: dict[str, Array] = {}
    for piece in pieces:
        tensor = own[piece.ours]
        stored, first = tensor.handle().array, 0
        if piece.transposed:
            stored = stored.T
        for name, n in zip(piece.theirs, piece.rows or (stored.shape[0],), strict=True):
            found[name] = (stored[first : first + n], tensor.dtype)
            first += n
    return found
