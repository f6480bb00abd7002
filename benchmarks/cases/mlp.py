"""A training step of a small network, where the framework's own cost shows."""

from __future__ import annotations

import numpy as np

from benchmarks import training_step
from benchmarks.cases import Side, numbers

TITLE = "training step, MLP 784-256-128-10, batch 64, AdamW"
SIZES = (784, 256, 128, 10)
BATCH = 64


def settings() -> list[dict]:
    """float32 and bf16."""
    return [{"name": f"mlp {p}", "precision": p} for p in ("float32", "bf16")]


def inputs(setting: dict) -> dict[str, np.ndarray]:
    """Weights, random images and labels."""
    import tinytorch as tt
    from tinytorch.models import MLP

    tt.manual_seed(0)
    labels = np.random.default_rng(2).integers(0, SIZES[-1], BATCH)
    return training_step.with_weights(MLP(SIZES), {"x": numbers((BATCH, SIZES[0]), 1), "y": labels})


def ours(setting: dict, arrays: dict, compiled: bool = True) -> Side:
    """tinytorch.models.MLP."""
    from tinytorch.models import MLP

    return training_step.ours(MLP(SIZES), lambda x: x, arrays, setting["precision"], compiled)


def peer(setting: dict, variant: str, arrays: dict) -> Side:
    """The same network of torch.nn."""
    from torch import nn

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            pairs = zip(SIZES, SIZES[1:], strict=False)
            self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)

        def forward(self, x):
            for layer in self.layers[:-1]:
                x = nn.functional.relu(layer(x))
            return self.layers[-1](x)

    return training_step.theirs(Network(), lambda x: x, arrays, setting["precision"], variant)


def variants(setting: dict) -> list[str]:
    """Both ways PyTorch can be run."""
    return ["eager", "compile"]


def tolerance(setting: dict) -> float:
    """See training_step."""
    return training_step.tolerance(setting["precision"])


def work(setting: dict) -> tuple[int, int]:
    """6 operations a weight and sample less the first layer's input gradient; 7 passes over the
    weights, gradients and averages by AdamW."""
    weights = [a * b for a, b in zip(SIZES, SIZES[1:], strict=False)]
    return BATCH * (6 * sum(weights) - 2 * weights[0]), 0  # all of it stays in the last cache
