"""Optimizers on MNIST: does each do what its paper says, against the one it was compared with?

A network of 784-256-128-10, 20,000 images, 3 epochs, every rule with its own best of several
learning rates, chosen by the mean training loss of the last epoch (--full: all images, 5 epochs,
then three seeds with that rate). One small problem cannot prove a paper; it can contradict one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

import tinytorch as tt
from benchmarks.learning import learn, mnist
from benchmarks.record import Record
from tinytorch import optim
from tinytorch.models import MLP

ARCHIVE = ""
IMAGES, EPOCHS, BATCH, SEEDS = 20_000, 3, 64, (0,)
FULL = {"IMAGES": 60_000, "EPOCHS": 5, "SEEDS": (0, 1, 2)}
EARLY = 1  # epochs after which "faster" is asked
DECAY = 1e-2  # weight decay where there is one

CHOSEN = {"AdamW": 1e-3}  # the best rate of each rule, as the run finds it

Rule = Callable[[MLP, float], list]


def _muon(net: MLP, lr: float) -> list:
    """Muon for the hidden matrix, AdamW for the rest, as its author asks."""
    inner = [p for n, p in net.named_parameters() if n == "layers.1.weight"]
    rest = [p for n, p in net.named_parameters() if n != "layers.1.weight"]
    return [optim.Muon(inner, lr=lr), optim.AdamW(rest, lr=CHOSEN["AdamW"], weight_decay=DECAY)]


def _lion(net: MLP, lr: float) -> list:
    return [optim.Lion(net.parameters(), lr=lr, weight_decay=DECAY)]


# name -> (how it is made, the rates that are tried)
RULES: dict[str, tuple[Rule, tuple[float, ...]]] = {
    "SGD": (lambda net, lr: [optim.SGD(net.parameters(), lr=lr)], (0.03, 0.1, 0.3, 1.0)),
    "momentum": (
        lambda net, lr: [optim.SGD(net.parameters(), lr=lr, momentum=0.9)],
        (0.003, 0.01, 0.03, 0.1),
    ),
    "Nesterov": (
        lambda net, lr: [optim.SGD(net.parameters(), lr=lr, momentum=0.9, nesterov=True)],
        (0.003, 0.01, 0.03, 0.1),
    ),
    "RMSprop": (
        lambda net, lr: [optim.RMSprop(net.parameters(), lr=lr)],
        (1e-4, 3e-4, 1e-3, 3e-3),
    ),
    "Adam": (lambda net, lr: [optim.Adam(net.parameters(), lr=lr)], (3e-4, 1e-3, 3e-3)),
    "Adam with L2": (
        lambda net, lr: [optim.Adam(net.parameters(), lr=lr, weight_decay=DECAY)],
        (3e-4, 1e-3, 3e-3),
    ),
    "AdamW": (
        lambda net, lr: [optim.AdamW(net.parameters(), lr=lr, weight_decay=DECAY)],
        (3e-4, 1e-3, 3e-3),
    ),
    "Lion": (_lion, (3e-5, 1e-4, 3e-4, 1e-3)),
    "Muon": (_muon, (1e-3, 3e-3, 1e-2, 3e-2)),
}


def rows_of(rule: Rule, lr: float, train, test, seed: int) -> list[dict]:
    """One training."""
    tt.manual_seed(seed)
    net = MLP([784, 256, 128, 10])
    return learn(net, rule(net, lr), train, test, epochs=EPOCHS, batch=BATCH, seed=seed)


def run(folder: Path, log: Path) -> dict:
    """Choose each rule's rate, train with three seeds, compare."""
    record = Record(log, "Does each optimizer do what its paper says, on MNIST?", {
        "network": "784-256-128-10", "images": IMAGES, "epochs": EPOCHS, "batch": BATCH,
        "seeds": SEEDS,
        "rates tried": {name: rates for name, (_, rates) in RULES.items()}, "decay": DECAY,
        "chosen by": "training loss of the last epoch with seed 0",
        "smaller than the papers": "one small network in place of their largest",
    })  # fmt: skip
    train, test = mnist(folder, "train", IMAGES), mnist(folder, "test")
    found: dict[str, dict[str, float]] = {}
    for name, (rule, rates) in RULES.items():
        tried = {lr: rows_of(rule, lr, train, test, SEEDS[0]) for lr in rates}
        best = min(rates, key=lambda lr: _finite(tried[lr][-1]["loss"]))
        CHOSEN[name] = best
        runs = [tried[best], *(rows_of(rule, best, train, test, seed) for seed in SEEDS[1:])]
        found[name] = {
            "early": float(np.mean([r[EARLY - 1]["loss"] for r in runs])),
            "late": float(np.mean([r[-1]["loss"] for r in runs])),
            "error": float(np.mean([100 * (1 - r[-1]["test_accuracy"]) for r in runs])),
        }
        record.row(
            rule=name, lr=best, loss_of_epoch_1=found[name]["early"],
            loss_of_last_epoch=found[name]["late"], test_error_percent=found[name]["error"],
            losses={str(lr): tried[lr][-1]["loss"] for lr in rates},
        )  # fmt: skip
    _claims(record, found)
    return record.keep()


def _finite(loss: float) -> float:
    return loss if np.isfinite(loss) else np.inf


def _claims(record: Record, found: dict[str, dict[str, float]]) -> None:
    """Each paper's sentence, and the two numbers it is about."""
    about = {"early": "training loss of epoch 1", "late": "training loss of the last epoch",
             "error": "test error, %"}  # fmt: skip
    for says, source, one, other, key, slack in (
        ("momentum learns faster than plain gradient descent", "Sutskever et al. 2013",
         "momentum", "SGD", "early", 1.0),
        ("Nesterov's momentum is not worse than momentum", "Sutskever et al. 2013, table 1",
         "Nesterov", "momentum", "early", 1.02),
        ("Adam learns at least as fast as RMSprop", "Kingma, Ba 2015, section 6.2",
         "Adam", "RMSprop", "early", 1.02),
        ("Adam learns faster than SGD with Nesterov's momentum on a multi-layer network",
         "Kingma, Ba 2015, figure 2", "Adam", "Nesterov", "early", 1.0),
        ("decoupled decay generalises better than L2 inside Adam",
         "Loshchilov, Hutter 2019", "AdamW", "Adam with L2", "error", 1.0),
        ("Lion is on a par with AdamW, with half its state", "Chen et al. 2023, section 4",
         "Lion", "AdamW", "error", 1.1),
        ("Muon needs fewer steps than AdamW for the same loss", "Jordan et al. 2024",
         "Muon", "AdamW", "early", 1.0),
    ):  # fmt: skip
        a, b = found[one][key], found[other][key]
        text = f"{about[key]}: {one} {a:.4g}, {other} {b:.4g}"
        text += f" (counts as equal up to {100 * slack - 100:.0f} %)" if slack > 1 else ""
        record.claim(says, source, text, a <= b * slack)
