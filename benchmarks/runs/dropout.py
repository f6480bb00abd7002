"""Dropout on MNIST: does it lower the test error, as its paper says?

Srivastava et al. 2014 (https://jmlr.org/papers/v15/srivastava14a.html): table 2 gives 1.60 % error
for a plain network and 1.25 % for rectified units with dropout; figure 4 shows the gap for many
sizes; section 7.4 that it depends on the amount of data. Here: two layers of 1024 rectified units,
0.2 of the pixels and 0.5 of the units dropped as in the paper's appendix B.1, AdamW without weight
decay in place of SGD with max-norm, 15 epochs in place of about 2,000.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tinytorch as tt
from benchmarks.learning import half_cosine, learn, mnist
from benchmarks.record import Record
from tinytorch import nn

ARCHIVE = ""
UNITS, EPOCHS, BATCH, RATE = 1024, 15, 128, 1e-3
FULL = {"EPOCHS": 100}
INPUT, HIDDEN = 0.2, 0.5  # of the paper
FEW, FEW_EPOCHS, SEEDS = 2000, 60, (0, 1, 2)


def network(dropped: bool) -> nn.Sequential:
    """784-1024-1024-10 with or without dropout."""
    layers = [
        nn.Flatten(),
        nn.Dropout(INPUT),
        nn.Linear(784, UNITS),
        nn.ReLU(),
        nn.Dropout(HIDDEN),
        nn.Linear(UNITS, UNITS),
        nn.ReLU(),
        nn.Dropout(HIDDEN),
        nn.Linear(UNITS, 10),
    ]
    return nn.Sequential(*[x for x in layers if dropped or not isinstance(x, nn.Dropout)])


def error(train, test, dropped: bool, epochs: int, seed: int) -> float:
    """Test error in percent after the last epoch."""
    tt.manual_seed(seed)
    net = network(dropped)
    adam = tt.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.0)
    rows = learn(net, adam, train, test, epochs=epochs, batch=BATCH, seed=seed, cool=half_cosine)
    return 100 * (1 - rows[-1]["test_accuracy"])


def run(folder: Path, log: Path) -> dict:
    """All images with one seed, few images with three."""
    record = Record(log, "Does dropout lower the test error of a network on MNIST?", {
        "units": UNITS, "epochs": EPOCHS, "batch": BATCH, "rate": RATE, "dropout": [INPUT, HIDDEN],
        "few images": FEW, "epochs with few": FEW_EPOCHS, "seeds": SEEDS,
        "smaller than the paper": "15 epochs for about 2000, AdamW for SGD with max-norm",
    })  # fmt: skip
    train, test = mnist(folder, "train"), mnist(folder, "test")
    few = tuple(a[:FEW] for a in train)
    found: dict[tuple, list[float]] = {}
    cases = [(few, FEW_EPOCHS, seed) for seed in SEEDS] + [(train, EPOCHS, 0)]
    for data, epochs, seed in cases:
        for dropped in (False, True):
            percent = error(data, test, dropped, epochs, seed)
            found.setdefault((len(data[0]), dropped), []).append(percent)
            record.row(images=len(data[0]), dropout=dropped, seed=seed, test_error_percent=percent)
    for count, source in ((len(train[0]), "table 2: 1.60 and 1.25 %"), (FEW, "section 7.4")):
        plain, dropped = (float(np.mean(found[count, d])) for d in (False, True))
        record.claim(
            f"dropout lowers the test error, {count} images", f"Srivastava 2014, {source}",
            f"{plain:.2f} % without, {dropped:.2f} % with", dropped < plain,
        )  # fmt: skip
    return record.keep()
