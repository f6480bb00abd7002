"""Where the weights of a model lie in another program's file: names, parts, turned matrices.

Knows names, shapes and arrays, never formats. The same table loads and saves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from tinytorch.base.dtypes import DType, from_bfloat16
from tinytorch.base.errors import FileFormatError, SettingError, short
from tinytorch.nn.module import Module
from tinytorch.tensor.assignment import copy_named

# In storage form, with what it means; or what has a shape and becomes an array when it is needed.
Array = tuple[Any, DType]


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
    wanted = list(pieces)
    check(model, wanted, arrays, where, spare)
    copy(model, wanted, arrays, where)


def check_layers(where: str, layers: int, arrays: int) -> None:
    """Refuse a number of layers that the arrays cannot fill, before any of them is made."""
    if layers > arrays:
        got = f"{layers} layers, {arrays} arrays"
        _refuse(f"{where} lacks weights", got, "several arrays for each layer")


def check(
    model: Module, wanted: list[Piece], arrays: Mapping[str, Array], where: str, spare: str
) -> None:
    """Refuse arrays that are not those of the model; see `fill`."""
    own = model.state_dict()
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
            _check_shape(where, name, piece.ours, arrays[name], shape)


def copy(model: Module, wanted: list[Piece], arrays: Mapping[str, Array], where: str) -> None:
    """Copy arrays that were checked, a weight at a time: what is mapped is in memory once, what is
    joined for a moment twice."""
    own = model.state_dict()
    for piece in wanted:
        found = [arrays[name] for name in piece.theirs]
        parts = [(np.asarray(array), dtype) for array, dtype in found]
        if piece.transposed:
            value = (parts[0][0].T, parts[0][1])
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


def _check_shape(where: str, name: str, ours: str, array: Array, shape: tuple[int, ...]) -> None:
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

    Raises:
        SettingError: a weight is none of floats: it was quantized.
    """
    own = model.state_dict()
    found: dict[str, Array] = {}
    for piece in pieces:
        if piece.ours not in own:
            raise SettingError(
                "weights of 8 or 4 bits have no place in this file",
                got=f"{piece.ours} of {type(model).__name__}",
                rule="floats, as the model had before it was quantized",
                fix="save it before compression.quantize, or storage.save what state_dict() holds",
            )
        tensor = own[piece.ours]
        stored, first = tensor.handle().array, 0
        if piece.transposed:
            stored = stored.T
        for name, n in zip(piece.theirs, piece.rows or (stored.shape[0],), strict=True):
            found[name] = (stored[first : first + n], tensor.dtype)
            first += n
    return found


# --- Llama's weights, which several formats name differently ---


def llama_pieces(model: Any, place: Callable[[str, int | None], str]) -> Iterator[Piece]:
    """Where the weights of a GPT in the form of Llama lie in a file that has them in parts.

    Args:
        model: a `GPT` with rotary positions, RMS norms, SwiGLU and no biases.
        place: (part, layer or None) -> the file's name. Parts: tokens, norm and head of the whole;
            norm1, q, k, v, o, norm2, w1 (gate), w2 (down) and w3 (up) of a layer.
    """
    yield Piece("tokens.weight", (place("tokens", None),))
    for i, block in enumerate(model.blocks):
        layer, ours = block.self_attn, f"blocks.{i}"
        shared = layer.kv_heads * layer.head_size
        names = tuple(place(part, i) for part in "qkv")
        yield Piece(f"{ours}.norm1.weight", (place("norm1", i),))
        yield Piece(
            f"{ours}.self_attn.in_proj_weight",
            names,
            (layer.num_heads * layer.head_size, shared, shared),
        )
        yield Piece(f"{ours}.self_attn.out_proj.weight", (place("o", i),))
        yield Piece(f"{ours}.norm2.weight", (place("norm2", i),))
        for n in (1, 2, 3):
            yield Piece(f"{ours}.linear{n}.weight", (place(f"w{n}", i),))
    yield Piece("norm.weight", (place("norm", None),))
    if not model.config.tied:
        yield Piece("head.weight", (place("head", None),))


def halves_of_pairs(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries or keys whose rotary pairs are neighbours, with pairs half a head apart.

    Args:
        rows: (heads D, ...), a copy is made; D even.
        heads: how many heads there are.

    Example:
        >>> halves_of_pairs(np.array([0, 1, 2, 3, 10, 11, 12, 13]), 2).tolist()
        [0, 2, 1, 3, 10, 12, 11, 13]
    """
    pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)
