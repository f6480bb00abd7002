"""Language models against transformers, with the same weights: logits, folders both ways."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

import tinytorch as tt
from tests.models import test_gguf as made_gguf
from tinytorch.models import load_folder, load_gguf, save_folder

pytestmark = pytest.mark.peer
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

SMALL_GPT2 = {"vocab_size": 37, "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 20,
              "bos_token_id": 0, "eos_token_id": 0}  # fmt: skip
SMALL_LLAMA = {"vocab_size": 37, "hidden_size": 32, "intermediate_size": 40,
               "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
               "max_position_embeddings": 20}  # fmt: skip
SMALL_BERT = {"vocab_size": 37, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
              "num_attention_heads": 3, "max_position_embeddings": 20}  # fmt: skip


def gpt2(**more):
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**SMALL_GPT2, **more))


def llama(**more):
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**SMALL_LLAMA, **more}))


def bert(kind, **more):
    return getattr(transformers, kind)(transformers.BertConfig(**SMALL_BERT, **more))


YARN = {
    "rope_type": "yarn", "rope_theta": 50.0, "factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
PEERS = {
    "GPT-2": lambda: gpt2(),
    "GPT-2 untied, exact GELU": lambda: gpt2(
        tie_word_embeddings=False, activation_function="gelu", n_inner=31
    ),
    "Llama": lambda: llama(),
    "Llama tied, another base and eps": lambda: llama(
        tie_word_embeddings=True, rms_norm_eps=1e-2,
        rope_parameters={"rope_type": "default", "rope_theta": 50.0},
    ),
    "Llama 3.1": lambda: llama(rope_parameters={
        "rope_type": "llama3", "rope_theta": 100.0, "factor": 4.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
    }),
    "Llama with longer waves": lambda: llama(
        rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 3.0}
    ),
    "Llama with YaRN": lambda: llama(rope_parameters=YARN),
    "Llama with YaRN as it was asked": lambda: llama(rope_parameters={
        **YARN, "attention_factor": 0.7, "beta_fast": 4.0, "beta_slow": 2.0, "truncate": False,
    }),
    "Llama with YaRN of two scales": lambda: llama(rope_parameters={
        **YARN, "mscale": 0.8, "mscale_all_dim": 0.5,
    }),
    "Llama with biases, one head of keys": lambda: llama(
        attention_bias=True, mlp_bias=True, num_key_value_heads=1
    ),
    "BERT": lambda: bert("BertModel"),
    "BERT masked": lambda: bert("BertForMaskedLM", hidden_act="gelu_new"),
    "BERT classifier": lambda: bert("BertForSequenceClassification", num_labels=3),
}  # fmt: skip


def lively(model):
    """With weights whose sizes make logits differ by 1, norms and biases among them."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn(p.shape) * (0.3 if p.ndim > 1 else 0.1))
            if "norm" in name.lower() and name.endswith("weight") or ".ln_" in name:
                p.add_(1.0)
    return model.eval()


def theirs(model, tokens, **more) -> np.ndarray:
    with torch.no_grad():
        out = model(torch.from_numpy(tokens), **{n: torch.from_numpy(x) for n, x in more.items()})
    return (out.last_hidden_state if hasattr(out, "last_hidden_state") else out.logits).numpy()


TOKENS = np.random.default_rng(0).integers(0, 37, (3, 20))


@pytest.mark.parametrize("make", PEERS.values(), ids=PEERS)
def test_logits_of_a_folder_that_transformers_wrote(make, tmp_path):
    """Ground truth: transformers on the same weights; 1e-4 of logits of size 1, float32."""
    peer = lively(make())
    peer.save_pretrained(tmp_path)
    wanted = theirs(peer, TOKENS)
    assert wanted.std() > 0.5
    model = load_folder(tmp_path)
    np.testing.assert_allclose(
        model(tt.from_numpy(TOKENS)).detach().numpy(), wanted, rtol=0, atol=1e-4
    )
    if hasattr(model, "new_cache"):
        cache = model.new_cache(3)
        steps = [model(tt.from_numpy(TOKENS[:, i : i + 1]), cache) for i in range(20)]
        found = np.concatenate([y.detach().numpy() for y in steps], 1)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shard_bytes", [5_000_000_000, 3000])
@pytest.mark.parametrize("make", PEERS.values(), ids=PEERS)
def test_transformers_reads_the_folders_we_write(make, shard_bytes, tmp_path):
    """Ground truth: transformers on a folder of ours gives what it gave before, to the last bit, as
    the weights went through our model unchanged; factors of rotary waves are rounded once more."""
    peer = lively(make())
    peer.save_pretrained(tmp_path / "theirs")
    save_folder(load_folder(tmp_path / "theirs"), tmp_path / "ours", shard_bytes)
    assert (tmp_path / "ours" / "model.safetensors.index.json").exists() is (shard_bytes == 3000)
    again, facts = type(peer).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not facts["missing_keys"] and not facts["unexpected_keys"]
    found, wanted = theirs(again.eval(), TOKENS), theirs(peer, TOKENS)
    if getattr(peer.config, "rope_parameters", {"rope_type": "default"})["rope_type"] == "default":
        assert np.array_equal(found, wanted)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_shards_that_transformers_wrote(tmp_path):
    """Ground truth: the same model in one file."""
    peer = lively(llama())
    peer.save_pretrained(tmp_path, max_shard_size="5KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 3
    found = load_folder(tmp_path)(tt.from_numpy(TOKENS)).detach().numpy()
    np.testing.assert_allclose(found, theirs(peer, TOKENS), rtol=0, atol=1e-4)


@pytest.mark.parametrize("make", [gpt2, llama, lambda: bert("BertForMaskedLM")])
def test_weights_of_half_precision(make, tmp_path):
    """Ground truth: transformers with the weights rounded to bfloat16, computed in float32."""
    peer = lively(make()).to(torch.bfloat16)
    peer.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    found = load_folder(tmp_path)(tt.from_numpy(TOKENS)).detach().numpy()
    # Read again: peer.float() would keep rotary frequencies that were rounded to bfloat16.
    again = type(peer).from_pretrained(tmp_path, dtype=torch.float32).eval()
    np.testing.assert_allclose(found, theirs(again, TOKENS), rtol=0, atol=1e-4)
    kept = load_folder(tmp_path, dtype="bfloat16")
    assert {p.dtype.name for p in kept.parameters()} == {"bfloat16"}


@pytest.mark.parametrize("kind", ["BertModel", "BertForMaskedLM", "BertForSequenceClassification"])
def test_masks_and_segments_of_bert(kind, tmp_path):
    """Ground truth: transformers with attention_mask and token_type_ids."""
    peer = lively(bert(kind, num_labels=3))
    peer.save_pretrained(tmp_path)
    rng = np.random.default_rng(1)
    segments = rng.integers(0, 2, TOKENS.shape)
    mask = np.arange(20) < np.array([[20], [7], [1]])
    wanted = theirs(peer, TOKENS, attention_mask=mask.astype(int), token_type_ids=segments)
    model = load_folder(tmp_path)
    found = model(tt.from_numpy(TOKENS), tt.Tensor(mask), tt.from_numpy(segments)).detach().numpy()
    if kind != "BertForSequenceClassification":  # what stands at padding nobody reads
        found, wanted = found[mask], wanted[mask]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)
    if kind == "BertModel":
        with torch.no_grad():
            pooled = peer(torch.from_numpy(TOKENS)).pooler_output.numpy()
        mine = model.pooled(model(tt.from_numpy(TOKENS))).detach().numpy()
        np.testing.assert_allclose(mine, pooled, rtol=0, atol=1e-4)


def test_names_of_old_files(tmp_path):
    """Ground truth: the names in OpenAI's GPT-2 (no prefix, masks beside) and Google's BERT."""
    from safetensors.numpy import load_file, save_file

    for make, rename in (
        (gpt2, lambda n: n.removeprefix("transformer.")),
        (
            lambda: bert("BertForMaskedLM"),
            lambda n: n.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"),
        ),
    ):
        peer = lively(make())
        peer.save_pretrained(tmp_path)
        arrays = load_file(tmp_path / "model.safetensors")
        arrays = {rename(n): x for n, x in arrays.items()}
        if make is gpt2:
            arrays["h.0.attn.bias"] = np.ones((1, 1, 20, 20), np.float32)
        else:
            arrays["cls.seq_relationship.weight"] = np.ones((2, 24), np.float32)
        save_file(arrays, tmp_path / "model.safetensors")
        found = load_folder(tmp_path)(tt.from_numpy(TOKENS)).detach().numpy()
        np.testing.assert_allclose(found, theirs(peer, TOKENS), rtol=0, atol=1e-4)


def test_greedy_text_is_theirs(tmp_path):
    """Ground truth: transformers' generate without sampling, token for token."""
    peer = lively(llama())
    peer.save_pretrained(tmp_path)
    start = torch.from_numpy(TOKENS[:1, :4])
    wanted = peer.generate(start, max_new_tokens=16, do_sample=False, eos_token_id=None)
    model = load_folder(tmp_path)
    cache, tokens, text = model.new_cache(1), tt.from_numpy(TOKENS[:1, :4]), [*TOKENS[0, :4]]
    for _ in range(16):
        text.append(int(model(tokens, cache)[0, -1].argmax().item()))
        tokens = tt.tensor([[text[-1]]])
    assert text == wanted[0].tolist()


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_0"])
@pytest.mark.parametrize(
    "config",
    [made_gguf.LLAMA, replace(made_gguf.GPT2, hidden=256, length=1024)],  # what they assume
    ids=["Llama", "GPT-2"],
)
def test_gguf_files_as_transformers_reads_them(config, kind, tmp_path):
    """Ground truth: transformers on the same file, which it turns into float32 by itself."""
    model, path = made_gguf.lively(config), tmp_path / "a.gguf"
    made_gguf.written(path, model, kind, facts=made_gguf.TOKENIZER)
    names = {"llama": transformers.LlamaForCausalLM, "gpt2": transformers.GPT2LMHeadModel}
    peer = names["gpt2" if config.positions == "learned" else "llama"].from_pretrained(
        tmp_path, gguf_file="a.gguf", dtype=torch.float32
    )
    tokens = np.random.default_rng(0).integers(0, 37, (2, 24))
    found = load_gguf(path, quantized=False)(tt.from_numpy(tokens)).detach().numpy()
    np.testing.assert_allclose(found, theirs(peer.eval(), tokens), rtol=0, atol=1e-4)
