"""Models of GGUF files: Llama and GPT-2 as llama.cpp has them.

Knows which facts and arrays of such a file are which settings and weights of a `GPT`; rotary pairs
of Llama are neighbours there.

Source: https://github.com/ggml-org/llama.cpp, gguf-py/gguf/constants.py (names) and
convert_hf_to_gguf.py (rows of queries and keys in pairs, matrices of GPT-2 turned).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np

from tinytorch.base.arguments import flag
from tinytorch.base.dtypes import DType, as_dtype, float32
from tinytorch.base.errors import FileFormatError, SettingError, short
from tinytorch.models.gpt import GPT, GPTConfig
from tinytorch.models.pieces import Piece, check, check_layers, copy, halves_of_pairs, llama_pieces
from tinytorch.nn.init import without_draws
from tinytorch.nn.quantized import QuantizedWeight
from tinytorch.storage import gguf

ARCHITECTURE = "general.architecture"
SPARE = r"blk\.\d+\.attn\.(bias|masked_bias)|rope_freqs\.weight"


class Facts:
    """The metadata of one architecture.

    Args:
        file: as read.
        where: what messages call the file.
    """

    def __init__(self, file: gguf.GGUFFile, where: str):
        self.file, self.where = file, where
        self.kind = file.metadata.get(ARCHITECTURE)

    def refuse(self, name: str, rule: str) -> NoReturn:
        """Raise the error of a fact that cannot be used."""
        raise FileFormatError(
            f"{self.where}: {name} cannot be used",
            got=f"{name} = {short(self.file.metadata.get(name))}",
            rule=rule,
            fix="another model, or the same one converted again",
        )

    def whole(self, name: str, default: int | None = None) -> int:
        """A whole number of at least 1; a list of numbers, one a layer, if all are the same."""
        name = f"{self.kind}.{name}"
        value = self.file.metadata.get(name, default)
        if isinstance(value, np.ndarray) and value.size and (value == value[0]).all():
            value = value[0].item()
        if type(value) is not int or not 1 <= value < 2**31:
            self.refuse(name, "a whole number >= 1")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number > 0."""
        name = f"{self.kind}.{name}"
        value = self.file.metadata.get(name, default)
        if type(value) is not float or not 0 < value < float("inf"):
            self.refuse(name, "a number > 0")
        # Written as float32: 1e-5 reads 9.999999747378752e-06, and is meant to be 1e-5.
        return float(str(np.float32(value)))

    def must_be(self, name: str, only: Any) -> None:
        """A fact of which one value is supported; missing, it has that value."""
        name = f"{self.kind}.{name}"
        value = self.file.metadata.get(name, only)
        if type(value) is not type(only) or value != only:
            self.refuse(name, f"{only!r}: nothing else is supported")

    def vocabulary(self) -> int:
        """Rows of the table of tokens; what the facts and the tokenizer say must agree."""
        table = self.file.arrays.get("token_embd.weight")
        if table is None or len(table.shape) != 2:
            rule = "token_embd.weight, a row for each token"
            raise FileFormatError(
                f"{self.where} lacks weights", got="no table of tokens", rule=rule,
                fix="fetch or convert the file again",
            )  # fmt: skip
        tokens = self.file.metadata.get("tokenizer.ggml.tokens")
        said = self.file.metadata.get(f"{self.kind}.vocab_size", table.shape[0])
        if said != table.shape[0] or (tokens is not None and len(tokens) != table.shape[0]):
            count = "no tokens" if tokens is None else f"{len(tokens)} tokens"
            raise FileFormatError(
                f"{self.where}: the vocabulary does not fit the model",
                got=f"a table of {table.shape[0]} tokens, vocab_size {said}, {count} named",
                rule="a row for each token",
                fix="fetch or convert the file again",
            )
        return table.shape[0]


def load_gguf(
    path: str | os.PathLike[str], dtype: str | DType = "float32", quantized: bool = True
) -> GPT:
    """The model of a GGUF file, in evaluation mode.

    Args:
        path: a file of architecture llama or gpt2, with arrays in F32, F16, BF16, Q8_0, Q4_0 or
            Q6_K. What its tokenizer needs: `storage.read_gguf(path).metadata`.
        dtype: of the weights in memory that are floats; default float32.
        quantized: whether weights in blocks of 8 or 4 bits stay that, as `nn.QuantizedWeight` in
            groups of 32 holds them; False: they become floats. Default True.

    Raises:
        NotFoundError: there is no such file.
        FileFormatError: it is damaged or hostile; the architecture, a setting of it, or the form of
            an array is none of ours; weights are missing, unknown, or of other sizes.

    Cost: the bytes of the file once, and the weights in memory; one array at a time is turned into
    numbers.

    Differs from llama.cpp: with weights of 8 or 4 bits activations are rounded to int8 with one
    scale for each token, there one for each 32 numbers.
    """
    flag("load_gguf", "quantized", quantized)
    where, file = os.fspath(path), gguf.read(path)
    facts = Facts(file, where)
    if facts.kind not in ("llama", "gpt2"):
        raise FileFormatError(
            f"{where} is of an architecture that TinyTorch does not have",
            got=f"{ARCHITECTURE} = {short(facts.kind)}",
            rule="'llama' or 'gpt2'",
            fix="a model of one of these architectures",
        )
    llama = facts.kind == "llama"
    check_layers(where, facts.whole("block_count"), len(file.arrays))
    try:
        with without_draws():
            model = GPT(_llama(facts) if llama else _gpt2(facts))
            model.to(as_dtype(dtype))
    except SettingError as error:
        raise FileFormatError(
            f"{where}: its sizes do not go together", got=f"{error.what}: {error.got}",
            rule=error.rule, fix="fetch or convert the file again",
        ) from None  # fmt: skip
    pieces = list(llama_pieces(model, _llama_name) if llama else _gpt2_pieces(model))
    stored = dict(_arrays(file, model)) if llama else file.arrays
    arrays = {name: (array, float32) for name, array in stored.items()}
    check(model, pieces, arrays, where, SPARE)
    if quantized:
        pieces = [piece for piece in pieces if not _kept_in_blocks(model, piece, stored)]
    copy(model, pieces, arrays, where)
    model.eval()
    return model


def _kept_in_blocks(model: GPT, piece: Piece, stored: dict[str, gguf.StoredArray]) -> bool:
    """Put blocks of 8 or 4 bits where the weight was; whether they are of one such kind."""
    parts = [stored[name] for name in piece.theirs]
    names = {part.kind.name for part in parts}
    if len(names) > 1 or not names <= set(_BITS):
        return False
    kind = _BITS[names.pop()]
    found = [part.packed() for part in parts]
    scales = np.concatenate([scale for scale, _ in found])
    numbers = np.concatenate([codes for _, codes in found])
    path, _, name = piece.ours.rpartition(".")
    layer = model.get_submodule(path)
    shape = tuple(getattr(layer, name).shape)
    weight = QuantizedWeight.packed(numbers, scales, shape, kind, gguf.GROUP)
    setattr(layer, name, weight)
    if model.config.tied and layer is model.tokens:
        model.head.weight = weight  # type: ignore[assignment]
    return True


_BITS = {"Q8_0": "int8", "Q4_0": "int4"}


def _llama(facts: Facts) -> GPTConfig:
    size, heads = facts.whole("embedding_length"), facts.whole("attention.head_count")
    if size % heads == 0:
        for name in ("rope.dimension_count", "attention.key_length", "attention.value_length"):
            facts.must_be(name, size // heads)
    facts.must_be("rope.scaling.type", "none")
    return GPTConfig(
        facts.vocabulary(), facts.whole("block_count"), heads, size, facts.whole("context_length"),
        kv_heads=facts.whole("attention.head_count_kv", heads),
        hidden=facts.whole("feed_forward_length"), positions="rotary",
        rotary_base=facts.number("rope.freq_base", 10000.0), norm="rms",
        norm_eps=facts.number("attention.layer_norm_rms_epsilon"), mlp="swiglu", bias=False,
        tied="output.weight" not in facts.file.arrays,
        rotary_factors=_factors(facts, size // heads // 2),
    )  # fmt: skip


def _factors(facts: Facts, pairs: int) -> tuple[float, ...] | None:
    """How much longer the rotary waves are; no array: as they are."""
    array = facts.file.arrays.get("rope_freqs.weight")
    if array is None:
        return None
    found = array.numbers()
    if found.shape != (pairs,) or not ((found > 0) & np.isfinite(found)).all():
        facts.refuse("rope_freqs.weight", f"{pairs} numbers > 0, one for each rotary pair")
    return tuple(found.tolist())


def _gpt2(facts: Facts) -> GPTConfig:
    return GPTConfig(
        facts.vocabulary(), facts.whole("block_count"), facts.whole("attention.head_count"),
        facts.whole("embedding_length"), facts.whole("context_length"),
        hidden=facts.whole("feed_forward_length"),
        norm_eps=facts.number("attention.layer_norm_epsilon"), mlp="gelu_tanh",
        tied="output.weight" not in facts.file.arrays,
    )  # fmt: skip


_LLAMA_NAMES = {
    "tokens": "token_embd", "norm": "output_norm", "head": "output", "norm1": "attn_norm",
    "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "norm2": "ffn_norm",
    "w1": "ffn_gate", "w2": "ffn_down", "w3": "ffn_up",
}  # fmt: skip


def _llama_name(part: str, layer: int | None) -> str:
    name = f"{_LLAMA_NAMES[part]}.weight"
    return name if layer is None else f"blk.{layer}.{name}"


def _arrays(file: gguf.GGUFFile, model: GPT) -> Iterator[tuple[str, gguf.StoredArray]]:
    """The arrays, rotary pairs as halves; an array of another shape is left to be refused."""
    config = model.config
    heads = {"q": config.heads, "k": config.kv_heads or config.heads}
    turned = {_llama_name(part, i): heads[part] for part in "qk" for i in range(config.layers)}
    for name, array in file.arrays.items():
        n = turned.get(name, 0)
        if n and len(array.shape) == 2 and array.shape[0] % (2 * n) == 0:
            array = array.reordered(lambda rows, n=n: halves_of_pairs(rows, n))
        yield name, array


def _gpt2_pieces(model: GPT) -> Iterator[Piece]:
    yield Piece("tokens.weight", ("token_embd.weight",))
    yield Piece("positions.weight", ("position_embd.weight",))
    parts = {
        "norm1": "attn_norm", "self_attn.out_proj": "attn_output", "norm2": "ffn_norm",
        "linear1": "ffn_up", "linear2": "ffn_down",
    }  # fmt: skip
    for i in range(model.config.layers):
        for kind in ("weight", "bias"):
            yield Piece(f"blocks.{i}.self_attn.in_proj_{kind}", (f"blk.{i}.attn_qkv.{kind}",))
            for ours, theirs in parts.items():
                yield Piece(f"blocks.{i}.{ours}.{kind}", (f"blk.{i}.{theirs}.{kind}",))
    for kind in ("weight", "bias"):
        yield Piece(f"norm.{kind}", (f"output_norm.{kind}",))
    if not model.config.tied:
        yield Piece("head.weight", ("output.weight",))
