"""A small training run that ends itself with SIGKILL at a moment it is told, for `kills.py`.

    python -m tests.training.killed_run FOLDER --loader threads --compiled --die rename:7

Everything that has state is in it: batch normalisation, dropout, AdamW, a schedule, accumulation
over three batches, clipping, averaged weights, shuffled data, random crops and flips made by the
workers, a last batch that is smaller, validation, a callback with state. Prints a line "begin", and
at the end a line of JSON: how often each moment came, and a digest of every number the run ended
with.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
from collections import Counter

import numpy as np

import tinytorch as tt
from tinytorch import nn
from tinytorch.data import ArrayDataset, Compose, DataLoader, RandomCrop, RandomFlip
from tinytorch.storage import folder as storage_folder
from tinytorch.training import Checkpoints, EarlyStopping, Trainer
from tinytorch.training.history import Silent
from tinytorch.training.trainer import Callback

EPOCHS, SAMPLES, BATCH = 3, 75, 8  # ten batches an epoch, the last of three samples
MOMENTS = ("before_batch", "after_update", "end_validation", "write", "fsync", "rename", "remove")
LOADERS = {
    "none": {},
    "threads": {"workers": 2},
    "processes": {"workers": 2, "processes": True},
}


class Death:
    """Counts moments, and kills this process at one of them.

    Args:
        at: "moment:count", or "" to live.
    """

    def __init__(self, at: str):
        self.moment, _, count = at.partition(":")
        self.count = int(count or 0)
        self.seen: Counter[str] = Counter()

    def reached(self, moment: str) -> None:
        """Count; at the moment that was asked for this does not return."""
        self.seen[moment] += 1
        if moment == self.moment and self.seen[moment] == self.count:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, owner, name: str, moment: str) -> None:
        """Let `owner.name` count as a moment each time before it runs."""
        real = getattr(owner, name)

        def counted(*args, **settings):
            self.reached(moment)
            return real(*args, **settings)

        setattr(owner, name, counted)


class Watching(Callback):
    """Moments of training, for Death."""

    def __init__(self, death: Death):
        self.death = death

    def before_batch(self, trainer, batch):
        self.death.reached("before_batch")

    def after_update(self, trainer):
        self.death.reached("after_update")

    def end_validation(self, trainer, values):
        self.death.reached("end_validation")


def images() -> tuple[np.ndarray, np.ndarray]:
    """Noise, labelled by whether it is brighter than grey."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SAMPLES, 1, 6, 6)).astype(np.float32)
    return x, (x.mean((1, 2, 3)) > 0).astype(np.int64)


def data(loader: str) -> DataLoader:
    """The images, in an order of the loader's seed."""
    change = Compose([RandomCrop(6, padding=1), RandomFlip()])
    return DataLoader(
        ArrayDataset(*images()), BATCH, shuffle=True, seed=7, transform=change, **LOADERS[loader]
    )


def trainer(compiled: bool, death: Death) -> Trainer:
    """The run, the same in every process."""
    tt.manual_seed(11)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
        nn.Dropout(0.2), nn.Linear(64, 2),
    )  # fmt: skip
    optimizer = tt.optim.AdamW(model.parameters(), lr=0.01)
    return Trainer(
        model, optimizer, schedule=tt.optim.StepLR(optimizer, 4, 0.8), schedule_every="step",
        accumulate=3, clip_norm=1.0, ema=0.9, compile=compiled, progress=Silent(),
        callbacks=[Watching(death), EarlyStopping("val_loss", patience=9)],
    )  # fmt: skip


def digest(trainer: Trainer) -> str:
    """SHA-256 of all that the run ended with: every state but the time it took."""
    total = hashlib.sha256()
    for name, value in _flat(trainer.state_dict()):
        if "seconds" in name:
            continue
        if name.endswith("history"):
            rows = [{k: v for k, v in row.items() if k != "seconds"} for row in trainer.run.history]
            value = json.dumps(rows)
        bits = value.numpy().tobytes() if isinstance(value, tt.Tensor) else repr(value).encode()
        total.update(name.encode() + b"\0" + bits)
    # What it computes, too: with averaged weights, which nothing in training feeds back on.
    total.update(trainer.predict(images()[0]).numpy().tobytes())
    return total.hexdigest()


def _flat(state, path: str = ""):
    if isinstance(state, dict):
        for key, value in state.items():
            yield from _flat(value, f"{path}/{key}")
    elif isinstance(state, (list, tuple)):
        for i, value in enumerate(state):
            yield from _flat(value, f"{path}/{i}")
    else:
        yield path, state


def main() -> None:
    """Begin, or go on with, the run of a folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--loader", choices=LOADERS, default="none")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--die", default="", help="moment:count")
    options = parser.parse_args()
    death = Death(options.die)
    run = trainer(options.compiled, death)
    death.watch(storage_folder._Hashing, "write", "write")
    death.watch(os, "fsync", "fsync")
    death.watch(os, "rename", "rename")
    death.watch(os, "unlink", "remove")
    kept = Checkpoints(options.folder, keep=2, every_steps=2, best="val_loss")
    print("begin", flush=True)
    seen = DataLoader(ArrayDataset(*images()), 32)
    run.train(data(options.loader), EPOCHS, validation=seen, checkpoint=kept, resume=True)
    print(json.dumps({"digest": digest(run), "steps": run.steps, "moments": death.seen}))


if __name__ == "__main__":
    main()
