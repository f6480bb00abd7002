"""Normalisations on MNIST: does each do what its paper says?

Batch norm: the experiment of Ioffe, Szegedy 2015, section 4.1 (100 sigmoids in each of 3 layers,
batches of 60; here 6,000 of 50,000 steps). Layer norm: Ba, Kiros, Hinton 2016, section 6.6
(batches of 128 and of 4; here 500 units, 10,000 images). Group norm: Wu, He 2018, figure 5
(batches of 32 and of 2, rate proportional; here a small network and 6,000 images for ImageNet).
RMS norm: Zhang, Sennrich 2019 (as good as layer norm and cheaper; here layer norm's experiment).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import tinytorch as tt
from benchmarks.learning import half_cosine, learn, mnist
from benchmarks.record import Record
from tinytorch import nn

ARCHIVE = ""
SEED = 0
FULL = {"UNITS": {"units": 1000, "batches": (128, 4), "epochs": 2, "rate": 1e-3, "images": 60_000}}
SIGMOIDS = {"units": 100, "batch": 60, "epochs": 6, "rate": 0.1}
UNITS = {"units": 500, "batches": (128, 4), "epochs": 2, "rate": 1e-3, "images": 10_000}
IMAGES = {"images": 6000, "batches": (32, 2), "epochs": 4, "rate": 0.05, "channels": (16, 32)}
EQUAL = 1.1  # errors count as equal up to this factor: a tenth is 1 to 2 of a standard deviation

Norm = Callable[[int], nn.Module] | None


def sigmoids(norm: Norm) -> nn.Sequential:
    """784-100-100-100-10, norms before the sigmoids; first weights small and Gaussian."""
    sizes = [784, *[SIGMOIDS["units"]] * 3]
    layers: list = [nn.Flatten()]
    for a, b in zip(sizes, sizes[1:], strict=False):
        layers += [_gaussian(nn.Linear(a, b)), *([norm(b)] if norm else []), nn.Sigmoid()]
    return nn.Sequential(*layers, _gaussian(nn.Linear(sizes[-1], 10)))


def _gaussian(layer: nn.Linear) -> nn.Linear:
    # The paper says "small random Gaussian values"; 1/sqrt(C) keeps the sums of size 1.
    layer.weight = nn.Parameter(tt.randn(*layer.weight.shape) * layer.in_features**-0.5)
    layer.bias = nn.Parameter(tt.zeros(layer.out_features))
    return layer


def units(norm: Norm) -> nn.Sequential:
    """784-500-500-10, norms before the rectifiers."""
    sizes = [784, UNITS["units"], UNITS["units"]]
    layers: list = [nn.Flatten()]
    for a, b in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(a, b), *([norm(b)] if norm else []), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], 10))


def images(norm: Norm) -> nn.Sequential:
    """Two stages of 3x3 convolution, norm, rectifier, pooling; a linear layer."""
    channels = [1, *IMAGES["channels"]]
    layers: list = []
    for a, b in zip(channels, channels[1:], strict=False):
        layers += [nn.Conv2d(a, b, 3, padding=1), *([norm(b)] if norm else [])]
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels[-1] * 49, 10))


def run(folder: Path, log: Path) -> dict:
    """The four experiments."""
    record = Record(log, "Does each normalisation do what its paper says, on MNIST?", {
        "batch norm": SIGMOIDS, "layer norm, RMS norm": UNITS, "group norm": IMAGES, "seed": SEED,
        "smaller than the papers": "steps, units and data as the docstring says",
    })  # fmt: skip
    train, test = mnist(folder, "train"), mnist(folder, "test")
    _batch_norm(record, train, test)
    _layer_norm(record, tuple(a[: UNITS["images"]] for a in train), test)
    _group_norm(record, tuple(a[: IMAGES["images"]] for a in train), test)
    return record.keep()


def _trained(record: Record, what: str, name: str, net, optimizer, train, test, **how) -> list:
    rows = learn(net, optimizer, train, test, seed=SEED, **how)
    last = rows[-1]
    record.row(
        experiment=what, norm=name, batch=how["batch"],
        test_error_percent=100 * (1 - last["test_accuracy"]), loss=last["loss"],
        milliseconds_a_step=1e3 * min(r["seconds"] for r in rows) * len(rows) / last["steps"],
        accuracies=[round(r["test_accuracy"], 4) for r in rows],
    )  # fmt: skip
    return rows


def _error(rows: list[dict]) -> float:
    return 100 * (1 - rows[-1]["test_accuracy"])


def _batch_norm(record: Record, train, test) -> None:
    found = {}
    for name, norm in (("none", None), ("batch", nn.BatchNorm1d)):
        tt.manual_seed(SEED)
        net = sigmoids(norm)
        sgd = tt.optim.SGD(net.parameters(), lr=SIGMOIDS["rate"])
        how = {"epochs": SIGMOIDS["epochs"], "batch": SIGMOIDS["batch"]}
        rows = _trained(record, "sigmoids", name, net, sgd, train, test, **how)
        found[name] = [r["test_accuracy"] for r in rows]
    plain, normed = found["none"], found["batch"]
    record.claim("batch norm trains faster and to a higher test accuracy",
                 "Ioffe, Szegedy 2015, figure 1a",
                 f"{100 * plain[0]:.1f} and {100 * normed[0]:.1f} % after one epoch, "
                 f"{100 * plain[-1]:.2f} and {100 * normed[-1]:.2f} % after {len(plain)}",
                 normed[0] > plain[0] and normed[-1] > plain[-1])  # fmt: skip


def _layer_norm(record: Record, train, test) -> None:
    found: dict[tuple, float] = {}
    for batch in UNITS["batches"]:
        for name in ("batch", "layer", "rms"):
            tt.manual_seed(SEED)
            norm = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm, "rms": nn.RMSNorm}[name]
            net = units(norm)
            adam = tt.optim.Adam(net.parameters(), lr=UNITS["rate"])
            how = {"epochs": UNITS["epochs"], "batch": batch, "cool": half_cosine}
            rows = _trained(record, "units", name, net, adam, train, test, **how)
            found[name, batch] = _error(rows)
    large, small = UNITS["batches"]
    text = ", ".join(f"{n} norm {found[n, large]:.2f} and {found[n, small]:.2f} %"
                     for n in ("batch", "layer", "rms"))  # fmt: skip
    record.claim(
        f"layer norm suffers less than batch norm from batches of {small}",
        "Ba, Kiros, Hinton 2016, section 6.6",
        f"errors with {large} and {small}: {text}",
        found["layer", small] < found["batch", small],
    )
    record.claim(
        "RMS norm is as good as layer norm",
        "Zhang, Sennrich 2019, section 5",
        f"errors with {large} and {small}: {text}; equal up to {EQUAL:g} times",
        all(found["rms", b] <= EQUAL * found["layer", b] for b in (large, small)),
    )


def _group_norm(record: Record, train, test) -> None:
    found: dict[tuple, float] = {}
    large, small = IMAGES["batches"]
    for batch in (large, small):
        for name in ("batch", "group"):
            tt.manual_seed(SEED)
            norm = {"batch": nn.BatchNorm2d, "group": lambda c: nn.GroupNorm(8, c)}[name]
            net = images(norm)
            rate = IMAGES["rate"] * batch / large  # linear scaling, section 4.1
            sgd = tt.optim.SGD(net.parameters(), lr=rate, momentum=0.9)
            how = {"epochs": IMAGES["epochs"], "batch": batch, "cool": half_cosine}
            rows = _trained(record, "images", name, net, sgd, train, test, **how)
            found[name, batch] = _error(rows)
    grown = {n: found[n, small] - found[n, large] for n in ("batch", "group")}
    text = "; ".join(f"{n} norm {found[n, large]:.2f} % with {large}, {found[n, small]:.2f} % with "
                     f"{small}" for n in grown)  # fmt: skip
    record.claim(
        f"the error of batch norm grows with batches of {small}, group norm's does not",
        "Wu, He 2018, figure 5",
        text,
        grown["group"] < grown["batch"] and found["group", small] < found["batch", small],
    )
