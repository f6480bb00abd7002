"""models/gguf.py: models in every form, and files that do not fit. The format: tests/storage."""

from dataclasses import replace

import gguf
import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import FileFormatError, NotFoundError
from tinytorch.models import GPT, GPTConfig, load_gguf, yarn_factors, yarn_scale

LLAMA = GPTConfig(
    37, 2, 4, 64, 24, kv_heads=2, hidden=96, positions="rotary", rotary_base=50.0, norm="rms",
    norm_eps=1e-2, mlp="swiglu", bias=False,
)  # fmt: skip
GPT2 = GPTConfig(37, 2, 4, 64, 24, hidden=96, mlp="gelu_tanh", tied=True)
TOKENS = np.random.default_rng(0).integers(0, 37, (2, 24))
F32 = gguf.GGMLQuantizationType.F32


def lively(config):
    """A model whose logits differ by numbers of size 1."""
    tt.manual_seed(0)
    model = GPT(config).eval()
    with tt.no_grad():
        for p in model.parameters():
            p += tt.randn(*p.shape) * (0.15 if len(p.shape) > 1 else 0.1)
    return model


def permuted(rows, heads):
    """Rows of queries or keys as convert_hf_to_gguf.py's `LlamaModel.permute` puts them."""
    shape = heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]
    return rows.reshape(shape).swapaxes(1, 2).reshape(rows.shape)


def arrays_of(model):
    """The arrays of a file, by llama.cpp's names."""
    config, state = model.config, {n: x.numpy() for n, x in model.state_dict().items()}
    shared = config.size // config.heads * (config.kv_heads or config.heads)
    found = {"token_embd.weight": state["tokens.weight"]}
    names = {"norm1": "attn_norm", "norm2": "ffn_norm", "self_attn.out_proj": "attn_output"}
    if config.positions == "learned":
        found["position_embd.weight"] = state["positions.weight"]
        names |= {"linear1": "ffn_up", "linear2": "ffn_down"}
    else:
        names |= {"linear1": "ffn_gate", "linear2": "ffn_down", "linear3": "ffn_up"}
    for i in range(config.layers):
        for ours, theirs in names.items():
            for kind in ("weight", "bias"):
                if f"blocks.{i}.{ours}.{kind}" in state:
                    found[f"blk.{i}.{theirs}.{kind}"] = state[f"blocks.{i}.{ours}.{kind}"]
        joint = state[f"blocks.{i}.self_attn.in_proj_weight"]
        if config.positions == "learned":
            found[f"blk.{i}.attn_qkv.weight"] = joint
            found[f"blk.{i}.attn_qkv.bias"] = state[f"blocks.{i}.self_attn.in_proj_bias"]
            continue
        q, k, v = np.split(joint, [config.size, config.size + shared])
        found[f"blk.{i}.attn_q.weight"] = permuted(q, config.heads)
        found[f"blk.{i}.attn_k.weight"] = permuted(k, config.kv_heads)
        found[f"blk.{i}.attn_v.weight"] = v
    for kind in ("weight", "bias"):
        if f"norm.{kind}" in state:
            found[f"output_norm.{kind}"] = state[f"norm.{kind}"]
    if not config.tied:
        found["output.weight"] = state["head.weight"]
    return found


def facts_of(config):
    """(method of the writer, value) for each fact."""
    facts = {
        "add_context_length": config.length, "add_embedding_length": config.size,
        "add_block_count": config.layers, "add_feed_forward_length": config.hidden,
        "add_head_count": config.heads, "add_vocab_size": config.vocab,
    }  # fmt: skip
    if config.positions == "learned":
        return facts | {"add_layer_norm_eps": config.norm_eps}
    return facts | {
        "add_head_count_kv": config.kv_heads, "add_layer_norm_rms_eps": config.norm_eps,
        "add_rope_freq_base": config.rotary_base,
        "add_rope_dimension_count": config.size // config.heads,
    }  # fmt: skip


def written(path, model, kind="F32", arrays=None, facts=(), architecture=None, halves=()):
    """A file of a model; matrices in blocks where their rows are multiples of 32, as llama.cpp."""
    config = model.config
    name = architecture or ("gpt2" if config.positions == "learned" else "llama")
    writer = gguf.GGUFWriter(path, name)
    for method, value in (facts_of(config) | dict(facts)).items():
        if value is not None:
            getattr(writer, method)(*(value if isinstance(value, tuple) else (value,)))
    for array, numbers in (arrays or arrays_of(model)).items():
        as_ = gguf.GGMLQuantizationType["F16" if array in halves else kind]
        as_ = as_ if numbers.ndim == 2 else F32
        writer.add_tensor(array, gguf.quants.quantize(np.ascontiguousarray(numbers), as_),
                          raw_dtype=as_)  # fmt: skip
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def rounded(model, kind):
    """The model with its matrices as the package gguf rounds them."""
    as_ = gguf.GGMLQuantizationType[kind]
    with tt.no_grad():
        for p in model.parameters():
            if len(p.shape) == 2:
                p.copy_(
                    tt.Tensor(gguf.quants.dequantize(gguf.quants.quantize(p.numpy(), as_), as_))
                )
    return model


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_0"])
@pytest.mark.parametrize(
    "config",
    [LLAMA, replace(LLAMA, tied=True, kv_heads=4), GPT2, replace(GPT2, tied=False)],
    ids=["Llama", "Llama tied", "GPT-2", "GPT-2 untied"],
)
def test_logits_are_those_of_the_rounded_weights(config, kind, tmp_path):
    """Ground truth: the model that was written, its matrices rounded by the package gguf; logits to
    the last bit, as the weights are the same."""
    model = lively(config)
    path = written(tmp_path / "a.gguf", model, kind)
    found = load_gguf(path, quantized=False)
    assert found.config.tied is config.tied and not found.training
    assert found.config.norm_eps == config.norm_eps
    wanted = rounded(model, kind)(tt.from_numpy(TOKENS)).detach().numpy()
    assert wanted.std() > 0.5
    assert np.array_equal(found(tt.from_numpy(TOKENS)).detach().numpy(), wanted)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
@pytest.mark.parametrize(
    "config", [LLAMA, replace(LLAMA, tied=True), GPT2], ids=["Llama", "Llama tied", "GPT-2"]
)
def test_blocks_stay_what_they_are(config, kind, tmp_path):
    """Ground truth: weights stand for the same numbers as the package's, to the last bit; memory as
    in the file; logits differ by what rounding activations to int8 does, with and without cache."""
    model = lively(config)
    path = written(tmp_path / "a.gguf", model, kind)
    found, exact = load_gguf(path), rounded(model, kind)
    own, held = exact.state_dict(), 0
    for name, part in found.named_modules():
        if isinstance(part, tt.nn.QuantizedWeight):
            held += 1
            assert np.array_equal(part.dequantize().numpy(), own[name].numpy()), name
            assert part.bits == int(kind[1]) and part.group == 32
    assert held == sum(len(p.shape) == 2 for p in model.parameters())
    assert not config.tied or found.head.weight is found.tokens.weight
    numbers = sum(p.size for p in model.parameters() if len(p.shape) == 2)
    size = sum(x.size * x.dtype.itemsize for x in found.state_dict().values())
    flat = sum(4 * p.size for p in model.parameters() if len(p.shape) == 1)
    twice = found.head.weight.nbytes if config.tied else 0  # a state has both names
    assert size - flat - twice == numbers // 32 * (34 if kind == "Q8_0" else 18)
    with tt.no_grad():
        logits, wanted = (m(tt.from_numpy(TOKENS)).numpy() for m in (found, exact))
        cache = found.new_cache(2)
        steps = [found(tt.from_numpy(TOKENS[:, i : i + 1]), cache).numpy() for i in range(24)]
    assert 0 < np.abs(logits - wanted).mean() < 0.05 * wanted.std()
    np.testing.assert_allclose(np.concatenate(steps, 1), logits, rtol=0, atol=0.2)


def test_parts_of_different_kinds_become_floats(tmp_path):
    """Invariant: q in F16 beside k and v in Q8_0 is one weight of floats; the rest stays blocks."""
    model = lively(LLAMA)
    path = written(tmp_path / "a.gguf", model, "Q8_0", halves={"blk.0.attn_q.weight"})
    found = load_gguf(path)
    assert isinstance(found.blocks[0].self_attn.in_proj_weight, tt.nn.Parameter)
    assert isinstance(found.blocks[1].self_attn.in_proj_weight, tt.nn.QuantizedWeight)
    wanted = load_gguf(path, quantized=False).blocks[0].self_attn.in_proj_weight
    assert np.array_equal(
        found.blocks[0].self_attn.in_proj_weight.detach().numpy(), wanted.detach().numpy()
    )


def test_types_of_weights(tmp_path):
    """Ground truth: what was asked for."""
    path = written(tmp_path / "a.gguf", lively(GPT2), "F16")
    assert {p.dtype.name for p in load_gguf(path, "bfloat16").parameters()} == {"bfloat16"}


TOKENIZER = {
    "add_tokenizer_model": "llama",
    "add_token_list": ([f"t{i}" for i in range(37)],),
    "add_token_scores": ([-float(i) for i in range(37)],),
    "add_bos_token_id": 1,
}


def test_the_tokenizer_is_plain_data(tmp_path):
    """Ground truth: what was written."""
    path = written(tmp_path / "a.gguf", lively(LLAMA), facts=TOKENIZER)
    load_gguf(path)
    found = tt.storage.read_gguf(path).metadata
    assert found["tokenizer.ggml.tokens"][36] == "t36" and found["tokenizer.ggml.model"] == "llama"
    assert found["tokenizer.ggml.scores"].tolist()[3] == -3.0
    assert found["tokenizer.ggml.bos_token_id"] == 1


def test_one_number_for_each_layer(tmp_path):
    """Invariant: a list of equal numbers is the number; of different ones no setting of ours."""
    model = lively(LLAMA)
    load_gguf(written(tmp_path / "a.gguf", model, facts={"add_head_count_kv": ([2, 2],)}))
    path = written(tmp_path / "b.gguf", model, facts={"add_head_count_kv": ([2, 4],)})
    with pytest.raises(FileFormatError, match="head_count_kv cannot be used"):
        load_gguf(path)


FACTS = {
    "another architecture": ({}, "mamba", "is of an architecture that TinyTorch does not have"),
    "no layers": ({"add_block_count": 0}, None, "llama.block_count cannot be used"),
    "no size": ({"add_embedding_length": None}, None, "llama.embedding_length cannot be used"),
    "no eps": ({"add_layer_norm_rms_eps": None}, None, "rms_epsilon cannot be used"),
    "eps 0": ({"add_layer_norm_rms_eps": 0.0}, None, "a number > 0"),
    "heads that do not divide": ({"add_head_count": 5}, None, "its sizes do not go together"),
    "keys that do not divide": ({"add_head_count_kv": 3}, None, "its sizes do not go together"),
    "rotary positions of a part": (
        {"add_rope_dimension_count": 8}, None, "dimension_count cannot be used",
    ),
    "positions stretched in another way": (
        {"add_rope_scaling_type": gguf.RopeScalingType.LONGROPE}, None,
        "scaling.type cannot be used",
    ),
    "positions stretched by nothing": (
        {"add_rope_scaling_type": gguf.RopeScalingType.LINEAR}, None,
        "scaling.factor cannot be used",
    ),
    "YaRN with another logarithm": (
        {"add_rope_scaling_type": gguf.RopeScalingType.YARN, "add_rope_scaling_factor": 4.0,
         "add_rope_scaling_yarn_log_mul": 0.5}, None, "yarn_log_multiplier cannot be used",
    ),
    "more layers": ({"add_block_count": 3}, None, "lacks weights"),
    "countless layers": ({"add_block_count": 2**31 - 1}, None, "lacks weights"),
    "fewer layers": ({"add_block_count": 1}, None, "no place for"),
    "another width": ({"add_feed_forward_length": 128}, None, "has another shape"),
    "other keys": ({"add_head_count_kv": 4}, None, "has another shape"),
    "another vocabulary": ({"add_vocab_size": 38}, None, "the vocabulary does not fit the model"),
    "other tokens": (
        {"add_token_list": (["a", "b"],)}, None, "a table of 37 tokens, .* 2 tokens named",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("facts", "architecture", "phrase"), FACTS.values(), ids=FACTS)
def test_facts_that_do_not_fit_are_named(facts, architecture, phrase, tmp_path):
    """Ground truth: the settings that our models have, and the arrays beside."""
    path = written(tmp_path / "a.gguf", lively(LLAMA), facts=facts, architecture=architecture)
    with pytest.raises(FileFormatError, match=phrase) as caught:
        load_gguf(path)
    error = caught.value
    assert all((error.what, error.got, error.rule, error.fix)) and str(path) in error.what


ARRAYS = {
    "no table": (lambda a: a.pop("token_embd.weight"), "no table of tokens"),
    "one is missing": (lambda a: a.pop("blk.1.attn_q.weight"), "lacks weights"),
    "a bias that we have not": (
        lambda a: a.update({"blk.0.attn_q.bias": np.zeros(64, np.float32)}), "no place for",
    ),
    "another shape": (
        lambda a: a.update({"blk.0.attn_q.weight": np.zeros((33, 64), np.float32)}),
        "has another shape",
    ),
    "stretched by nothing": (
        lambda a: a.update({"rope_freqs.weight": np.zeros(8, np.float32)}),
        "rope_freqs.weight cannot be used",
    ),
    "stretched frequencies of other heads": (
        lambda a: a.update({"rope_freqs.weight": np.ones(7, np.float32)}),
        "8 numbers > 0, one for each rotary pair",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "phrase"), ARRAYS.values(), ids=ARRAYS)
def test_arrays_that_do_not_fit_are_named(change, phrase, tmp_path):
    """Ground truth: the names and shapes of the architecture."""
    model = lively(LLAMA)
    arrays = arrays_of(model)
    change(arrays)
    with pytest.raises(FileFormatError, match=phrase):
        load_gguf(written(tmp_path / "a.gguf", model, arrays=arrays))


def test_frequencies_that_are_stretched(tmp_path):
    """Ground truth: a model with these factors."""
    factors = tuple(float(x) for x in np.linspace(1, 8, 8).astype(np.float32))
    model = lively(replace(LLAMA, rotary_factors=factors))
    arrays = arrays_of(model) | {"rope_freqs.weight": np.array(factors, np.float32)}
    found = load_gguf(written(tmp_path / "a.gguf", model, arrays=arrays))
    assert found.config.rotary_factors == factors
    x = tt.from_numpy(TOKENS)
    assert np.array_equal(found(x).detach().numpy(), model(x).detach().numpy())
    assert not np.allclose(found(x).detach().numpy(), lively(LLAMA)(x).detach().numpy(), atol=0.1)


def test_positions_that_are_stretched(tmp_path):
    """Ground truth: the formulas of rotary.py, which transformers confirms; a table of factors
    stretches on top of them."""
    linear = {"add_rope_scaling_type": gguf.RopeScalingType.LINEAR, "add_rope_scaling_factor": 3.0}
    found = load_gguf(written(tmp_path / "a.gguf", lively(LLAMA), facts=linear)).config
    assert found.rotary_factors == (3.0,) * 8 and found.rotary_scale == 1.0
    yarn = {
        "add_rope_scaling_type": gguf.RopeScalingType.YARN, "add_rope_scaling_factor": 4.0,
        "add_rope_scaling_orig_ctx_len": 64, "add_rope_scaling_yarn_beta_fast": 16.0,
        "add_rope_scaling_attn_factors": 1.5,
    }  # fmt: skip
    model = lively(LLAMA)
    path = written(tmp_path / "b.gguf", model, facts=yarn)
    wanted = yarn_factors(16, 50.0, 4.0, 16.0, 1.0, 64)
    found = load_gguf(path).config
    assert found.rotary_factors == pytest.approx(wanted) and max(wanted) == 4.0
    assert found.rotary_scale == pytest.approx(1.5 * yarn_scale(4.0))
    arrays = arrays_of(model) | {"rope_freqs.weight": np.full(8, 2.0, np.float32)}
    path = written(tmp_path / "c.gguf", model, facts=yarn, arrays=arrays)
    twice = load_gguf(path).config.rotary_factors
    assert twice == pytest.approx([2 * x for x in wanted])


def test_files_that_are_none(tmp_path):
    """Ground truth: a truncated file, another format, no file."""
    path = written(tmp_path / "a.gguf", lively(LLAMA))
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(FileFormatError, match="it ends early"):
        load_gguf(path)
    path.write_bytes(b"PK\x03\x04" + b"\0" * 40)
    with pytest.raises(FileFormatError, match="not a valid GGUF file"):
        load_gguf(path)
    with pytest.raises(NotFoundError):
        load_gguf(tmp_path / "none.gguf")
