"""What a saved model says to images.

Knows logits and probabilities, never pictures on a terminal.
"""

from __future__ import annotations

from functools import cache

import numpy as np

import tinytorch as tt
from tinytorch.cli.saved_model import SavedModel
from tinytorch.nn import Module
from tinytorch.training import Trainer
from tinytorch.training.progress import Silent


def logits_of(saved: SavedModel, images: np.ndarray, eager: bool = False) -> np.ndarray:
    """(N, C, H, W) -> (N, K), compiled or line by line."""
    return _asked(saved.network, eager).predict(images, batch_size=max(1, len(images))).numpy()


@cache
def _asked(network: Module, eager: bool) -> Trainer:
    sgd = tt.optim.SGD(network.parameters(), lr=0.0)  # nothing is trained
    return Trainer(network, sgd, compile=not eager, progress=Silent())


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of each row.

    Example:
        >>> softmax(np.zeros((1, 4)))
        array([[0.25, 0.25, 0.25, 0.25]])
    """
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
