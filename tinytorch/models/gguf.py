"""Models of GGUF files: Llama and GPT-2 as llama.cpp has them.

Knows which facts and arrays of such a file are which settings and weights of a `GPT`; rotary pairs
of Llama are neighbours there.

Source: https://github.com/ggml-org/llama.cpp, gguf-py/gguf/constants.py (names) and
convert_hf_to_gguf.py (rows of queries and keys in pairs, matrices of GPT-2 turned).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinytorch.base.arguments import flag
from tinytorch.base.dtypes import DType, as_dtype, float32
from tinytorch.base.errors import FileFormatError, SettingError, short
from tinytorch.models.fields import Fields
from tinytorch.models.gpt import GPT, GPTConfig
from tinytorch.models.pieces import Piece, check, check_layers, copy, halves_of_pairs, llama_pieces
from tinytorch.models.rotary import yarn_factors, yarn_scale
from tinytorch.nn.init import without_draws
from tinytorch.nn.quantized import QuantizedWeight
from tinytorch.storage import gguf

ARCHITECTURE = "general.architecture"
SPARE = r"blk\.\d+\.attn\.(bias|masked_bias)|rope_freqs\.weight"


def _fields(file: gguf.GGUFFile, where: str) -> Fields:
    """The facts of the file's architecture as plain values."""
    kind = f"{file.metadata.get(ARCHITECTURE)}."
    found = {name: _plain(x) for name, x in file.metadata.items() if name.startswith(kind)}
    return Fields(found, where, kind)


def _plain(value: Any) -> Any:
    """A list of numbers, one a layer, is one number if all are the same."""
    if isinstance(value, np.ndarray) and value.size and (value == value[0]).all():
        value = value[0].item()
    # Written as float32: 1e-5 reads 9.999999747378752e-06, and is meant to be 1e-5.
    return float(str(np.float32(value))) if type(value) is float else value


def _vocabulary(fields: Fields, file: gguf.GGUFFile) -> int:
    """Rows of the table of tokens; what the facts and the tokenizer say must agree."""
    table = file.arrays.get("token_embd.weight")
    if table is None or len(table.shape) != 2:
        rule = "token_embd.weight, a row for each token"
        raise FileFormatError(
            f"{fields.where} lacks weights", got="no table of tokens", rule=rule,
            fix="fetch or convert the file again",
        )  # fmt: skip
    tokens = file.metadata.get("tokenizer.ggml.tokens")
    said = fields.value("vocab_size", table.shape[0])
    if said != table.shape[0] or (tokens is not None and len(tokens) != table.shape[0]):
        count = "no tokens" if tokens is None else f"{len(tokens)} tokens"
        raise FileFormatError(
            f"{fields.where}: the vocabulary does not fit the model",
            got=f"a table of {table.shape[0]} tokens, vocab_size {said}, {count} named",
            rule="a row for each token",
            fix="fetch or convert the file again",
        )
    return table.shape[0]


def load_gguf(
    path: str | os.PathLike[str] | gguf.GGUFFile,
    dtype: str | DType = "float32",
    quantized: bool = True,
) -> GPT:
    """The model of a GGUF file, in evaluation mode.

    Args:
        path: a file of architecture llama or gpt2, with arrays in F32, F16, BF16, Q8_0, Q4_0 or
            Q6_K; or what `storage.read_gguf` read of it, which has what its tokenizer needs too.
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
    file = path if isinstance(path, gguf.GGUFFile) else gguf.read(path)
    where, kind = file.path, file.metadata.get(ARCHITECTURE)
    if kind not in ("llama", "gpt2"):
        raise FileFormatError(
            f"{where} is of an architecture that TinyTorch does not have",
            got=f"{ARCHITECTURE} = {short(kind)}",
            rule="'llama' or 'gpt2'",
            fix="a model of one of these architectures",
        )
    llama, facts = kind == "llama", _fields(file, where)
    check_layers(where, facts.whole("block_count"), len(file.arrays))
    try:
        with without_draws():
            model = GPT(_llama(facts, file) if llama else _gpt2(facts, file))
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


def _llama(facts: Fields, file: gguf.GGUFFile) -> GPTConfig:
    size, heads = facts.whole("embedding_length"), facts.whole("attention.head_count")
    if size % heads == 0:
        for name in ("rope.dimension_count", "attention.key_length", "attention.value_length"):
            facts.must_be(name, size // heads)
    base = facts.positive("rope.freq_base", 10000.0)
    factors, scale = _stretched(facts, file, size // heads, base)
    return GPTConfig(
        _vocabulary(facts, file), facts.whole("block_count"), heads, size,
        facts.whole("context_length"),
        kv_heads=facts.whole("attention.head_count_kv", heads),
        hidden=facts.whole("feed_forward_length"), positions="rotary",
        rotary_base=base, norm="rms",
        norm_eps=facts.positive("attention.layer_norm_rms_epsilon"), mlp="swiglu", bias=False,
        tied="output.weight" not in file.arrays,
        rotary_factors=factors, rotary_scale=scale,
    )  # fmt: skip


def _stretched(
    facts: Fields, file: gguf.GGUFFile, size: int, base: float
) -> tuple[tuple[float, ...] | None, float]:
    """How much longer the rotary waves of heads of this size are, and the scale of what is turned.

    Source: https://github.com/ggml-org/llama.cpp: src/llama-model.cpp (facts, defaults) and
    ggml/src/ggml-cpu/ops.cpp (rope_yarn).
    """
    name, scale = "rope_freqs.weight", 1.0
    given = file.arrays.get(name)
    table = {} if given is None else {name: given.numbers().tolist()}
    factors = Fields(table, file.path).factors(name, size // 2) if table else None
    kind = facts.one_of("rope.scaling.type", "none", {k: k for k in ("none", "linear", "yarn")})
    if kind == "none":
        return factors, scale
    factor = facts.positive("rope.scaling.factor")
    longer = (factor,) * (size // 2)
    if kind == "yarn":
        facts.must_be("rope.scaling.yarn_log_multiplier", 0.0)
        facts.must_be("rope.scaling.yarn_ext_factor", 1.0)
        length = facts.whole("rope.scaling.original_context_length", facts.whole("context_length"))
        fast = facts.positive("rope.scaling.yarn_beta_fast", 32.0)
        slow = facts.positive("rope.scaling.yarn_beta_slow", 1.0)
        longer = yarn_factors(size, base, factor, fast, slow, length)
        scale = yarn_scale(factor) * facts.positive("rope.scaling.attn_factor", 1.0)
    return tuple(a * b for a, b in zip(factors or (1.0,) * len(longer), longer, strict=True)), scale


def _gpt2(facts: Fields, file: gguf.GGUFFile) -> GPTConfig:
    return GPTConfig(
        _vocabulary(facts, file), facts.whole("block_count"), facts.whole("attention.head_count"),
        facts.whole("embedding_length"), facts.whole("context_length"),
        hidden=facts.whole("feed_forward_length"),
        norm_eps=facts.positive("attention.layer_norm_epsilon"), mlp="gelu_tanh",
        tied="output.weight" not in file.arrays,
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
