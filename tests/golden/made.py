"""Writes the golden checkpoints, once for each version of the format: python -m tests.golden.made

What is there is never written again: it stands for the files that users of that version have.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.dtypes import DTYPES
from tinytorch.data import ArrayDataset, DataLoader
from tinytorch.training import Checkpoints, Trainer, save_checkpoint
from tinytorch.training.history import Silent

FOLDER = Path(__file__).resolve().parent
VALUES, RUN, ENDED = FOLDER / "values-v1", FOLDER / "run-v1", FOLDER / "run-v1.json"


def values() -> dict:
    """One of every kind of value that a state can hold."""
    every = {d.name: tt.Tensor(np.arange(6).reshape(2, 3) % 2, dtype=d) for d in DTYPES}
    return {
        "model": {**every, "empty": tt.zeros(0, 4), "number": tt.Tensor(1.5)},
        "tree": {
            "none": None, "yes": True, "whole": -(2**70), "real": 0.1, "text": 'é\n"',
            "bytes": b"\0\xff", "pair": (1, [2.5, ()]), "not finite": [float("nan"), float("-inf")],
            "$key": {"$array": "no array"}, "scalar": np.float32(0.1),
            "state": np.array([2**64 - 1, 0], np.uint64), "words": np.array(["a", "long"]),
        },
    }  # fmt: skip


def loader() -> DataLoader:
    """Five batches an epoch, the last smaller."""
    x = (np.arange(18 * 6).reshape(18, 6) * 7 % 11 / 5 - 1).astype(np.float32)
    return DataLoader(ArrayDataset(x, (x[:, 0] > 0).astype(np.int64)), 4, shuffle=True, seed=3)


def trainer() -> Trainer:
    """Everything that has state, small."""
    tt.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.25))
    model.append(nn.Linear(5, 2))
    optimizer = tt.optim.AdamW(model.parameters(), lr=0.01)
    return Trainer(
        model, optimizer, schedule=tt.optim.StepLR(optimizer, 1, 0.5), accumulate=2, ema=0.9,
        clip_norm=1.0, compile=False, progress=Silent(),
    )  # fmt: skip


def ended(run: Trainer) -> dict:
    """What a run ended with, as JSON: every weight, and the loss of every epoch."""
    weights = {name: x.numpy().tolist() for name, x in run.model.state_dict().items()}
    return {"weights": weights, "loss": run.run.history["loss"], "steps": run.steps}


class Stop(tt.training.Callback):
    """Ends the run in the middle of its second epoch, gradients of one batch in flight."""

    def after_batch(self, trainer, values):
        """Stop after eight of fifteen batches."""
        if trainer.steps == 8:
            trainer.stop("for the golden file")


def main() -> None:
    """Write what is not there yet."""
    if not VALUES.exists():
        save_checkpoint(VALUES, values(), {"step": 1, "metrics": {"loss": float("nan")}})
    if not RUN.exists():
        run = trainer()
        run.callbacks = type(run.callbacks)([Stop()])
        run.train(loader(), 3, checkpoint=Checkpoints(RUN, keep=1))
        whole = trainer()
        whole.train(loader(), 3)
        ENDED.write_text(json.dumps(ended(whole), indent=1) + "\n")


if __name__ == "__main__":
    main()
