"""A training step of two LSTM layers that read a sequence and name its class."""

from __future__ import annotations

import numpy as np

from benchmarks import training_step
from benchmarks.cases import Side, numbers

TITLE = "training step, LSTM of 2 layers, 256 wide, 64 steps, batch 32, AdamW"
WIDTH, LAYERS, BATCH, CLASSES = 256, 2, 32, 10
LENGTH = 64


def settings() -> list[dict]:
    """float32."""
    return [{"name": "lstm float32", "precision": "float32", "length": LENGTH}]


def define(nn):
    """The network in either framework's nn; both take the same names."""

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(WIDTH, WIDTH, LAYERS, batch_first=True)
            self.head = nn.Linear(WIDTH, CLASSES)

        def forward(self, x):
            out, _ = self.lstm(x)
            return self.head(out[:, -1])

    return Network()


def inputs(setting: dict) -> dict[str, np.ndarray]:
    """Weights, random sequences and labels."""
    import tinytorch as tt

    tt.manual_seed(0)
    labels = np.random.default_rng(2).integers(0, CLASSES, BATCH)
    batch = {"x": numbers((BATCH, setting["length"], WIDTH), 1), "y": labels}
    return training_step.with_weights(define(tt.nn), batch)


def ours(setting: dict, arrays: dict) -> Side:
    """tinytorch.nn.LSTM."""
    from tinytorch import nn

    return training_step.ours(define(nn), lambda x: x, arrays, setting["precision"])


def peer(setting: dict, variant: str, arrays: dict) -> Side:
    """torch.nn.LSTM."""
    from torch import nn

    return training_step.theirs(define(nn), lambda x: x, arrays, setting["precision"], variant)


def variants(setting: dict) -> list[str]:
    """Both ways PyTorch can be run."""
    return training_step.variants(setting["precision"])


def tolerance(setting: dict) -> float:
    """See training_step; gates between 0 and 1 keep an error from growing over the steps."""
    return training_step.tolerance(setting["precision"])


def work(setting: dict) -> tuple[int, int]:
    """48 H^2 operations for each token and layer: 16 forward and twice that backward, less the
    gradient of the first layer's input."""
    tokens = BATCH * setting["length"]
    return tokens * (LAYERS * 48 * WIDTH * WIDTH - 8 * WIDTH * WIDTH), 0
