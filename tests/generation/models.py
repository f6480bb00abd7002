"""Small language models for the tests of generation, and decoding without a cache."""

from __future__ import annotations

import numpy as np

import tinytorch as tt
from tinytorch.models import GPT, GPTConfig

LEARNED = GPTConfig(vocab=50, layers=2, heads=2, size=32, length=96)
ROTARY = GPTConfig(
    vocab=50, layers=2, heads=4, size=32, length=96, kv_heads=2, positions="rotary", norm="rms",
    mlp="swiglu", bias=False,
)  # fmt: skip


def made(config: GPTConfig = LEARNED, seed: int = 0, sharp: float = 8.0) -> GPT:
    """A model with random weights whose logits are far enough apart to be told from each other."""
    tt.manual_seed(seed)
    model = GPT(config).eval()
    with tt.no_grad():
        for p in model.parameters():
            if len(p.shape) > 1:
                p.assign_(p * sharp)
    return model


def logits_of(model: GPT, tokens) -> np.ndarray:
    """All logits (T, V) without a cache, eagerly."""
    with tt.no_grad():
        return model(tt.Tensor(np.asarray([tokens], np.int64))).numpy()[0]


def greedy(model: GPT, prompt, count: int) -> list[int]:
    """The most probable tokens, everything computed again for each."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(logits_of(model, tokens)[-1].argmax()))
    return tokens[len(prompt) :]
