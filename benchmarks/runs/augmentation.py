"""Augmentation on CIFAR-10: what cropping, mirroring and cutout do to the test accuracy.

DeVries, Taylor 2017 (https://arxiv.org/abs/1708.04552), table 1, ResNet-18: error 10.63 % without,
4.72 % with crop and flip, 3.99 % with cutout too. Here a CNN of 16, 32, 64 channels, 10,000 of the
50,000 pictures, 20 epochs, so that it runs in minutes: with few pictures the effect is large.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tinytorch as tt
from benchmarks.learning import half_cosine, learn
from benchmarks.record import Record
from tinytorch.data import Compose, Cutout, RandomCrop, RandomFlip, Stream, load_cifar10
from tinytorch.models import CNN

WIDTHS, IMAGES, EPOCHS, BATCH, RATE, SEED = (16, 32, 64), 10_000, 20, 128, 3e-3, 0
FULL = {"IMAGES": 50_000}
CROP_FLIP = [RandomCrop(32, padding=4), RandomFlip()]  # of the paper, section 4
KINDS = {"none": None, "crop, flip": Compose(CROP_FLIP), "crop, flip, cutout": Compose([
    *CROP_FLIP, Cutout(16),  # 16: the paper's side for CIFAR-10
])}  # fmt: skip


def run(folder: Path, log: Path) -> dict:
    """The same training with each kind of augmentation."""
    record = Record(log, "What does augmentation do to the test accuracy on CIFAR-10?", {
        "channels": WIDTHS, "images": IMAGES, "epochs": EPOCHS, "batch": BATCH, "rate": RATE,
        "seed": SEED, "smaller than the paper": "network, and a fifth of the pictures",
    })  # fmt: skip
    data = load_cifar10(True, folder, as_bytes=True)
    train, data = data.take(np.arange(IMAGES)), load_cifar10(False, folder, as_bytes=True)
    test = data.take(np.arange(len(data)))
    found = {}
    for kind, transform in KINDS.items():
        tt.manual_seed(SEED)
        net = CNN(32, 3, widths=WIDTHS)
        adam = tt.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.05)

        def changed(images, rng, transform=transform):
            stream = Stream(seed=int(rng.integers(2**63)))
            return transform((images,), stream)[0]

        rows = learn(
            net, adam, train, test, epochs=EPOCHS, batch=BATCH, seed=SEED, cool=half_cosine,
            transform=changed if transform else None,
        )  # fmt: skip
        found[kind] = 100 * (1 - rows[-1]["test_accuracy"])
        record.row(augmentation=kind, test_error_percent=found[kind], loss=rows[-1]["loss"],
                   seconds=sum(r["seconds"] for r in rows),
                   accuracies=[round(r["test_accuracy"], 4) for r in rows])  # fmt: skip
    text = ", ".join(f"{kind} {error:.2f} %" for kind, error in found.items())
    record.claim("crop and flip lower the test error", "DeVries, Taylor 2017, table 1", text,
                 found["crop, flip"] < found["none"])  # fmt: skip
    record.claim("cutout lowers it further", "DeVries, Taylor 2017, table 1", text,
                 found["crop, flip, cutout"] < found["crop, flip"])  # fmt: skip
    return record.keep()
