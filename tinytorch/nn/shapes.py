"""Layers and functions that change how many numbers there are: flattened, padded, resampled.

Knows places, never weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytorch.base.arguments import pair, whole
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn.module import Module
from tinytorch.tensor import shaping
from tinytorch.tensor.dispatch import copied, in_float32
from tinytorch.tensor.indexing import take
from tinytorch.tensor.tensor import Tensor


class Flatten(Module):
    """Neighbouring axes become one: (N, ...) -> (N, product of the rest), by default.

    Args:
        start_dim: first axis of those that become one; default 1.
        end_dim: last of them; default -1, the last of all.

    Differs from PyTorch: numbers (N,) become (N, 1), rows of one feature.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.Flatten()(tt.zeros(2, 3, 4, 4)).shape
        (2, 48)
    """

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        for name, value in (("start_dim", start_dim), ("end_dim", end_dim)):
            if not isinstance(value, int):
                raise SettingError(
                    f"Flatten: {name} is no axis",
                    got=f"{name}={value!r}",
                    rule="a whole number; negative ones count from the last axis",
                    fix="Flatten()",
                )
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) -> (N, features)."""
        shape, rank = tuple(x.shape), len(x.shape)
        first, last = (d + rank if d < 0 else d for d in (self.start_dim, self.end_dim))
        if rank == 1 and (first, last) == (1, 0):  # (N,): nothing to join, one feature each
            return x.reshape(shape[0], 1)
        if not 0 <= first <= last < rank:
            raise ShapeError(
                "Flatten: the input does not have these axes",
                got=f"x {shape}, start_dim={self.start_dim}, end_dim={self.end_dim}",
                rule="start_dim <= end_dim, both axes of the input",
                fix="x.unsqueeze(0), if the batch axis is missing",
            )
        # counted here: reshape's -1 cannot be worked out for an empty batch
        joined = math.prod(shape[first : last + 1])
        return x.reshape(*shape[:first], joined, *shape[last + 1 :])

    def extra_repr(self) -> str:
        """The axes, if not the usual ones."""
        if (self.start_dim, self.end_dim) == (1, -1):
            return ""
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """One axis becomes several: what Flatten joined comes apart.

    Args:
        dim: the axis.
        unflattened_size: its sizes, whose product is the size of the axis.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.Unflatten(1, (3, 4, 4))(tt.zeros(2, 48)).shape
        (2, 3, 4, 4)
    """

    _shown = {"dim": ..., "unflattened_size": ...}

    def __init__(self, dim: int, unflattened_size: tuple[int, ...]):
        self.dim = dim
        self.unflattened_size = tuple(
            whole("Unflatten", "unflattened_size", size, at_least=0) for size in unflattened_size
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, features) -> (N, ...)."""
        shape = tuple(x.shape)
        at = self.dim + len(shape) if self.dim < 0 else self.dim
        if not 0 <= at < len(shape) or shape[at] != math.prod(self.unflattened_size):
            raise ShapeError(
                "Unflatten: the axis does not come apart into these sizes",
                got=f"x {shape}, dim={self.dim}, unflattened_size={self.unflattened_size}",
                rule="the size of the axis is the product of the sizes",
                fix="give the layer before it that many features",
            )
        return x.reshape(*shape[:at], *self.unflattened_size, *shape[at + 1 :])


class Identity(Module):
    """x, unchanged: for a place where a layer may stand."""

    def forward(self, x: Tensor) -> Tensor:
        """The same Tensor."""
        return x


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: Any = None) -> Tensor:
    """Numbers added around an array; negative counts cut off.

    Args:
        input: any shape.
        pad: (before, after) of the last axis, then of the one before it, and so on.
        mode: "constant", "reflect" (a mirror on the first and on the last number, which are not
            repeated), "replicate" (those repeated) or "circular" (the other end).
        value: what constant padding adds, a number or a 0-d Tensor; default 0.

    Raises:
        ShapeError: counts that do not belong to the axes, or more than there is to mirror.

    Example:
        >>> import tinytorch as tt
        >>> pad(tt.Tensor([[1.0, 2.0]]), (1, 0, 0, 1)).tolist()
        [[0.0, 1.0, 2.0], [0.0, 0.0, 0.0]]
    """
    if mode != "constant" and (mode not in _AROUND or value is not None):
        raise SettingError(
            "pad: no such mode",
            got=f"mode={mode!r}, value={value}",
            rule='"constant" with a value, "reflect", "replicate" or "circular" without',
            fix='pad(x, (1, 1), "reflect")',
        )
    rank = len(input.shape)
    if len(pad) % 2 or len(pad) > 2 * rank or not all(isinstance(n, int) for n in pad):
        raise ShapeError(
            "pad: the counts do not belong to the axes",
            got=f"pad={tuple(pad)} for input {tuple(input.shape)}",
            rule="two whole numbers for each axis that is padded, the last axis first",
            fix="pad(x, (left, right, top, bottom)) for images",
        )
    before, after, key = [0] * rank, [0] * rank, [slice(None)] * rank
    for i, (low, high) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        axis, size = rank - 1 - i, input.shape[rank - 1 - i]
        if low + high + size < 0:
            raise ShapeError(
                "pad: more is cut off than there is",
                got=f"({low}, {high}) for an axis of {size}",
                rule="size + before + after >= 0",
                fix=f"cut off at most {size}",
            )
        if mode != "constant":
            input = _around(input, axis, low, high, mode)
        key[axis] = slice(max(0, -low), size - max(0, -high))
        before[axis], after[axis] = max(0, low), max(0, high)
    if mode != "constant":
        return input if any(pad) else copied(input)
    if min(pad, default=0) < 0:
        input = input[tuple(key)]
    if max(pad, default=0) > 0:
        return shaping.pad(input, before, after, 0.0 if value is None else value)
    return copied(input)


_AROUND = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}  # and NumPy's names


def _around(x: Tensor, axis: int, low: int, high: int, mode: str) -> Tensor:
    """x with numbers of its own added along one axis."""
    n, more = x.shape[axis], max(low, high)
    most = {"reflect": n - 1, "circular": n, "replicate": more if n else 0}[mode]
    if more > most:
        raise ShapeError(
            f"pad: {mode} has not so many numbers to add",
            got=f"({low}, {high}) for an axis of {n}",
            rule={"reflect": "counts below the size", "circular": "counts up to the size"}.get(
                mode, "at least one number to repeat"
            ),
            fix='mode="constant"',
        )
    if not low and not high:
        return x
    places, cut = np.arange(n), slice(max(0, -low), n - max(0, -high))
    if mode == "circular":  # what is cut off is no end
        places = places[cut]
    sides = max(low, 0), max(high, 0)
    places = np.pad(places, sides, _AROUND[mode])  # pyright: ignore[reportCallIssue,reportArgumentType]
    if mode != "circular":
        places = places[cut.start : len(places) - max(0, -high)]
    return take(x, Tensor(places), axis)


@in_float32()
def interpolate(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
    align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:  # fmt: skip
    """Signals, images or volumes of another size: each number is made of those around its place.

        place of i:  (i + 1/2) n / m - 1/2, for m numbers out of n;  i (n - 1) / (m - 1) with
        align_corners

    Args:
        input: (N, C, T), (N, C, H, W) or (N, C, D, H, W).
        size: of the result, one number for all axes or one for each; or scale_factor.
        scale_factor: how much larger, one number or one for each axis; sizes are rounded down.
        mode: "nearest" (the number before the place), "nearest-exact" (the one nearest to it),
            "linear", "bilinear", "trilinear" (for one, two, three axes), "bicubic", or "area" (the
            means of windows, as adaptive_avg_pool2d).
        align_corners: the first and last numbers stay where they are; for the linear modes and
            bicubic; default False.
        recompute_scale_factor: take n / m from the rounded sizes and not from scale_factor.
        antialias: not offered: only False.

    Returns:
        (N, C, *sizes).

    Raises:
        SettingError: no such mode for so many axes, or both or none of size and scale_factor.

    Cost: nearest: one lookup along each axis (whole factors: a broadcast view, copied once);
        linear: two and bicubic: four lookups and multiplications; area: a product with a matrix.

    Source: Keys 1981, "Cubic convolution interpolation for digital image processing", equation 15
    with a = -3/4, as in PyTorch. Nearest with a convolution behind it: Odena, Dumoulin, Olah 2016,
    https://distill.pub/2016/deconv-checkerboard.

    Example:
        >>> import tinytorch as tt
        >>> interpolate(tt.Tensor([[[0.0, 1.0]]]), size=4, mode="linear").tolist()
        [[[0.0, 0.25, 0.75, 1.0]]]
    """
    axes = len(input.shape) - 2
    _check_mode(mode, axes, antialias, align_corners)
    sizes, scales = _new_sizes(tuple(input.shape[2:]), size, scale_factor, axes)
    if recompute_scale_factor:
        scales = (None,) * axes
    old = tuple(input.shape[2:])
    factors = tuple(m // n for n, m in zip(old, sizes, strict=True))
    whole_ones = all(n * k == m for n, m, k in zip(old, sizes, factors, strict=True))
    if (
        mode == "nearest"
        and whole_ones
        and all(s in (None, k) for s, k in zip(scales, factors, strict=True))
    ):
        return _blocks(input, factors)
    for axis, (n, m, scale) in enumerate(zip(old, sizes, scales, strict=True), 2):
        step = 1.0 / scale if scale is not None else n / m
        input = _resampled(input, axis, m, *_taps(mode, n, m, step, bool(align_corners)))
    return input


_MODES = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}  # and how many axes they want


def _check_mode(mode: str, axes: int, antialias: bool, align_corners: bool | None) -> None:
    plain = ("nearest", "nearest-exact", "area")
    known = mode in plain or _MODES.get(mode) == axes
    if not known or antialias or not 1 <= axes <= 3 or (mode in plain and align_corners):
        raise SettingError(
            "interpolate: this is not offered",
            got=f"mode={mode!r} for {axes} axes, align_corners={align_corners}, "
            f"antialias={antialias}",
            rule="nearest, nearest-exact, area for 1 to 3 axes without align_corners; linear for 1,"
            " bilinear and bicubic for 2, trilinear for 3; antialias=False",
            fix='interpolate(x, size=(64, 64), mode="bilinear")',
        )


def _new_sizes(old: tuple, size: Any, scale_factor: Any, axes: int) -> tuple[tuple, tuple]:
    """(sizes, factors or None for each axis)."""
    given = size if size is not None else scale_factor
    each = tuple(given) if isinstance(given, (list, tuple)) else (given,) * axes
    positive = all(isinstance(v, (int, float)) and v > 0 for v in each)
    if (size is None) == (scale_factor is None) or len(each) != axes or not positive or 0 in old:
        raise SettingError(
            "interpolate: this is no new size",
            got=f"size={size}, scale_factor={scale_factor} for axes {old}",
            rule="size or scale_factor, above 0, one number or one for each axis",
            fix="interpolate(x, scale_factor=2)",
        )
    if size is not None:
        return tuple(int(m) for m in each), (None,) * axes
    return tuple(int(n * k) for n, k in zip(old, each, strict=True)), each


def _blocks(x: Tensor, factors: tuple[int, ...]) -> Tensor:
    """Each number as a block of its copies."""
    lead, old = tuple(x.shape[:2]), tuple(x.shape[2:])
    apart = [n for pair in zip(old, (1,) * len(old), strict=True) for n in pair]
    wide = [n for pair in zip(old, factors, strict=True) for n in pair]
    blocks = shaping.broadcast_to(x.reshape(*lead, *apart), (*lead, *wide))
    return blocks.reshape(*lead, *(n * k for n, k in zip(old, factors, strict=True)))


def _taps(mode: str, n: int, m: int, step: float, align: bool) -> tuple[Any, Any]:
    """Which of n numbers each of m is made of, (taps, m), and their shares (None: one, all)."""
    i = np.arange(m)
    if mode == "nearest":
        places = np.floor(i.astype(np.float32) * np.float32(step))
        return np.minimum(places, n - 1)[None], None
    if mode == "nearest-exact":
        places = np.floor((i + 0.5).astype(np.float32) * np.float32(step))
        return np.minimum(places, n - 1)[None], None
    if mode == "area":
        first, last = i * n // m, -(-(i + 1) * n // m)
        places = first + np.arange((last - first).max())[:, None]
        inside = places < last
        return np.where(inside, places, 0), inside / (last - first)
    place = i * ((n - 1) / (m - 1) if m > 1 else 0.0) if align else (i + 0.5) * step - 0.5
    if mode == "bicubic":
        first = np.floor(place)
        places = np.clip(first + np.arange(-1, 3)[:, None], 0, n - 1)
        return places, _cubic(np.abs(place - first - np.arange(-1, 3)[:, None]))
    place = np.maximum(place, 0.0)
    first = np.minimum(np.floor(place), n - 1)
    share = place - first
    return np.stack([first, np.minimum(first + 1, n - 1)]), np.stack([1.0 - share, share])


def _cubic(d: np.ndarray) -> np.ndarray:
    """Keys' kernel at a distance of 0 to 2."""
    a = -0.75
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    return np.where(d <= 1, near, ((d - 5) * d + 8) * d * a - 4 * a)


def _resampled(x: Tensor, axis: int, m: int, places: np.ndarray, shares: Any) -> Tensor:
    """Sums of numbers along an axis, each with its share."""
    total = None
    for tap, places_of in enumerate(places):
        term = take(x, Tensor(places_of.astype(np.int64)), axis)
        if shares is not None:
            share = Tensor(shares[tap]).astype(x.dtype)
            term = term * share.reshape(m, *(1,) * (len(x.shape) - axis - 1))
        total = term if total is None else total + term
    return total  # pyright: ignore[reportReturnType]  (there is a tap)


class Upsample(Module):
    """Each pixel becomes a block of its copies.

    Args:
        scale_factor: whole number, or a pair (vertical, horizontal); default 2.

    Shapes: (N, C, H, W) -> (N, C, H * vertical, W * horizontal).

    Differs from PyTorch: whole factors and nearest only; scale_factor comes first.

    Example:
        >>> import tinytorch as tt
        >>> tt.nn.Upsample()(tt.Tensor([[[[1.0, 2.0]]]])).tolist()
        [[[[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]]]
    """

    _shown = {"scale_factor": ...}

    def __init__(self, scale_factor: Any = 2):
        self.scale_factor = pair("Upsample", "scale_factor", scale_factor, at_least=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same, enlarged."""
        return interpolate(x, scale_factor=self.scale_factor)
