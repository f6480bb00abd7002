"""Chapter "training": losses, the loop, and what is measured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tinytorch.data.dataset import Dataset
from tinytorch.data.loader import DataLoader
from tinytorch.nn.losses import CrossEntropyLoss, MSELoss
from tinytorch.nn.module import Module
from tinytorch.optim.adam import Adam
from tinytorch.training import Trainer, accuracy
from tinytorch.training.history import History

__all__ = [
    "CrossEntropyLoss", "MSELoss", "MeanSquaredError", "Trainer", "accuracy", "train_model",
    "train_one_epoch",
]  # fmt: skip

MeanSquaredError = MSELoss

BATCH = 64  # samples of a batch in the documents


def train_model(model: Module, data: Any, epochs: int = 1, lr: float = 1e-3) -> History:
    """Train a classifier with Adam and cross-entropy.

    Args:
        model: gives logits (N, K).
        data: a data set of (input, label), which is shuffled into batches of 64, or anything that
            gives batches.
        epochs: at least 0.
        lr: of Adam, in [0, inf); default Adam's.

    Returns:
        a row for each epoch: loss, accuracy, seconds.
    """
    return Trainer(model, Adam(lr=lr), CrossEntropyLoss()).train(_batches(data), epochs)


def train_one_epoch(model: Module, data: Any, lr: float = 1e-3) -> History:
    """`train_model` for one epoch."""
    return train_model(model, data, epochs=1, lr=lr)


def _batches(data: Any) -> Iterable:
    # A data set with batches of its own is asked for them.
    if hasattr(data, "take") and getattr(data, "batch_size", None) is None:
        dataset: Dataset = data
        return DataLoader(dataset, batch_size=BATCH, shuffle=True)
    return data
