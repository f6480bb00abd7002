"""A challenge: a problem with data, a network, targets in numbers, and the steps towards them.

This is the template for one's own capstone: fill in a `Challenge` and hand it to `run_challenge`.
Knows what is asked and how far each step goes; never how a step is done or measured.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tinytorch import data, models
from tinytorch.base.arguments import number, whole
from tinytorch.base.errors import SettingError, short
from tinytorch.data.augmentation import Transform
from tinytorch.data.dataset import Subset
from tinytorch.nn.module import Module

# What the course's document asks of a network for CIFAR-10, written as it writes it.
METRICS = {
    "accuracy_target": 75.0,
    "inference_time": "<10ms",
    "memory_usage": "<100MB",
    "model_size": "<10MB",
}
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "B": 1e-6, "kB": 1e-3, "MB": 1.0, "GB": 1e3}

# Each step and what it is for, in the order in which they go together: what changes the weights
# comes before they are rounded. The first two change how a model is run, not the model.
STEPS = {
    "acceleration": "the model becomes one native program in place of NumPy, line by line",
    "caching": "what follows from the weights alone is computed once and kept (packed and "
    "transformed filters, batch norms joined with their convolutions)",
    "pruning": "channels that matter least are removed, then the rest is trained on",
    "distillation": "that training learns the baseline's answers, not the labels alone",
    "quantisation": "weights and what goes into layers become bytes, by scales read off data",
}
RUNNING = ("acceleration", "caching")


@dataclass(frozen=True)
class Target:
    """A bound on one number of a model.

    Args:
        name: as the document calls it.
        bound: percent, milliseconds or megabytes (10^6 bytes).
        unit: of the bound.
        at_least: whether more is better.
    """

    name: str
    bound: float
    unit: str
    at_least: bool

    def met(self, value: float) -> bool:
        """Whether a number fulfils it."""
        return value >= self.bound if self.at_least else value < self.bound

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<'} {self.bound:g} {self.unit}"


_KINDS = {  # unit, and the units that a text may have
    "accuracy_target": ("%", ()),
    "inference_time": ("ms", ("us", "ms", "s")),
    "memory_usage": ("MB", ("B", "kB", "MB", "GB")),
    "model_size": ("MB", ("B", "kB", "MB", "GB")),
}


def targets_of(metrics: Mapping[str, Any]) -> list[Target]:
    """The targets that a dictionary like the document's `metrics` names.

    Args:
        metrics: "accuracy_target": percent that are at least asked; "inference_time",
            "memory_usage", "model_size": texts such as "<10ms", "<100MB", or bare numbers of
            milliseconds and megabytes.

    Raises:
        SettingError: an unknown name, or no bound.

    Example:
        >>> [str(t) for t in targets_of({"accuracy_target": 75.0, "inference_time": "<10ms"})]
        ['>= 75 %', '< 10 ms']
        >>> targets_of({"model_size": "<500kB"})[0].bound
        0.5
    """
    found: list[Target] = []
    for name, value in metrics.items():
        if name not in _KINDS:
            raise SettingError(
                "capstone: nothing is measured under this name",
                got=short(name),
                rule="one of " + ", ".join(_KINDS),
                fix='metrics={"accuracy_target": 75.0, "inference_time": "<10ms"}',
            )
        unit, units = _KINDS[name]
        if not units:
            bound = number("capstone", name, value, "[0, 100]")
        else:
            bound = _bound(name, value, unit, units)
        found.append(Target(name, bound, unit, not units))
    return found


def _bound(name: str, value: object, unit: str, units: tuple[str, ...]) -> float:
    if not isinstance(value, str):
        return number("capstone", name, value, "(0, inf)")
    said = re.fullmatch(r"<\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)", value.strip())
    if said is None or said[2] not in units:
        raise SettingError(
            "capstone: this target is no bound",
            got=f"{name}={short(value)}",
            rule="'<', a number and one of " + ", ".join(units),
            fix=f"{name}='<10{unit}'",
        )
    return float(said[1]) * _UNITS[said[2]]


@dataclass(frozen=True)
class Challenge:
    """What is asked, of which data, and how far the steps go: the template for one's own.

    Args:
        name: short, for files.
        title: of the report.
        problem: a sentence: what for, and what makes it hard.
        load: (train, folder, progress) -> a data set of (input, label); `train` is False for the
            test part, `folder` the user's or None, `progress` as for `data.load_cifar10` or None.
        network: makes the baseline, untrained.
        metrics: the targets, as `targets_of` reads them; default the document's.
        steps: names in `STEPS`, all by default; they are done in the order of that table.
        transform: augmentation of training batches, or None.
        epochs: passes that train the baseline, at least 1.
        again: passes that train it again after pruning, or from its teacher; at least 1.
        batch_size: samples of a training step, at least 1.
        lr: highest rate of AdamW; it rises to it over a tenth of the steps, then falls to 0 along
            half a cosine. In (0, inf).
        ratio: part of the channels that pruning removes, in [0, 1); or of those that parts of the
            model make, by dotted name, as `compression.prune_channels` takes it.
        temperature, alpha: of the distillation, see `compression.distill`.
        pictures: of the training part, the first so many are used; None: all.
        tests: the same of the test part.
        calibration: training samples off which the scales of activations are read, at least 1.

    Raises:
        SettingError: a setting outside its range; a step that there is not.

    Example:
        >>> from tinytorch import data, models
        >>> mine = Challenge(
        ...     "digits-mlp", "Digits by a small MLP", "Digits of 8x8, for a microcontroller.",
        ...     lambda train, folder, progress: data.load_digits("train" if train else "test"),
        ...     lambda: models.MLP([64, 128, 10]), metrics={"model_size": "<20kB"},
        ...     steps=("pruning", "quantisation"))
        >>> mine.steps
        ('pruning', 'quantisation')
    """

    name: str
    title: str
    problem: str
    load: Callable[[bool, Any, Any], Any]
    network: Callable[[], Module]
    metrics: Mapping[str, Any] = field(default_factory=lambda: dict(METRICS))
    steps: tuple[str, ...] = tuple(STEPS)
    transform: Transform | None = None
    epochs: int = 10
    again: int = 5
    batch_size: int = 128
    lr: float = 3e-3
    ratio: float | Mapping[str, float] = 0.7
    temperature: float = 4.0
    alpha: float = 0.9
    pictures: int | None = None
    tests: int | None = None
    calibration: int = 512

    def __post_init__(self) -> None:
        for name in ("epochs", "again", "batch_size", "calibration"):
            whole("Challenge", name, getattr(self, name), at_least=1)
        for name in ("pictures", "tests"):
            if getattr(self, name) is not None:
                whole("Challenge", name, getattr(self, name), at_least=1)
        number("Challenge", "lr", self.lr, "(0, inf)")
        parts = self.ratio if isinstance(self.ratio, Mapping) else {"": self.ratio}
        for ratio in parts.values():
            number("Challenge", "ratio", ratio, "[0, 1)")
        number("Challenge", "temperature", self.temperature, "(0, inf)")
        number("Challenge", "alpha", self.alpha, "[0, 1]")
        targets_of(self.metrics)
        in_order(self.steps)

    def settings(self) -> dict[str, Any]:
        """What the numbers of a run depend on, as JSON holds it."""
        names = ("name", "epochs", "again", "batch_size", "lr", "ratio", "temperature", "alpha",
                 "pictures", "tests", "calibration")  # fmt: skip
        found = {name: getattr(self, name) for name in names}
        if isinstance(self.ratio, Mapping):
            found["ratio"] = dict(self.ratio)
        return {**found, "steps": list(in_order(self.steps)), "metrics": dict(self.metrics)}

    def part(self, train: bool, folder: Any = None, progress: Any = None) -> Any:
        """The training part or the test part, or as much of it as is used."""
        found = self.load(train, folder, progress)
        most = self.pictures if train else self.tests
        return found if most is None or most >= len(found) else Subset(found, np.arange(most))


def in_order(steps: Any) -> tuple[str, ...]:
    """Steps in the order in which they are done, each once.

    Raises:
        SettingError: one that there is not.

    Example:
        >>> in_order({"quantisation", "acceleration"})
        ('acceleration', 'quantisation')
    """
    given = list(steps)
    for step in given:
        if step not in STEPS:
            raise SettingError(
                "capstone: there is no such step",
                got=short(step),
                rule="one of " + ", ".join(STEPS),
                fix='steps=("pruning", "quantisation")',
            )
    return tuple(step for step in STEPS if step in given)


# --- those that `tito capstone` knows ---


def _digits(train: bool, folder: Any, progress: Any) -> Any:
    return data.load_digits("train" if train else "test")


def _cifar10(train: bool, folder: Any, progress: Any) -> Any:
    return data.load_cifar10(train, folder, progress=progress)


CIFAR10 = Challenge(
    "cifar10",
    "Optimized CIFAR-10 Trainer",
    "Tell ten kinds of things apart on colour pictures of 32 x 32, at 75 % or more of the official "
    "test pictures, with a tenth of the baseline's arithmetic and of its bytes.",
    _cifar10,
    lambda: models.CNN(32, 3, 10, (32, 64, 128)),
    # Leaves (10, 19, 38) of (32, 64, 128) channels: 1 / 10.1 of the FLOP, rounding counted.
    ratio=0.71,
    # He et al. 2015, https://arxiv.org/abs/1512.03385, section 4.2: 4 zeros on each side.
    transform=data.Compose([data.RandomCrop(32, padding=4), data.RandomFlip()]),
)
DIGITS = Challenge(
    "digits",
    "Optimized Digits",
    "Tell ten digits of 8 x 8 pixels apart; the data ship with the package, so that all steps can "
    "be seen within a minute.",
    _digits,
    lambda: models.CNN(8, 1, 10, (16, 32)),
    metrics={**METRICS, "accuracy_target": 90.0},
    batch_size=64,
    ratio=0.5,
)
CHALLENGES = {"cifar10": CIFAR10, "digits": DIGITS}


def quick(challenge: Challenge) -> Challenge:
    """A challenge on a part of its data and with few passes: to see that all of it works.

    Its numbers say little of what the steps are worth.

    Args:
        challenge: the whole.

    Example:
        >>> quick(CIFAR10).pictures, quick(CIFAR10).epochs
        (5000, 2)
    """
    return replace(challenge, epochs=2, again=1, pictures=5000, tests=1000, calibration=128)
