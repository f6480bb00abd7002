"""A training step of a vision transformer on pictures of CIFAR's size."""

from __future__ import annotations

import numpy as np

from benchmarks import training_step
from benchmarks.cases import Side, numbers

TITLE = "training step, ViT 32/4, 256 wide, 6 blocks, 8 heads, batch 64, AdamW"
SIZE, PATCH, WIDTH, DEPTH, HEADS, CLASSES = 32, 4, 256, 6, 8, 10
HIDDEN = 128  # of the classifier
BATCH = 64
TOKENS = (SIZE // PATCH) ** 2
PIXELS = 3 * PATCH * PATCH  # numbers of a patch


def settings() -> list[dict]:
    """float32 and bf16."""
    return [{"name": f"vit {p}", "precision": p} for p in ("float32", "bf16")]


def our_model():
    """tinytorch.models.VisionTransformer of this size."""
    from tinytorch.models import VisionTransformer

    return VisionTransformer(SIZE, PATCH, WIDTH, depth=DEPTH, heads=HEADS, classes=CLASSES)


def their_model():
    """The model in PyTorch, with the same names of weights."""
    import torch
    from torch import nn

    from benchmarks import peer_transformer

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, CLASSES)])

        def forward(self, x):
            return self.layers[1](nn.functional.relu(self.layers[0](x)))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch_embedding = nn.Linear(PIXELS, WIDTH)
            self.positions = nn.Parameter(torch.zeros(TOKENS, WIDTH))
            blocks = (peer_transformer.block(WIDTH, HEADS, False) for _ in range(DEPTH))
            self.blocks = nn.ModuleList(blocks)
            self.norm, self.classifier = nn.LayerNorm(WIDTH), Classifier()

        def forward(self, x):
            n = SIZE // PATCH
            x = x.reshape(x.shape[0], 3, n, PATCH, n, PATCH).permute(0, 2, 4, 1, 3, 5)
            x = self.patch_embedding(x.reshape(x.shape[0], TOKENS, PIXELS)) + self.positions
            for block in self.blocks:
                x = block(x)
            return self.classifier(self.norm(x).mean(1))

    return Model()


def inputs(setting: dict) -> dict[str, np.ndarray]:
    """Weights, random pictures and labels."""
    import tinytorch as tt

    tt.manual_seed(0)
    labels = np.random.default_rng(2).integers(0, CLASSES, BATCH)
    batch = {"x": numbers((BATCH, 3, SIZE, SIZE), 1), "y": labels}
    return training_step.with_weights(our_model(), batch)


def ours(setting: dict, arrays: dict) -> Side:
    """Our model, one program a step."""
    return training_step.ours(our_model(), lambda x: x, arrays, setting["precision"])


def peer(setting: dict, variant: str, arrays: dict) -> Side:
    """The same model of torch.nn."""
    return training_step.theirs(their_model(), lambda x: x, arrays, setting["precision"], variant)


def variants(setting: dict) -> list[str]:
    """Both ways PyTorch can be run."""
    return training_step.variants(setting["precision"])


def tolerance(setting: dict) -> float:
    """See training_step."""
    return training_step.tolerance(setting["precision"])


def work(setting: dict) -> tuple[int, int]:
    """6 operations a weight and token (the first layer has no input gradient); 14 D for every pair
    of tokens that attention sees."""
    weights = DEPTH * 12 * WIDTH * WIDTH
    ends = 4 * PIXELS * WIDTH * TOKENS + 6 * (WIDTH + CLASSES) * HIDDEN
    pairs = HEADS * TOKENS * TOKENS
    return BATCH * (6 * weights * TOKENS + ends + DEPTH * 14 * (WIDTH // HEADS) * pairs), 0
