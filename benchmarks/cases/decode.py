"""Tokens of a GPT-2 of 124 million weights, and its prompt, against llama.cpp and transformers.

The weights are random, from a seed, the same on all sides. llama.cpp gets them as a GGUF file that
the package `gguf` writes: `pip install gguf`, and `CMAKE_ARGS=-DGGML_NATIVE=ON pip install
--no-binary llama-cpp-python llama-cpp-python`. A run is STEPS tokens, each the likeliest, behind a
prompt of 32, or a prompt of 256.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.cases import Side

TITLE = "GPT-2 124M, random weights: tokens and prompts, batch 1"
LAYERS, HEADS, SIZE, VOCABULARY, LENGTH = 12, 12, 768, 50257, 1024
PROMPT, STEPS, LONG_PROMPT = 32, 16, 256
# ours -> llama.cpp's kind of file, and transformers' number type
PEERS = {"float32": ("F32", "float32"), "int8": ("Q8_0", "bfloat16"), "int4": ("Q4_0", "bfloat16")}
BITS = {"float32": 32, "int8": 8, "int4": 4.25}
LLAMA, FLASH, HUGGING = "llama.cpp", "llama.cpp with flash attention", "transformers"
LLAMA_ONE = "llama.cpp with one thread"
ALONE = "our one sequence"  # the same model, of several sequences the first one alone
WITHOUT_MKL = (LLAMA, FLASH, LLAMA_ONE, ALONE)
# Of the largest logit. Rounding to 8 bits leaves 1 % of each of 48 products, to 4 bits 9 %;
# llama.cpp rounds in groups of 32, and activations in groups of 32 too.
# llama.cpp keeps keys, values and GELU in float16: found were 6e-4, 0.06 and 0.41.
DIFFERENCE = {"float32": 2e-3, "int8": 0.1, "int4": 0.6}


def settings() -> list[dict]:
    """A token in three number types, eight sequences at once, a prompt."""
    rows = [{"kind": kind, "batch": 1, "prompt": False} for kind in PEERS]
    rows += [{"kind": "int8", "batch": 8, "prompt": False}]
    rows += [{"kind": kind, "batch": 1, "prompt": True} for kind in ("float32", "int8")]
    for row in rows:
        what = f"a prompt of {LONG_PROMPT}" if row["prompt"] else f"{STEPS} tokens"
        row["name"] = f"GPT-2 124M, {what}, batch {row['batch']}, {row['kind']}"
    return rows


def inputs(setting: dict) -> dict[str, np.ndarray]:
    """The prompt; weights are made from a seed by each side, which is faster than a file."""
    length = LONG_PROMPT if setting["prompt"] else PROMPT
    rng = np.random.default_rng(0)
    return {"tokens": rng.integers(0, VOCABULARY, (setting["batch"], length))}


def weights() -> dict[str, np.ndarray]:
    """By the names of our state."""
    rng = np.random.default_rng(1)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32) * np.float32(0.05)

    c, made = SIZE, {"tokens.weight": normal(VOCABULARY, SIZE)}
    made["positions.weight"] = normal(LENGTH, c)
    for i in range(LAYERS):
        shapes = {
            "self_attn.in_proj_": (3 * c, c), "self_attn.out_proj.": (c, c),
            "linear1.": (4 * c, c), "linear2.": (c, 4 * c),
        }  # fmt: skip
        for name, shape in shapes.items():
            made[f"blocks.{i}.{name}weight"] = normal(*shape)
            made[f"blocks.{i}.{name}bias"] = normal(shape[0])
        for norm in ("norm1", "norm2"):
            made[f"blocks.{i}.{norm}.weight"] = 1 + normal(c)
            made[f"blocks.{i}.{norm}.bias"] = normal(c)
    made["norm.weight"], made["norm.bias"] = 1 + normal(c), normal(c)
    return made


def our_model(kind: str):
    """The model with these weights, quantized where that is asked."""
    from tinytorch import compression
    from tinytorch.models import GPT, GPTConfig
    from tinytorch.nn.init import without_draws

    with without_draws():
        model = GPT(GPTConfig(VOCABULARY, LAYERS, HEADS, SIZE, LENGTH, mlp="gelu_tanh", tied=True))
    made = weights()
    model.load_state_dict(made | {"head.weight": made["tokens.weight"]})
    model.eval().requires_grad_(False)
    return model if kind == "float32" else compression.quantize(model, kind)


def ours(setting: dict, arrays: dict) -> Side:
    """One compiled function for a token, or the prompt; keys and values in a cache."""
    import tinytorch as tt

    model, tokens = our_model(setting["kind"]), tt.Tensor(arrays["tokens"])
    batch = setting["batch"]
    cache = model.new_cache(batch, LENGTH)

    def last(tokens):
        return model.head(model.features(tokens, cache)[:, -1:])[:, 0]

    first = tt.compile(last, freeze=True)

    @tt.compile(freeze=True)
    def following(tokens):
        return last(tokens).argmax(-1).reshape(batch, 1)

    def prompt():
        cache.clear()
        return first(tokens)

    logits = prompt().numpy().copy()
    start = tt.Tensor(logits.argmax(-1).reshape(batch, 1))

    def run():
        token = start
        for _ in range(STEPS):
            token = following(token)
        return token.numpy()

    def steps():
        run()
        cache.cut(PROMPT)

    return Side(prompt if setting["prompt"] else steps, lambda: {"logits": logits[:1]})


def peer(setting: dict, variant: str, arrays: dict) -> Side:
    """llama.cpp by its own functions, transformers, or our model with one sequence."""
    if variant == ALONE:
        return ours(setting | {"batch": 1}, {"tokens": arrays["tokens"][:1]})
    make = _transformers if variant == HUGGING else _llama
    return make(setting, variant, arrays)


def _gguf_names(name: str) -> str:
    """llama.cpp's name of one of our weights."""
    fixed = {"tokens": "token_embd", "positions": "position_embd", "norm": "output_norm"}
    parts = {
        "norm1": "attn_norm", "self_attn.in_proj": "attn_qkv", "self_attn.out_proj": "attn_output",
        "norm2": "ffn_norm", "linear1": "ffn_up", "linear2": "ffn_down",
    }  # fmt: skip
    name = name.replace("in_proj_", "in_proj.")
    stem, _, last = name.rpartition(".")
    if stem in fixed:
        return f"{fixed[stem]}.{last}"
    _, layer, part = stem.split(".", 2)
    return f"blk.{layer}.{parts[part]}.{last}"


def write_gguf(path: Path, kind: str) -> None:
    """The weights as a file of llama.cpp; matrices in its type `kind`."""
    import gguf

    writer = gguf.GGUFWriter(str(path), "gpt2")
    writer.add_context_length(LENGTH)
    writer.add_embedding_length(SIZE)
    writer.add_feed_forward_length(4 * SIZE)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"t{i}" for i in range(VOCABULARY)])
    writer.add_token_types([1] * VOCABULARY)
    writer.add_token_merges(["t 0"])
    type = gguf.GGMLQuantizationType[kind]
    for name, x in weights().items():
        own = type if x.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(_gguf_names(name), gguf.quants.quantize(x, own), raw_dtype=own)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _llama(setting: dict, variant: str, arrays: dict) -> Side:
    import llama_cpp

    path = Path(tempfile.gettempdir()) / f"tinytorch-gpt2-{PEERS[setting['kind']][0]}.gguf"
    if not path.exists():
        whole = path.with_suffix(f".{os.getpid()}")
        write_gguf(whole, PEERS[setting["kind"]][0])
        whole.replace(path)
    threads = 1 if variant == LLAMA_ONE else int(os.environ["OMP_NUM_THREADS"])
    batch = setting["batch"]
    llama_cpp.llama_backend_init()
    given = llama_cpp.llama_model_default_params()
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), given)
    wanted = llama_cpp.llama_context_default_params()
    wanted.n_ctx, wanted.n_batch, wanted.n_ubatch = LENGTH * batch, 512, 512
    wanted.n_seq_max, wanted.n_threads, wanted.n_threads_batch = batch, threads, threads
    flash = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
    wanted.flash_attn_type = flash if variant == FLASH else 0
    context = llama_cpp.llama_init_from_model(model, wanted)
    memory = llama_cpp.llama_get_memory(context)

    def feed(tokens: np.ndarray, place: int) -> np.ndarray:
        """Tokens (batch, T) at a place; logits of the last of each."""
        b, t = tokens.shape
        held = llama_cpp.llama_batch_init(b * t, 0, 1)
        held.n_tokens = b * t
        for i in range(b * t):
            sequence, at = divmod(i, t)
            held.token[i], held.pos[i] = int(tokens[sequence, at]), place + at
            held.n_seq_id[i], held.seq_id[i][0], held.logits[i] = 1, sequence, at == t - 1
        if llama_cpp.llama_decode(context, held):
            raise RuntimeError("llama_decode failed")
        found = [
            np.ctypeslib.as_array(
                llama_cpp.llama_get_logits_ith(context, i * t + t - 1), (VOCABULARY,)
            )
            for i in range(b)
        ]
        llama_cpp.llama_batch_free(held)
        return np.stack(found)

    tokens = arrays["tokens"]

    def prompt():
        llama_cpp.llama_memory_clear(memory, True)
        return feed(tokens, 0)

    logits = prompt()
    start = logits.argmax(-1).reshape(batch, 1)

    def steps():
        token = start
        for i in range(STEPS):
            token = feed(token, PROMPT + i).argmax(-1).reshape(batch, 1)
        llama_cpp.llama_memory_seq_rm(memory, -1, PROMPT, -1)

    return Side(prompt if setting["prompt"] else steps, lambda: {"logits": logits[:1]})


def _transformers(setting: dict, variant: str, arrays: dict) -> Side:
    import torch
    from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

    config = GPT2Config(attn_implementation="sdpa")
    with torch.device("meta"):
        model = GPT2LMHeadModel(config)
    type = getattr(torch, PEERS[setting["kind"]][1])
    state = {}
    names = {
        "norm1": "ln_1", "self_attn.in_proj": "attn.c_attn", "self_attn.out_proj": "attn.c_proj",
        "norm2": "ln_2", "linear1": "mlp.c_fc", "linear2": "mlp.c_proj",
    }  # fmt: skip
    for name, x in weights().items():
        stem, _, last = name.replace("in_proj_", "in_proj.").rpartition(".")
        fixed = {"tokens": "wte", "positions": "wpe", "norm": "ln_f"}
        if stem in fixed:
            state[f"transformer.{fixed[stem]}.{last}"] = torch.from_numpy(x).to(type)
            continue
        _, layer, part = stem.split(".", 2)
        turned = x.T if x.ndim == 2 else x  # its Conv1D holds (in, out)
        value = torch.from_numpy(np.ascontiguousarray(turned)).to(type)
        state[f"transformer.h.{layer}.{names[part]}.{last}"] = value
    model.load_state_dict(state, strict=False, assign=True)
    model.tie_weights()
    model.eval()
    tokens = torch.from_numpy(arrays["tokens"])

    def feed(tokens, cache):
        with torch.inference_mode():
            return model(tokens, past_key_values=cache, logits_to_keep=1).logits[:, -1]

    def prompt():
        return feed(tokens, DynamicCache())

    held = DynamicCache()
    logits = feed(tokens, held)
    start = logits.argmax(-1, keepdim=True)

    def steps():
        token = start
        for _ in range(STEPS):
            token = feed(token, held).argmax(-1, keepdim=True)
        held.crop(-STEPS)

    shown = logits[:1].float().numpy()
    return Side(prompt if setting["prompt"] else steps, lambda: {"logits": shown})


def variants(setting: dict) -> list[str]:
    """llama.cpp with both ways of attention and with one thread; of tokens transformers too."""
    if setting["prompt"]:
        return [LLAMA, FLASH, LLAMA_ONE]
    return [LLAMA, FLASH, LLAMA_ONE, HUGGING if setting["batch"] == 1 else ALONE]


def tolerance(setting: dict) -> float:
    """See DIFFERENCE."""
    return DIFFERENCE[setting["kind"]]


def work(setting: dict) -> tuple[int, int]:
    """Two operations a weight and token; a step reads all weights, whatever the batch."""
    held = 12 * LAYERS * SIZE**2 + VOCABULARY * SIZE
    count = LONG_PROMPT if setting["prompt"] else STEPS * setting["batch"]
    read = held * BITS[setting["kind"]] / 8 * (1 if setting["prompt"] else STEPS)
    return 2 * held * count, int(read)
