"""hugging_face.py: both ways by itself, and folders that must be refused. Logits: tests/peer."""

import json
import os
from dataclasses import asdict, replace

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import storage
from tinytorch.base.errors import FileFormatError, NotFoundError, SettingError
from tinytorch.models import (
    BERT,
    GPT,
    MLP,
    BERTClassifier,
    BERTConfig,
    BERTMaskedLM,
    GPTConfig,
    load_folder,
    save_folder,
)
from tinytorch.models.hugging_face import FAMILIES, PART, _family_of

GPT2 = GPTConfig(11, 2, 2, 8, 6, mlp="gelu_tanh", tied=True)
LLAMA = GPTConfig(
    11, 2, 2, 8, 6, kv_heads=1, positions="rotary", norm="rms", mlp="swiglu", bias=False
)
SMALL_BERT = BERTConfig(11, 2, 2, 8, 6, dropout=0.0)
MODELS = {
    "GPT-2": lambda: GPT(GPT2),
    "GPT-2 untied": lambda: GPT(replace(GPT2, tied=False, mlp="gelu", hidden=5)),
    "Llama": lambda: GPT(LLAMA),
    "Llama stretched": lambda: GPT(replace(LLAMA, rotary_factors=(1.0, 3.5))),
    "Llama sharpened": lambda: GPT(replace(LLAMA, rotary_scale=1.25)),
    "Llama tied": lambda: GPT(replace(LLAMA, tied=True, bias=True, rotary_base=50.0)),
    "BERT": lambda: BERT(SMALL_BERT),
    "BERT masked": lambda: BERTMaskedLM(SMALL_BERT),
    "BERT classifier": lambda: BERTClassifier(SMALL_BERT, 3),
}
each_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


@each_model
@pytest.mark.parametrize("shard_bytes", [5_000_000_000, 1000])
def test_what_is_written_is_read(make, shard_bytes, tmp_path):
    """Invariant: the same weights to the last bit, the same settings, evaluation mode."""
    model = make()
    save_folder(model, tmp_path / "new", shard_bytes)
    again = load_folder(tmp_path / "new")
    kept = {n: x for n, x in asdict(model.config).items() if x is not None}
    assert not again.training and asdict(again.config) | kept == asdict(again.config)
    assert again.config.width == model.config.width
    state = again.state_dict()
    for name, value in model.state_dict().items():
        assert np.array_equal(value.numpy(), state[name].numpy()), name
    parts = [n for n in os.listdir(tmp_path / "new") if PART.fullmatch(n)]
    assert (len(parts) > 3) is (shard_bytes == 1000)


@each_model
def test_every_weight_has_a_place(make):
    """Ground truth: the names of the state, less the second name of a tied table."""
    model = make()
    pieces = list(FAMILIES[_family_of(model)].pieces(model))
    own = {n: id(p) for n, p in model.named_parameters()}
    assert sorted(p.ours for p in pieces) == sorted(own)
    theirs = [n for p in pieces for n in p.theirs]
    assert len(theirs) == len(set(theirs))


def test_a_second_save_leaves_no_weights_of_the_first(tmp_path):
    """Ground truth: the names in the folder; a file of the user's stays."""
    (tmp_path / "notes.txt").write_text("mine")
    for limit, parts in ((600, True), (10**9, False), (900, True)):
        save_folder(GPT(LLAMA), tmp_path, limit)
        names = sorted(os.listdir(tmp_path))
        assert ("model.safetensors" in names) is not parts
        assert ("model.safetensors.index.json" in names) is parts
        found = [n for n in names if PART.fullmatch(n)]
        assert bool(found) is parts and len(found) == (int(found[0][15:20]) if found else 0)
        assert "notes.txt" in names
        load_folder(tmp_path)


@each_model
def test_types_of_weights(make, tmp_path):
    """Ground truth: bfloat16 is written as bfloat16, and read as what is asked for."""
    model = make().to(tt.bfloat16)
    save_folder(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    for dtype in ("float32", "bfloat16"):
        state = load_folder(tmp_path, dtype).state_dict()
        for name, value in model.state_dict().items():
            assert state[name].dtype.name == dtype
            assert np.array_equal(value.numpy(), state[name].numpy())


def test_links_to_files_are_followed(tmp_path):
    """Ground truth: transformers' own cache is made of links into a folder of contents."""
    save_folder(GPT(LLAMA), tmp_path / "contents")
    (tmp_path / "model").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "model" / name).symlink_to(tmp_path / "contents" / name)
    assert load_folder(tmp_path / "model").config.vocab == 11


# --- what must be refused ---


@pytest.fixture
def saved(tmp_path):
    """A folder of a small Llama, and how its config.json or its weights are changed."""

    class Saved:
        path = tmp_path

        def config(self, **changes):
            table = json.loads((tmp_path / "config.json").read_text()) | changes
            table = {name: x for name, x in table.items() if x is not ...}
            (tmp_path / "config.json").write_text(json.dumps(table))

        def arrays(self, change):
            path = tmp_path / "model.safetensors"
            arrays = {n: (x.copy(), t) for n, (x, t) in storage.load(path).items()}
            change(arrays)
            storage.save(path, arrays)

    save_folder(GPT(LLAMA), tmp_path)
    return Saved()


CONFIGS = {
    "no architecture": ({"model_type": ...}, "an architecture that TinyTorch does not have"),
    "an unknown one": ({"model_type": "mamba"}, "one of 'gpt2', 'llama', 'bert'"),
    "no name": ({"model_type": ["llama"]}, "an architecture that TinyTorch does not have"),
    "no activation of ours": ({"hidden_act": "relu"}, "hidden_act = .silu.: nothing else"),
    "stretched positions of another kind": (
        {"rope_parameters": {"rope_type": "dynamic", "factor": 8.0}}, "rope_type cannot be used",
    ),
    "stretched positions, as once written": (
        {"rope_parameters": None, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
        "type cannot be used",
    ),
    "positions of a part": (
        {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor cannot be used",
    ),
    "stretched by nothing": (
        {"rope_parameters": {"rope_type": "linear", "factor": 0}}, "factor cannot be used",
    ),
    "stretched without saying how": (
        {"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "low_freq_factor cannot be",
    ),
    "two kinds of factors": (
        {"rope_parameters": {"rope_type": "longrope", "long_factor": [2.0] * 2,
                             "short_factor": [1.0] * 2, "attention_factor": 1.0}},
        "long_factor cannot be used",
    ),
    "factors of other heads": (
        {"rope_parameters": {"rope_type": "longrope", "long_factor": [2.0] * 3,
                             "short_factor": [2.0] * 3, "attention_factor": 1.0}},
        "one for each rotary pair",
    ),
    "positions are no object": ({"rope_parameters": 3}, "rope_parameters cannot be used"),
    "base 0": ({"rope_parameters": {"rope_theta": 0}}, "rope_theta cannot be used"),
    "heads of another size": ({"head_dim": 16}, "head_dim cannot be used"),
    "biases of one part": ({"mlp_bias": True}, "mlp_bias cannot be used"),
    "a size that is a text": ({"vocab_size": "11"}, "vocab_size cannot be used"),
    "a size that is a truth": ({"vocab_size": True}, "a whole number >= 1"),
    "a size of nothing": ({"num_hidden_layers": 0}, "num_hidden_layers cannot be used"),
    "a size beyond all": ({"vocab_size": 10**30}, "vocab_size cannot be used"),
    "heads that do not divide": (
        {"num_attention_heads": 3, "head_dim": ..., "num_key_value_heads": 3}, "head_dim",
    ),
    "keys that do not divide": (
        {"num_attention_heads": 4, "head_dim": 2, "num_key_value_heads": 3},
        "its sizes do not go together",
    ),
    "eps below 0": ({"rms_norm_eps": -1e-6}, "rms_norm_eps cannot be used"),
    "eps no number": ({"rms_norm_eps": "1e-6"}, "a number >= 0"),
    "a larger vocabulary": ({"vocab_size": 12}, "the vocabulary does not fit the model"),
    "a smaller vocabulary": ({"vocab_size": 10}, "a table of 11 tokens, a vocabulary of 10"),
    "more layers": ({"num_hidden_layers": 3}, "lacks weights"),
    "countless layers": ({"num_hidden_layers": 2**31 - 1}, "lacks weights"),
    "fewer layers": ({"num_hidden_layers": 1}, "weights that the model has no place for"),
    "another width": ({"intermediate_size": 20}, "has another shape"),
    "other heads of keys": ({"num_key_value_heads": 2}, "has another shape"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "phrase"), CONFIGS.values(), ids=CONFIGS)
def test_settings_that_do_not_fit_are_named(saved, changes, phrase):
    """Ground truth: the settings that our models have, and the weights beside."""
    saved.config(**changes)
    with pytest.raises(FileFormatError, match=phrase) as caught:
        load_folder(saved.path)
    error = caught.value
    assert all((error.what, error.got, error.rule, error.fix)) and str(saved.path) in error.what


GPT2_CONFIGS = [
    ("scale_attn_weights", False),
    ("scale_attn_by_inverse_layer_idx", True),
    ("add_cross_attention", True),
    ("activation_function", "relu"),
    ("tie_word_embeddings", "yes"),
]
BERT_CONFIGS = [
    ("is_decoder", True), ("position_embedding_type", "relative_key"), ("hidden_act", "silu"),
    ("architectures", ["BertForQuestionAnswering"]), ("architectures", "BertModel"),
    ("id2label", {}), ("id2label", ["a"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [(MODELS["GPT-2"], *x) for x in GPT2_CONFIGS]
    + [(MODELS["BERT classifier"], *x) for x in BERT_CONFIGS],
)
def test_settings_of_other_architectures(make, name, value, tmp_path):
    """Ground truth: what would change a logit and we have not is refused by name."""
    save_folder(make(), tmp_path)
    table = json.loads((tmp_path / "config.json").read_text()) | {name: value}
    (tmp_path / "config.json").write_text(json.dumps(table))
    with pytest.raises(FileFormatError, match=f"{name} cannot be used"):
        load_folder(tmp_path)


ARRAYS = {
    "one is missing": (lambda a: a.pop("model.norm.weight"), "lacks weights"),
    "one too many": (lambda a: a.update(more=a["model.norm.weight"]), "no place for"),
    "another shape": (
        lambda a: a.update({"model.norm.weight": np.zeros(9, np.float32)}), "has another shape",
    ),
    "whole numbers": (
        lambda a: a.update({"model.norm.weight": np.zeros(8, np.int64)}), "holds no weights",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "phrase"), ARRAYS.values(), ids=ARRAYS)
def test_weights_that_do_not_fit_are_named(saved, change, phrase):
    """Ground truth: the names and shapes of the architecture."""
    saved.arrays(change)
    with pytest.raises(FileFormatError, match=phrase):
        load_folder(saved.path)


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        (b"", "is not JSON"),
        (b"[1]", "does not have"),
        (b'{"model_type": "llama", "model_type": "gpt2"}', "a key stands twice"),
        (b'{"model_type": NaN}', "is not JSON"),
        (b"\xff", "is not UTF-8"),
        (b"[" * 100_000, "is not JSON"),
    ],
)
def test_a_damaged_config(saved, text, phrase):
    """Ground truth: strict JSON."""
    (saved.path / "config.json").write_bytes(text)
    with pytest.raises(FileFormatError, match=phrase):
        load_folder(saved.path)


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_truncated_weights(saved, length):
    """Ground truth: the header says how long the file is."""
    path = saved.path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(FileFormatError, match="not a valid safetensors file"):
        load_folder(saved.path)


def test_what_is_not_there(saved, tmp_path):
    """Ground truth: the folder; pickles beside are never read."""
    with pytest.raises(NotFoundError):
        load_folder(tmp_path / "no such folder")
    (saved.path / "model.safetensors").unlink()
    with pytest.raises(NotFoundError, match="holds no weights"):
        load_folder(saved.path)
    (saved.path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(NotFoundError, match="pickles, which could run any program"):
        load_folder(saved.path)


INDEXES = {
    "no map": ({}, "it names no arrays"),
    "no object": ([], "it names no arrays"),
    "empty": ({"weight_map": {}}, "it names no arrays"),
    "a way out": ({"weight_map": {"a": "../a.safetensors"}}, "leads out of the folder"),
    "the root": ({"weight_map": {"a": "/etc/a.safetensors"}}, "leads out of the folder"),
    "no text": ({"weight_map": {"a": 3}}, "leads out of the folder"),
    "a pickle": ({"weight_map": {"a": "a.bin"}}, "not of the right kind"),
}


@pytest.mark.parametrize(("table", "phrase"), INDEXES.values(), ids=INDEXES)
def test_indexes_that_lead_astray(saved, table, phrase):
    """Ground truth: weight_map is array -> plain name of a safetensors file."""
    (saved.path / "model.safetensors").unlink()
    (saved.path / "model.safetensors.index.json").write_text(json.dumps(table))
    with pytest.raises(FileFormatError, match=phrase):
        load_folder(saved.path)


def test_shards_that_do_not_belong_together(tmp_path):
    """Ground truth: each array is in the file that the index names, and in no other."""
    save_folder(GPT(LLAMA), tmp_path, 900)
    index = tmp_path / "model.safetensors.index.json"
    table = json.loads(index.read_text())
    first, *_, last = sorted(set(table["weight_map"].values()))

    def written(weight_map):
        index.write_text(json.dumps({"weight_map": weight_map}))
        return pytest.raises(FileFormatError)

    moved = {n: last if f == first else f for n, f in table["weight_map"].items()}
    with written(moved) as caught:
        load_folder(tmp_path)
    assert "in no file" in str(caught.value)
    left_out = {n: f for n, f in table["weight_map"].items() if n != "model.norm.weight"}
    with written(left_out) as caught:
        load_folder(tmp_path)
    assert "is not where it says" in str(caught.value)
    index.write_text(json.dumps(table))
    (tmp_path / first).unlink()
    with pytest.raises(NotFoundError):
        load_folder(tmp_path)


@pytest.mark.parametrize(
    "model",
    [
        lambda: MLP([2, 2]),
        lambda: GPT(replace(GPT2, norm="rms")),
        lambda: GPT(replace(GPT2, bias=False)),
        lambda: GPT(replace(GPT2, kv_heads=1)),
        lambda: GPT(replace(LLAMA, mlp="gelu")),
    ],
)
def test_models_that_no_architecture_describes(model, tmp_path):
    """Ground truth: the three architectures; nothing is written."""
    with pytest.raises(SettingError, match="no published architecture is like this model"):
        save_folder(model(), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_models_of_few_bits_are_not_written(tmp_path):
    """Ground truth: the architectures have floats."""
    small = tt.compression.quantize(GPT(LLAMA))
    with pytest.raises(SettingError, match="weights of 8 or 4 bits have no place"):
        save_folder(small, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_shard_is_at_least_a_byte(tmp_path):
    """Ground truth: its docstring."""
    with pytest.raises(SettingError, match="shard_bytes is not a whole number"):
        save_folder(GPT(LLAMA), tmp_path, 0)
