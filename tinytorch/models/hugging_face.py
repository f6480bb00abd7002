"""Folders in Hugging Face's layout: config.json beside model.safetensors, in one file or several.

Knows three architectures: which of their settings our models have, and under which name and in
which shape each weight lies there (`gpt2`, `llama`, `bert`). Whatever a config.json says that would
change a single logit is either honoured or refused.

Source: https://huggingface.co/docs/transformers: configuration_*.py and modeling_*.py of version 5.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from tinytorch.base import files
from tinytorch.base.arguments import whole
from tinytorch.base.dtypes import DType, as_dtype
from tinytorch.base.errors import FileFormatError, NotFoundError, SettingError, short
from tinytorch.base.files import NotStrictError, parse_json, replacing
from tinytorch.models.bert import BERT, BERTClassifier, BERTConfig, BERTMaskedLM
from tinytorch.models.fields import Fields
from tinytorch.models.gpt import GPT, GPTConfig
from tinytorch.models.pieces import Piece, check_layers, fill, taken_apart
from tinytorch.models.rotary import Rotary, Stretched, llama3_factors, yarn_factors, yarn_scale
from tinytorch.nn.init import without_draws
from tinytorch.nn.module import Module
from tinytorch.storage import safetensors

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PART = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
LONGEST_JSON = 16 << 20  # bytes of config.json and of an index: 100 times the longest published
Arrays = dict[str, tuple[np.ndarray, DType]]

# --- config.json ---


def _json(path: Path) -> Any:
    try:
        return parse_json(files.contents(path, LONGEST_JSON, links=True))
    except NotStrictError as error:
        raise FileFormatError(
            f"{path}: the file {error.what}", got=error.got, rule=error.rule,
            fix="fetch or save the folder again",
        ) from None  # fmt: skip


# --- architectures ---

ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
OF_GELU = {"gelu": "gelu", "gelu_tanh": "gelu_new"}


@dataclass(frozen=True)
class Family:
    """One architecture.

    Args:
        read: settings -> an untrained model.
        write: model -> the settings of its config.json.
        pieces: model -> where each of its weights lies.
        spare: names that files may hold and models do not need, as a pattern.
        aliases: (pattern, name) replaced in names of files, for older ones.
    """

    read: Callable[[Fields], Module]
    write: Callable[[Any], dict[str, Any]]
    pieces: Callable[[Any], Iterator[Piece]]
    spare: str
    aliases: tuple[tuple[str, str], ...] = ()


def _both(ours: str, theirs: str, bias: bool = True, transposed: bool = False) -> Iterator[Piece]:
    """A layer's weight and bias."""
    yield Piece(f"{ours}.weight", (f"{theirs}.weight",), transposed=transposed)
    if bias:
        yield Piece(f"{ours}.bias", (f"{theirs}.bias",))


def _joint(layer: Any, ours: str, names: tuple[str, str, str], bias: bool) -> Iterator[Piece]:
    """Rows of q, k and v, which lie in three arrays there."""
    shared = layer.kv_heads * layer.head_size
    rows = (layer.num_heads * layer.head_size, shared, shared)
    yield Piece(f"{ours}.in_proj_weight", tuple(f"{n}.weight" for n in names), rows)
    if bias:
        yield Piece(f"{ours}.in_proj_bias", tuple(f"{n}.bias" for n in names), rows)


def _read_gpt2(fields: Fields) -> GPT:
    fields.must_be("scale_attn_weights", True)
    fields.must_be("scale_attn_by_inverse_layer_idx", False)
    fields.must_be("add_cross_attention", False)
    size = fields.whole("n_embd", 768)
    return GPT(GPTConfig(
        fields.whole("vocab_size", 50257), fields.whole("n_layer", 12), fields.whole("n_head", 12),
        size, fields.whole("n_positions", 1024), hidden=fields.whole("n_inner", 4 * size),
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        mlp=fields.one_of("activation_function", "gelu_new", ACTIVATIONS),
        tied=fields.flag("tie_word_embeddings", True),
    ))  # fmt: skip


def _write_gpt2(model: GPT) -> dict[str, Any]:
    config = model.config
    return {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": config.vocab,
        "n_layer": config.layers, "n_head": config.heads, "n_embd": config.size,
        "n_positions": config.length, "n_inner": config.width,
        "layer_norm_epsilon": config.norm_eps, "activation_function": OF_GELU[config.mlp],
        "tie_word_embeddings": config.tied, "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout, "attn_pdrop": 0.0,
    }  # fmt: skip


def _pieces_gpt2(model: GPT) -> Iterator[Piece]:
    yield Piece("tokens.weight", ("transformer.wte.weight",))
    yield Piece("positions.weight", ("transformer.wpe.weight",))
    for i in range(model.config.layers):
        ours, theirs = f"blocks.{i}", f"transformer.h.{i}"
        yield from _both(f"{ours}.norm1", f"{theirs}.ln_1")
        attention = f"{theirs}.attn"  # (inputs, outputs), as all matrices of GPT-2's own program
        yield Piece(
            f"{ours}.self_attn.in_proj_weight", (f"{attention}.c_attn.weight",), transposed=True
        )
        yield Piece(f"{ours}.self_attn.in_proj_bias", (f"{attention}.c_attn.bias",))
        yield from _both(f"{ours}.self_attn.out_proj", f"{attention}.c_proj", transposed=True)
        yield from _both(f"{ours}.norm2", f"{theirs}.ln_2")
        yield from _both(f"{ours}.linear1", f"{theirs}.mlp.c_fc", transposed=True)
        yield from _both(f"{ours}.linear2", f"{theirs}.mlp.c_proj", transposed=True)
    yield from _both("norm", "transformer.ln_f")
    if not model.config.tied:
        yield Piece("head.weight", ("lm_head.weight",))


def _read_llama(fields: Fields) -> GPT:
    fields.must_be("hidden_act", "silu")
    fields.must_be("partial_rotary_factor", 1.0)
    bias = fields.flag("attention_bias", False)
    fields.must_be("mlp_bias", bias)
    size, heads = fields.whole("hidden_size", 4096), fields.whole("num_attention_heads", 32)
    if fields.whole("head_dim", size // heads) * heads != size:
        fields.refuse("head_dim", f"hidden_size / num_attention_heads = {size} / {heads}")
    rotary = _rotary(fields, size // heads)
    return GPT(GPTConfig(
        fields.whole("vocab_size", 32000), fields.whole("num_hidden_layers", 32), heads, size,
        fields.whole("max_position_embeddings", 2048),
        kv_heads=fields.whole("num_key_value_heads", heads),
        hidden=fields.whole("intermediate_size", 11008), positions="rotary",
        rotary_base=rotary.base, norm="rms", norm_eps=fields.number("rms_norm_eps", 1e-6),
        mlp="swiglu", bias=bias, tied=fields.flag("tie_word_embeddings", False),
        rotary_factors=rotary.factors, rotary_scale=rotary.scale,
    ))  # fmt: skip


def _rotary(fields: Fields, size: int) -> Rotary:
    """Rotary positions, for heads of this size.

    Versions before 5 of transformers wrote them as rope_theta and rope_scaling.
    """
    name = next((n for n in ("rope_parameters", "rope_scaling") if fields.table.get(n)), None)
    inner = {} if name is None else fields.table[name]
    if not isinstance(inner, dict):
        fields.refuse(str(name), "an object")
    inside = Fields(inner, f"{fields.where}, {name}")
    base = inside.positive("rope_theta", fields.positive("rope_theta", 10000.0))
    inside.must_be("partial_rotary_factor", 1.0)
    kind = "rope_type" if "rope_type" in inner else "type"
    found = inside.one_of(kind, "default", {kind: kind for kind in ("default", *_STRETCHED)})
    if found == "default":
        return Rotary(base)
    length = fields.whole("max_position_embeddings", 2048)
    factors, scale = _STRETCHED[found](inside, size, base, length)
    return Rotary(base, factors, scale)


def _linear(inside: Fields, size: int, base: float, length: int) -> Stretched:
    return (inside.positive("factor"),) * (size // 2), 1.0


def _llama3(inside: Fields, size: int, base: float, length: int) -> Stretched:
    return llama3_factors(
        size, base, inside.positive("factor"), inside.positive("low_freq_factor"),
        inside.positive("high_freq_factor"), inside.whole("original_max_position_embeddings"),
    ), 1.0  # fmt: skip


def _yarn(inside: Fields, size: int, base: float, length: int) -> Stretched:
    before = inside.whole("original_max_position_embeddings", length)
    factor = inside.positive("factor", length / before)
    factors = yarn_factors(
        size, base, factor, inside.positive("beta_fast", 32.0), inside.positive("beta_slow", 1.0),
        before, inside.flag("truncate", True),
    )  # fmt: skip
    scale = yarn_scale(factor)
    if inside.number("mscale", 0.0) and inside.number("mscale_all_dim", 0.0):
        of_all = yarn_scale(factor, inside.positive("mscale_all_dim"))
        scale = yarn_scale(factor, inside.positive("mscale")) / of_all
    return factors, inside.positive("attention_factor", scale)


def _longrope(inside: Fields, size: int, base: float, length: int) -> Stretched:
    long = inside.factors("long_factor", size // 2)
    if inside.factors("short_factor", size // 2) != long:
        inside.refuse("long_factor", "the same factors as short_factor")
    return long, inside.positive("attention_factor")


_STRETCHED: dict[str, Callable[[Fields, int, float, int], Stretched]] = {
    "linear": _linear, "llama3": _llama3, "yarn": _yarn, "longrope": _longrope,
}  # fmt: skip


def _write_llama(model: GPT) -> dict[str, Any]:
    config = model.config
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": config.vocab,
        "num_hidden_layers": config.layers, "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads or config.heads, "hidden_size": config.size,
        "intermediate_size": config.width, "max_position_embeddings": config.length,
        "head_dim": config.size // config.heads, "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps, "tie_word_embeddings": config.tied,
        "attention_bias": config.bias, "mlp_bias": config.bias, "attention_dropout": 0.0,
        "rope_parameters": {"rope_theta": config.rotary_base, **_written_rotary(config)},
        # For versions of transformers before 5.
        "rope_theta": config.rotary_base, "rope_scaling": _old_rotary(config),
    }  # fmt: skip


def _old_rotary(config: GPTConfig) -> dict[str, Any] | None:
    written = _written_rotary(config)
    return written if "long_factor" in written else None


def _written_rotary(config: GPTConfig) -> dict[str, Any]:
    """Factors of rotary positions, as the one of their kinds that has a number for each pair."""
    if config.rotary_factors is None and config.rotary_scale == 1.0:
        return {"rope_type": "default"}
    factors = list(config.rotary_factors or (1.0,) * (config.size // config.heads // 2))
    return {
        "rope_type": "longrope", "long_factor": factors, "short_factor": factors,
        "attention_factor": config.rotary_scale,
        "original_max_position_embeddings": config.length,
    }  # fmt: skip


def _pieces_llama(model: GPT) -> Iterator[Piece]:
    bias = model.config.bias
    yield Piece("tokens.weight", ("model.embed_tokens.weight",))
    for i, block in enumerate(model.blocks):
        ours, theirs = f"blocks.{i}", f"model.layers.{i}"
        yield from _both(f"{ours}.norm1", f"{theirs}.input_layernorm", bias=False)
        attention = f"{theirs}.self_attn"
        names = (f"{attention}.q_proj", f"{attention}.k_proj", f"{attention}.v_proj")
        yield from _joint(block.self_attn, f"{ours}.self_attn", names, bias)
        yield from _both(f"{ours}.self_attn.out_proj", f"{attention}.o_proj", bias)
        yield from _both(f"{ours}.norm2", f"{theirs}.post_attention_layernorm", bias=False)
        for n, name in ((1, "gate"), (2, "down"), (3, "up")):
            yield from _both(f"{ours}.linear{n}", f"{theirs}.mlp.{name}_proj", bias)
    yield Piece("norm.weight", ("model.norm.weight",))
    if not model.config.tied:
        yield Piece("head.weight", ("lm_head.weight",))


def _read_bert(fields: Fields) -> Module:
    fields.must_be("is_decoder", False)
    fields.must_be("add_cross_attention", False)
    fields.must_be("position_embedding_type", "absolute")
    config = BERTConfig(
        fields.whole("vocab_size", 30522), fields.whole("num_hidden_layers", 12),
        fields.whole("num_attention_heads", 12), fields.whole("hidden_size", 768),
        fields.whole("max_position_embeddings", 512),
        hidden=fields.whole("intermediate_size", 3072),
        segments=fields.whole("type_vocab_size", 2),
        dropout=fields.number("hidden_dropout_prob", 0.1),
        attention_dropout=fields.number("attention_probs_dropout_prob", 0.1),
        norm_eps=fields.number("layer_norm_eps", 1e-12),
        mlp=fields.one_of("hidden_act", "gelu", ACTIVATIONS),
    )  # fmt: skip
    named = fields.table.get("architectures") or ["BertModel"]
    kinds = {
        "BertModel": lambda: BERT(config),
        "BertForMaskedLM": lambda: BERTMaskedLM(config),
        "BertForSequenceClassification": lambda: BERTClassifier(config, _classes(fields)),
    }
    if not isinstance(named, list) or len(named) != 1 or named[0] not in kinds:
        fields.refuse("architectures", "one of " + ", ".join(map(repr, kinds)))
    if named[0] == "BertForMaskedLM":
        fields.must_be("tie_word_embeddings", True)
    return kinds[named[0]]()


def _classes(fields: Fields) -> int:
    labels = fields.table.get("id2label")
    if labels is None:
        return fields.whole("num_labels", 2)
    if not isinstance(labels, dict) or not labels:
        fields.refuse("id2label", "an object with a name for each class")
    return len(labels)


def _write_bert(model: BERT | BERTMaskedLM | BERTClassifier) -> dict[str, Any]:
    config, more = model.config, {}
    if isinstance(model, BERTClassifier):
        names = [f"LABEL_{i}" for i in range(model.classifier.out_features)]
        more = {
            "id2label": {str(i): name for i, name in enumerate(names)},
            "label2id": {name: i for i, name in enumerate(names)},
        }
    kinds = {BERTMaskedLM: "BertForMaskedLM", BERTClassifier: "BertForSequenceClassification"}
    return {
        "architectures": [kinds.get(type(model), "BertModel")], "model_type": "bert",
        "vocab_size": config.vocab, "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads, "hidden_size": config.size,
        "intermediate_size": config.width, "max_position_embeddings": config.length,
        "type_vocab_size": config.segments, "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "layer_norm_eps": config.norm_eps, "hidden_act": OF_GELU[config.mlp],
        "position_embedding_type": "absolute", "is_decoder": False, "tie_word_embeddings": True,
        **more,
    }  # fmt: skip


def _pieces_bert(model: BERT | BERTMaskedLM | BERTClassifier) -> Iterator[Piece]:
    bert = model if isinstance(model, BERT) else model.bert
    ours, theirs = ("", "") if isinstance(model, BERT) else ("bert.", "bert.")
    for name, there in (("tokens", "word"), ("positions", "position"), ("segments", "token_type")):
        yield Piece(f"{ours}{name}.weight", (f"{theirs}embeddings.{there}_embeddings.weight",))
    yield from _both(f"{ours}norm", f"{theirs}embeddings.LayerNorm")
    for i, block in enumerate(bert.blocks):
        here, there = f"{ours}blocks.{i}", f"{theirs}encoder.layer.{i}"
        inner = f"{there}.attention.self"
        names = (f"{inner}.query", f"{inner}.key", f"{inner}.value")
        yield from _joint(block.self_attn, f"{here}.self_attn", names, True)
        yield from _both(f"{here}.self_attn.out_proj", f"{there}.attention.output.dense")
        yield from _both(f"{here}.norm1", f"{there}.attention.output.LayerNorm")
        yield from _both(f"{here}.linear1", f"{there}.intermediate.dense")
        yield from _both(f"{here}.linear2", f"{there}.output.dense")
        yield from _both(f"{here}.norm2", f"{there}.output.LayerNorm")
    if bert.pooler is not None:
        yield from _both(f"{ours}pooler", f"{theirs}pooler.dense")
    if isinstance(model, BERTMaskedLM):
        yield from _both("transform", "cls.predictions.transform.dense")
        yield from _both("norm", "cls.predictions.transform.LayerNorm")
        yield Piece("head.bias", ("cls.predictions.bias",))
    if isinstance(model, BERTClassifier):
        yield from _both("classifier", "classifier")


FAMILIES = {
    "gpt2": Family(
        _read_gpt2, _write_gpt2, _pieces_gpt2,
        # Masks of old files, and what is the same as the table of tokens.
        r"transformer\.h\.\d+\.attn\.(bias|masked_bias)|lm_head\.weight",
        # Folders of the bare GPT2Model, as OpenAI's own, have no prefix.
        ((r"^(?=(wte|wpe|h|ln_f)\.)", "transformer."),),
    ),
    "llama": Family(
        _read_llama, _write_llama, _pieces_llama,
        r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq|lm_head\.weight",
    ),
    "bert": Family(
        _read_bert, _write_bert, _pieces_bert,
        r"(bert\.)?embeddings\.position_ids|bert\.pooler\..*|cls\.seq_relationship\..*"
        r"|cls\.predictions\.decoder\.(weight|bias)",
        ((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias")),
    ),
}  # fmt: skip


def _family_of(model: Module) -> str:
    """The architecture whose settings say all there is to say of a model."""
    if isinstance(model, (BERT, BERTMaskedLM, BERTClassifier)):
        return "bert"
    if isinstance(model, GPT):
        config = model.config
        parts = (config.positions, config.norm, config.mlp)
        if parts == ("rotary", "rms", "swiglu"):
            return "llama"
        plain = config.kv_heads in (None, config.heads) and config.bias
        if parts[:2] == ("learned", "layer") and parts[2] in OF_GELU and plain:
            return "gpt2"
    raise SettingError(
        "save_folder: no published architecture is like this model",
        got=short(getattr(model, "config", type(model).__name__), 200),
        rule="a GPT as GPT-2 (learned positions, layer norms, GELU, biases) or as Llama (rotary, "
        "RMS norms, SwiGLU), or a BERT",
        fix="storage.save(path, arrays of model.state_dict()), which keeps any model's weights",
    )


# --- weights ---


def _read_arrays(folder: Path) -> Arrays:
    """All arrays of a folder, mapped."""
    if (folder / WEIGHTS).exists():
        return safetensors.load(folder / WEIGHTS)
    if (folder / INDEX).exists():
        return _read_parts(folder)
    others = sorted(p.name for p in folder.glob("*.bin"))[:3]
    raise NotFoundError(
        f"{folder} holds no weights",
        got=f"pickles, which could run any program: {', '.join(others)}" if others else "neither",
        rule=f"{WEIGHTS}, or {INDEX} with the files it names",
        fix="model.save_pretrained(folder, safe_serialization=True) in transformers",
    )


def _read_parts(folder: Path) -> Arrays:
    table = _json(folder / INDEX)
    parts = table.get("weight_map") if isinstance(table, dict) else None

    def refuse(what: str, got: object, rule: str) -> NoReturn:
        raise FileFormatError(
            f"{folder / INDEX}: {what}", got=got, rule=rule, fix="fetch or save the folder again"
        )

    if not isinstance(parts, dict) or not parts:
        refuse("it names no arrays", short(parts), "weight_map: array -> file")
    for name in parts.values():
        # A name with a folder in it could lead anywhere.
        if not isinstance(name, str) or name != os.path.basename(name) or "\0" in name:
            refuse("a file's name leads out of the folder", short(name), "plain names")
        if not name.endswith(".safetensors"):
            refuse("a file is not of the right kind", short(name), "names with .safetensors")
    arrays: Arrays = {}
    for name in sorted(set(parts.values())):
        for array, value in safetensors.load(folder / name).items():
            if parts.get(array) != name:
                refuse(
                    f"array {short(array)} is not where it says",
                    f"in {short(name)}", f"in {short(parts.get(array))}",
                )  # fmt: skip
            arrays[array] = value
    if missing := [short(name) for name in parts if name not in arrays]:
        got = f"{len(missing)} arrays: {', '.join(missing[:5])}"
        refuse("arrays are in no file", got, "each array is in the file that weight_map names")
    return arrays


def load_folder(path: str | os.PathLike[str], dtype: str | DType = "float32") -> Module:
    """The model of a folder in Hugging Face's layout, in evaluation mode.

    Args:
        path: a folder with config.json and model.safetensors, or model.safetensors.index.json and
            the files that it names.
        dtype: of the weights in memory; those of the files are converted; default float32.

    Returns:
        a `GPT` (model_type gpt2 or llama), or a `BERT`, `BERTMaskedLM` or `BERTClassifier`, as
        "architectures" says (model_type bert).

    Raises:
        NotFoundError: there is no such folder, or a file is missing.
        FileFormatError: a file is damaged; the architecture, or one of its settings, is none of
            ours; weights are missing, unknown, or not of the sizes that config.json says.

    Cost: the weights once from the disk and once in memory; matrices of GPT-2 are turned.

    Example:
        >>> import tempfile, tinytorch as tt
        >>> from tinytorch.models import GPT, GPTConfig, load_folder, save_folder
        >>> model, folder = GPT(GPTConfig(65, 2, 2, 16, 32)), tempfile.mkdtemp() + "/small"
        >>> save_folder(model, folder)
        >>> again, tokens = load_folder(folder), tt.tensor([[1, 2, 3]])
        >>> bool((again(tokens) == model(tokens)).all())
        True
    """
    folder = files.user_path(path)
    table = _json(folder / CONFIG)
    kind = table.get("model_type") if isinstance(table, dict) else None
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise FileFormatError(
            f"{folder / CONFIG} names an architecture that TinyTorch does not have",
            got=f"model_type = {short(kind)}",
            rule="one of " + ", ".join(map(repr, FAMILIES)),
            fix="a model of one of these architectures",
        )
    family, where = FAMILIES[kind], str(folder / CONFIG)
    arrays = {_present(name, family): x for name, x in _read_arrays(folder).items()}
    fields = Fields(table, where)
    layers = fields.whole("n_layer" if kind == "gpt2" else "num_hidden_layers", 1)
    check_layers(str(folder), layers, len(arrays))
    try:
        with without_draws():
            model = family.read(fields).to(as_dtype(dtype))
    except SettingError as error:
        raise FileFormatError(
            f"{where}: its sizes do not go together", got=f"{error.what}: {error.got}",
            rule=error.rule, fix="fetch or save the folder again",
        ) from None  # fmt: skip
    fill(model, family.pieces(model), arrays, str(folder), family.spare)
    return model.eval()


def _present(name: str, family: Family) -> str:
    for pattern, now in family.aliases:
        name = re.sub(pattern, now, name)
    return name


def save_folder(
    model: Module, path: str | os.PathLike[str], shard_bytes: int = 5_000_000_000
) -> None:
    """Write a model as a folder that transformers reads: config.json and weights.

    Args:
        model: a `GPT` in the form of GPT-2 or Llama, `BERT`, `BERTMaskedLM` or `BERTClassifier`.
        path: the folder; made if it is missing. Each file is replaced in one step, weights first;
            weights of an earlier save that are of no use any more are removed.
        shard_bytes: most bytes of weights in a file (one array may be longer), at least 1; default
            5 GB, as in transformers.

    Raises:
        SettingError: no architecture that `load_folder` knows is like this model.
        StorageError: the folder cannot be written.

    Cost: the bytes of the weights once.
    """
    limit = whole("save_folder", "shard_bytes", shard_bytes, at_least=1)
    family = FAMILIES[_family_of(model)]
    folder = files.user_path(path)
    arrays = taken_apart(model, family.pieces(model))
    files.make_folder(folder)
    shards = _shards(arrays, limit)
    names = [WEIGHTS] if len(shards) == 1 else [
        f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)
    ]  # fmt: skip
    for name, shard in zip(names, shards, strict=True):
        safetensors.save(folder / name, {n: arrays[n] for n in shard}, {"format": "pt"})
    written = {*names}
    if len(shards) > 1:
        total = sum(array.nbytes for array, _ in arrays.values())
        places = {n: name for name, shard in zip(names, shards, strict=True) for n in shard}
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})
        written.add(INDEX)
    kind = next(dtype.name for _, dtype in arrays.values())
    _write_json(folder / CONFIG, {**family.write(model), "dtype": kind})
    for old in os.listdir(folder):
        if old not in written and (old in (WEIGHTS, INDEX) or PART.fullmatch(old)):
            files.remove(folder / old)


def _shards(arrays: Arrays, limit: int) -> list[list[str]]:
    """Names of the arrays of each file, in order, each file full but never too long."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, (array, _) in arrays.items():
        if shards[-1] and size + array.nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += array.nbytes
    return shards


def _write_json(path: Path, table: dict[str, Any]) -> None:
    with replacing(path) as file:
        file.write((json.dumps(table, indent=2) + "\n").encode())
