"""A training step of a character-level GPT, where matrix products and attention count."""

from __future__ import annotations

import numpy as np

from benchmarks import training_step
from benchmarks.cases import Side

TITLE = "training step, GPT 6 layers, 384 wide, 6 heads, 12 x 256 tokens, AdamW"
LAYERS, HEADS, WIDTH, VOCABULARY = 6, 6, 384, 65
BATCH, LENGTH = 12, 256


def settings() -> list[dict]:
    """float32 and bf16."""
    return [{"name": f"gpt {p}", "precision": p} for p in ("float32", "bf16")]


def our_model():
    """tinytorch.models.GPT of this size."""
    from tinytorch.models import GPT, GPTConfig

    return GPT(GPTConfig(VOCABULARY, LAYERS, HEADS, WIDTH, LENGTH))


def inputs(setting: dict) -> dict[str, np.ndarray]:
    """Weights, random tokens and the tokens that follow."""
    import tinytorch as tt

    tt.manual_seed(0)
    tokens = np.random.default_rng(1).integers(0, VOCABULARY, (BATCH, LENGTH + 1))
    batch = {"x": np.ascontiguousarray(tokens[:, :-1]), "y": tokens[:, 1:].reshape(-1)}
    return training_step.with_weights(our_model(), batch)


def ours(setting: dict, arrays: dict) -> Side:
    """Our model, one program a step."""
    return training_step.ours(our_model(), rows, arrays, setting["precision"])


def peer(setting: dict, variant: str, arrays: dict) -> Side:
    """The same model of torch.nn."""
    return training_step.theirs(their_model(), rows, arrays, setting["precision"], variant)


def rows(logits):
    """(B, T, V) -> (B T, V)."""
    return logits.reshape(-1, VOCABULARY)


def their_model():
    """The model in PyTorch, with the same names of weights."""
    import torch
    from torch import nn

    from benchmarks import peer_transformer

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(VOCABULARY, WIDTH)
            self.positions = nn.Embedding(LENGTH, WIDTH)
            blocks = (peer_transformer.block(WIDTH, HEADS, True) for _ in range(LAYERS))
            self.blocks = nn.ModuleList(blocks)
            self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY, bias=False)

        def forward(self, tokens):
            x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x))

    return Model()


def variants(setting: dict) -> list[str]:
    """Both ways PyTorch can be run."""
    return training_step.variants(setting["precision"])


def tolerance(setting: dict) -> float:
    """See training_step."""
    return training_step.tolerance(setting["precision"])


def work(setting: dict) -> tuple[int, int]:
    """6 operations a weight and token; attention forward 4 D and backward 10 D a seen pair."""
    weights = LAYERS * 12 * WIDTH * WIDTH + WIDTH * VOCABULARY
    pairs = BATCH * HEADS * LENGTH * (LENGTH + 1) // 2
    return 6 * weights * BATCH * LENGTH + LAYERS * 14 * (WIDTH // HEADS) * pairs, 0
