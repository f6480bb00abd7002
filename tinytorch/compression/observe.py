"""Observer: which numbers go through one place, and the scale in which bytes hold them best.

Knows numbers and three ways to choose a scale, and the stand-in that shows an observer what goes
into a layer; which layers are observed is said by `quantize`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tinytorch.base.arguments import number, one_of
from tinytorch.base.errors import ArgumentTypeError, DataError, short
from tinytorch.nn.module import Module, Parameter
from tinytorch.nn.quantized import StaticRounding, WeightForm, linear
from tinytorch.tensor.indexing import take
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.tensor import Tensor

METHODS = ("mse", "minmax", "percentile")
BINS = 4096  # of sizes; 8 or more for each step of a byte, as the largest fills half of them
# Clipping that is tried: parts of the largest number. Below an eighth nothing was ever best for
# normal, Laplace and ReLU'd numbers, whose best are 0.6 to 0.9 at 8 bits.
TRIED = np.linspace(0.125, 1.0, 113)


class Observer:
    """The sizes of the numbers that went through one place, as a histogram that grows.

    Its end is a power of two times the first largest number; where a larger one comes, pairs of
    bins become one, which is exact. Zeros are not counted: every scale holds them.

        minmax       the scale by which the largest number is the largest byte
        percentile   the largest of the smallest `share` of the numbers is; larger ones are cut off
        mse          the scale with the least squared error, of 113 tried

    Numbers of which none is below 0 become unsigned bytes.

    Args:
        method: "mse", "minmax" or "percentile"; default "mse".
        share: of "percentile", in (0, 1]; default 0.9999.

    Cost: 32 KB; two passes over the numbers that are seen.

    Source: Wu et al. 2020, https://arxiv.org/abs/2004.09602, section 3.3 (max, percentile); Banner
    et al. 2019, https://arxiv.org/abs/1810.05723, section 3 (mean squared error).

    Example:
        >>> import numpy as np
        >>> observer = Observer("minmax")
        >>> observer.observe(np.array([0.5, 25.5], np.float32))
        >>> observer.rounding().unsigned, round(observer.rounding().step.item(), 4)
        (True, 0.1)
    """

    def __init__(self, method: str = "mse", share: float = 0.9999):
        self.method = one_of("Observer", "method", method, METHODS)
        self.share = number("Observer", "share", share, "(0, 1]")
        self.counts = np.zeros(BINS, np.int64)
        self.end = 0.0  # of the last bin
        self.low, self.high, self.seen = 0.0, 0.0, 0

    def again(self) -> Observer:
        """One with the same settings that has seen nothing."""
        return Observer(self.method, self.share)

    def observe(self, x: Any) -> None:
        """Take in what goes through.

        Args:
            x: numbers of any shape.

        Raises:
            DataError: one is NaN or infinite.
        """
        a = x.astype("float32").detach().numpy() if isinstance(x, Tensor) else np.asarray(x)
        a = a.astype(np.float32, copy=False).ravel()
        if not a.size:
            return
        low, high = float(a.min()), float(a.max())
        if not math.isfinite(low) or not math.isfinite(high):
            raise DataError(
                "calibration: what goes into a layer is not finite",
                got=f"{int((~np.isfinite(a)).sum())} of {a.size} numbers are NaN or infinite",
                rule="finite numbers, which a scale can hold",
                fix="look for the batch in which they begin; a model of before its loss became NaN",
            )
        self.seen += a.size
        self.low, self.high = min(self.low, low), max(self.high, high)
        sizes = np.abs(a[a != 0])
        if not sizes.size:
            return
        largest = float(sizes.max())
        self.end = self.end or largest
        while self.end < largest:
            self.counts[: BINS // 2] = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts[BINS // 2 :] = 0
            self.end *= 2.0
        places = (sizes * np.float64(BINS / self.end)).astype(np.int64)
        self.counts += np.bincount(np.minimum(places, BINS - 1), minlength=BINS)

    def limit(self, levels: int) -> float:
        """The largest number that is kept; larger ones are cut off.

        Args:
            levels: the largest byte, 127 or 255.
        """
        largest = max(-self.low, self.high)
        edges = np.arange(1, BINS + 1) * (self.end / BINS)
        if self.method == "percentile" and self.counts.any():
            below = np.cumsum(self.counts)
            wanted = math.ceil(self.share * below[-1])
            return min(float(edges[np.searchsorted(below, wanted)]), largest)
        if self.method == "mse" and self.counts.any():
            used = np.flatnonzero(self.counts)
            sizes, counts = edges[used] - 0.5 * self.end / BINS, self.counts[used]
            tried = largest * TRIED
            steps = tried[:, None] / levels
            found = np.minimum(np.rint(sizes / steps), levels) * steps
            return float(tried[np.argmin((np.square(found - sizes) * counts).sum(axis=1))])
        return largest

    def rounding(self, signed: bool = False) -> StaticRounding:
        """How what was seen becomes bytes.

        Args:
            signed: whether bytes have a sign in any case; default False.
        """
        unsigned = self.low >= 0.0 and not signed
        levels = 255 if unsigned else 127
        limit = self.limit(levels) or 1.0  # nothing but zeros: any scale holds them
        # the least normal number of float32: a scale's reciprocal is finite
        return StaticRounding(max(limit / levels, 2.0**-126), unsigned)


class ObservedWeight(WeightForm):
    """A layer's own weight, which shows an observer what the layer is given.

    Args:
        weight: what the layer had.
        observer: is shown every input.
    """

    def __init__(self, weight: Any, observer: Observer):
        self.weight, self.observer = weight, observer
        self.shape = tuple(weight.shape)

    def linear(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """As without an observer."""
        self.observer.observe(x)
        return linear(x, self.weight, bias)

    def convolve(self, function: Any, x: Tensor, bias: Tensor | None, *settings: Any) -> Tensor:
        """As without an observer."""
        self.observer.observe(x)
        return function(x, self.weight, bias, *settings)

    def rows(self, index: Tensor) -> Tensor:
        """weight[index]; what is looked up is not rounded, so not observed."""
        return take(self.weight, index, 0)

    def part(self, rows: slice) -> ObservedWeight:
        """Some rows, shown to the same observer."""
        return ObservedWeight(self.weight[rows], self.observer)

    def __getitem__(self, rows: Any) -> Tensor:
        """Some rows."""
        found: Tensor = self.weight[rows]
        return found


def batches_of(owner: str, calibration: Any) -> Iterator[tuple[Tensor, ...]]:
    """The inputs of each batch: of (input, ..., target) without the target, as the Trainer has it.

    Args:
        owner: who was given them, for the message.
        calibration: batches, each an array, a Tensor, or a tuple of them; or one array.

    Raises:
        DataError: there is none.
        ArgumentTypeError: these are no batches.
    """
    if isinstance(calibration, (Tensor, np.ndarray)):
        calibration = [calibration]
    fix = "calibration=[images], or a DataLoader; a few hundred samples are enough"
    if not isinstance(calibration, Iterable) or isinstance(calibration, (str, Mapping)):
        raise ArgumentTypeError(
            f"{owner}: calibration is not made of batches",
            got=short(calibration),
            rule="batches as the model is trained on, each an array or (input, ..., target)",
            fix=fix,
        )
    samples = 0
    for batch in calibration:
        parts = batch if isinstance(batch, (tuple, list)) else (batch,)
        parts = parts[:-1] if len(parts) > 1 else parts
        if not parts or not all(isinstance(x, (Tensor, np.ndarray)) for x in parts):
            raise ArgumentTypeError(
                f"{owner}: this is no batch to calibrate with",
                got=short(batch),
                rule="an array or Tensor, or a tuple (input, ..., target) of them",
                fix=fix,
            )
        samples += sum(x.size for x in parts)
        if samples:
            yield tuple(x if isinstance(x, Tensor) else Tensor(x) for x in parts)
    if not samples:
        raise DataError(
            f"{owner}: calibration without data",
            got="no batch, or batches of no samples",
            rule="at least one batch: the scales of activations are read off what goes through",
            fix=fix,
        )


def observe(
    model: Module, weights: Iterable[Parameter], observer: Observer, batches: Iterable[tuple]
) -> dict[int, Observer]:
    """What goes into the layers of these weights, by the id of each weight.

    Args:
        model: any; runs in evaluation mode.
        weights: of its layers.
        observer: whose settings each has.
        batches: inputs of the model.
    """
    watched = {id(w): ObservedWeight(w, observer.again()) for w in weights}
    watching = copy.deepcopy(model, dict[int, Any](watched)).eval()
    with no_grad():
        for inputs in batches:
            watching(*inputs)
    return {key: seen.observer for key, seen in watched.items()}
