"""llama2.c's files: seven sizes and all weights of a small Llama in one row.

Knows where each weight lies, and that its rotary pairs are neighbours.

Source: https://github.com/karpathy/llama2.c, run.c, `memory_map_weights`, and export.py,
`legacy_export`.
"""

from __future__ import annotations

import mmap
import os
from typing import NoReturn

import numpy as np

from tinytorch.base import files
from tinytorch.base.dtypes import float32
from tinytorch.base.errors import FileFormatError, SettingError
from tinytorch.models.gpt import GPT, GPTConfig
from tinytorch.models.pieces import Array, fill, halves_of_pairs, llama_pieces
from tinytorch.nn.init import without_draws

HEADER = 28  # bytes: seven int32
NEWER = 0x616B3432  # "ak42": how files of export.py's versions 1 and 2 begin
EPS = 1e-5  # of run.c's rmsnorm; the files do not say


def load_llama2c(path: str | os.PathLike[str]) -> GPT:
    """The model of a file in llama2.c's first format, in evaluation mode.

    Args:
        path: the file, such as `stories260K.bin`.

    Returns:
        a `GPT` as Llama is; float32.

    Raises:
        NotFoundError: there is no such file.
        FileFormatError: its sizes are impossible, do not go together, or are not those of as many
            bytes as there are.

    Cost: the bytes of the file twice: as they lie there, mapped, and as weights.
    """
    with files.reading(path, links=True) as file:
        size = os.fstat(file.fileno()).st_size
        if size < HEADER:
            _refuse(path, "it is too short", f"{size} bytes", f"a header of {HEADER} bytes")
        memory = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    header = [int(n) for n in np.frombuffer(memory, "<i4", 7)]
    if header[0] == NEWER:
        rule = "the first format, which begins with the model's size"
        _refuse(path, "it is of a newer format", f"llama2.c's version {header[1]}", rule)
    config = _config(path, header)
    shapes = _shapes(config)
    wanted = HEADER + 4 * sum(int(np.prod(shape, dtype=object)) for _, shape in shapes)
    if size != wanted:
        _refuse(
            path, "it ends early" if size < wanted else "it is too long", f"{size} bytes",
            f"{wanted} bytes for {dict(zip(NAMES, header, strict=True))}",
        )  # fmt: skip
    arrays, at = {}, HEADER
    for name, shape in shapes:
        array = np.frombuffer(memory, "<f4", int(np.prod(shape)), at).reshape(shape)
        at += array.nbytes
        arrays[name] = array
    with without_draws():
        model = GPT(config)
    fill(model, llama_pieces(model, _place), _layers(config, arrays), str(path))
    model.eval()
    return model


NAMES = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len")


def _config(path: str | os.PathLike[str], header: list[int]) -> GPTConfig:
    size, hidden, layers, heads, shared, vocab, length = header
    tied, vocab = vocab > 0, abs(vocab)  # a negative one says that the head has its own weights
    found = dict(zip(NAMES, header, strict=True))
    if min(size, hidden, layers, heads, shared, vocab, length) < 1 or heads % shared:
        _refuse(path, "its sizes are impossible", found, "seven int32 >= 1, heads shared evenly")
    try:
        config = GPTConfig(
            vocab, layers, heads, size, length, kv_heads=shared, hidden=hidden, positions="rotary",
            norm="rms", norm_eps=EPS, mlp="swiglu", bias=False, tied=tied,
        )  # fmt: skip
    except SettingError as error:
        _refuse(path, "its sizes do not go together", found, error.rule)
    if size // heads % 2:
        _refuse(path, "its sizes do not go together", found, "heads of an even size")
    return config


def _shapes(config: GPTConfig) -> list[tuple[str, tuple[int, ...]]]:
    """The arrays of the file, in order."""
    layers, size, hidden = config.layers, config.size, config.width
    head = size // config.heads
    shared = head * (config.kv_heads or config.heads)
    return [
        ("tokens", (config.vocab, size)), ("norm1", (layers, size)), ("q", (layers, size, size)),
        ("k", (layers, shared, size)), ("v", (layers, shared, size)), ("o", (layers, size, size)),
        ("norm2", (layers, size)), ("w1", (layers, hidden, size)), ("w2", (layers, size, hidden)),
        ("w3", (layers, hidden, size)), ("norm", (size,)),
        # Cosines and sines of rotary positions: computed anew, in more digits.
        ("cosines", (config.length, head // 2)), ("sines", (config.length, head // 2)),
        *([] if config.tied else [("head", (config.vocab, size))]),
    ]  # fmt: skip


def _place(name: str, layer: int | None) -> str:
    return name if layer is None else f"{name}.{layer}"


def _layers(config: GPTConfig, arrays: dict[str, np.ndarray]) -> dict[str, Array]:
    """A name for each layer's part, rotary pairs as halves."""
    found: dict[str, Array] = {}
    for name, array in arrays.items():
        if name in ("cosines", "sines"):
            continue
        if name in ("tokens", "norm", "head"):
            found[name] = array, float32
            continue
        for i in range(config.layers):
            part = array[i]
            if name in ("q", "k"):
                heads = config.heads if name == "q" else config.kv_heads or config.heads
                part = halves_of_pairs(part, heads)
            found[_place(name, i)] = part, float32
    return found


def _refuse(path: object, what: str, got: object, rule: str) -> NoReturn:
    raise FileFormatError(
        f"{path} is not a model of llama2.c: {what}", got=got, rule=rule,
        fix="fetch the file again, or write it with llama2.c's export.py --version 0",
    )  # fmt: skip
