"""The founding document's model on CIFAR-10, as it is written there, for its ten epochs.

README of the course, "Build a modern neural network with YOUR components": the eight layers, Adam
with lr 0.001, cross-entropy after a softmax (recognised: the loss is that of the probabilities),
batches of 64 in the data set's own order; the first 4,000 of the 50,000 pictures, so that it takes
minutes (all with --full). Whether it learns, and how long it takes, is stated here (row S0-13).
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from benchmarks.record import Record

EPOCHS, BATCH, PICTURES, SEED = 10, 64, 4000, 0
FULL = {"PICTURES": 50_000}


def model():
    """The layers, in the document's own words."""
    from tinytorch.core.activations import ReLU, Softmax
    from tinytorch.core.attention import SelfAttention
    from tinytorch.core.dense import Sequential
    from tinytorch.core.layers import Dense
    from tinytorch.core.spatial import Conv2D, flatten

    return Sequential([
        Conv2D(3, 32, kernel_size=3),
        ReLU(),
        flatten,
        Dense(32 * 30 * 30, 256),
        ReLU(),
        SelfAttention(d_model=256),
        Dense(256, 10),
        Softmax(),
    ])  # fmt: skip


def run(folder: Path, log: Path) -> dict:
    """Ten epochs, then the test pictures."""
    import tinytorch as tt
    from tinytorch.core.dataloader import CIFAR10Dataset, DataLoader
    from tinytorch.core.optimizers import Adam
    from tinytorch.core.training import CrossEntropyLoss, Trainer
    from tinytorch.data import official

    os.environ[official.VARIABLE] = str(folder.parent)  # the document names no folder
    record = Record(log, "Does the document's model train, how well and how long?", {
        "epochs": EPOCHS, "batch": BATCH, "optimizer": "Adam, lr 0.001", "seed": SEED,
        "pictures": f"{PICTURES} of 50000",
    })  # fmt: skip
    tt.manual_seed(SEED)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        trainer = Trainer(model(), Adam(lr=0.001), CrossEntropyLoss())
        pictures = CIFAR10Dataset()
        pictures.images = pictures.images[:PICTURES]
        pictures.labels = pictures.labels[:PICTURES]
        dataloader = DataLoader(pictures, batch_size=BATCH)
        history = trainer.train(dataloader, epochs=EPOCHS)
    for row in history:
        record.row(**row)
    test = trainer.evaluate(DataLoader(CIFAR10Dataset(train=False), batch_size=500))
    record.row(test_accuracy=test["accuracy"], test_loss=test["loss"],
               warnings=[str(w.message) for w in warned])  # fmt: skip
    losses, seconds = history["loss"], sum(history["seconds"])
    record.claim("ten epochs finish and the loss falls", "README of the course, trainer.train",
                 f"loss {losses[0]:.3f} to {losses[-1]:.3f}, test accuracy "
                 f"{100 * test['accuracy']:.2f} %, {seconds:.0f} s of a shared machine",
                 losses[-1] < losses[0])  # fmt: skip
    return record.keep()
