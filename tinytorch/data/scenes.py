"""Scenes: pictures of several things at random places, made of pictures of one thing each.

What is where is known, so that a detector can be trained and measured. Knows pictures as arrays and
a stream of random numbers, never networks.
"""

from __future__ import annotations

import numpy as np

from tinytorch.base.arguments import number, whole
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.data.dataset import check_dataset, check_index
from tinytorch.data.dataset import take as taken
from tinytorch.data.stream import SCENES, Stream

INK = 0.25  # a pixel brighter than this belongs to the thing: MNIST's strokes fade to 0 in two
TRIES = 20  # places tried for a thing before the scene goes without it


class Scenes:
    """Scenes of things on a black ground: each of another size, at a place of its own.

    A scene is decided by seed and number alone. A thing is a picture of the data set, resized; its
    box is the smallest that holds what is bright in it. Where two things overlap the brighter pixel
    is seen.

    Args:
        dataset: pictures of one thing each, (C, h, w) in [0, 1], and classes: `load_mnist()`.
        count: scenes there are; at least 1.
        size: H = W of a scene; default 64.
        most: things in a scene: 1 to so many, at least 1; default 4.
        smallest: least side of a resized picture, in pixels; default 18.
        largest: most, at most `size`; default 36.
        overlap: most IoU of two boxes, in [0, 1); default 0.1.
        seed: 0 <= seed < 2**64; another seed gives other scenes.

    Raises:
        SettingError: a setting outside its range.

    Shapes: scene i is (picture (C, size, size) float32 in [0, 1], things (most, 5) float32). A row
    of things is (class, x, y, width, height): the centre and sides of a box in parts of the
    picture, as in the label files of darknet; class -1, and zeros, in the rows that are left over.

    Cost: about 0.3 ms a scene; made when it is taken.

    Source: rows of labels: Redmon & Farhadi 2018, https://arxiv.org/abs/1804.02767 (darknet).

    Example:
        >>> from tinytorch.data import load_digits
        >>> scenes = Scenes(load_digits("train"), 10, size=32, most=2, smallest=10, largest=16)
        >>> picture, things = scenes[3]
        >>> picture.shape, things.shape, len(scenes)
        ((1, 32, 32), (2, 5), 10)
    """

    def __init__(
        self, dataset, count: int, size: int = 64, most: int = 4, smallest: int = 18,
        largest: int = 36, overlap: float = 0.1, seed: int = 0,
    ):  # fmt: skip
        check_dataset(dataset)
        self.dataset = dataset
        self.count = whole("Scenes", "count", count, at_least=1)
        self.size = whole("Scenes", "size", size, at_least=1)
        self.most = whole("Scenes", "most", most, at_least=1)
        self.smallest = whole("Scenes", "smallest", smallest, at_least=1)
        self.largest = whole("Scenes", "largest", largest, at_least=1)
        if not self.smallest <= self.largest <= self.size:
            raise SettingError(
                "Scenes: things of these sizes do not fit",
                got=f"smallest={smallest}, largest={largest}, size={size}",
                rule="smallest <= largest <= size",
                fix=f"smallest={max(1, self.size // 4)}, largest={max(1, self.size // 2)}",
            )
        self.overlap = number("Scenes", "overlap", overlap, "[0, 1)")
        self.seed = whole("Scenes", "seed", seed, at_least=0)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        check_index(index, self.count)
        pictures, things = self.take(np.array([index % self.count]))
        return pictures[0], things[0]

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """Scenes (B, C, size, size) and their things (B, most, 5), float32."""
        made = [self._scene(int(i)) for i in np.asarray(indices)]
        return tuple(np.stack(parts) for parts in zip(*made, strict=True))

    def _scene(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        stream = Stream(self.seed, batch=index, purpose=SCENES)
        wanted = 1 + int(stream.whole(self.most, 1)[0])
        pictures, classes = self._pictures(stream.whole(len(self.dataset), wanted))
        sides = self.smallest + stream.whole(self.largest - self.smallest + 1, wanted)
        scene = np.zeros((pictures.shape[1], self.size, self.size), np.float32)
        boxes: list[np.ndarray] = []
        things = np.zeros((self.most, 5), np.float32)
        things[:, 0] = -1
        for picture, label, side in zip(pictures, classes, sides, strict=True):
            thing = cut(resized(picture, int(side)))
            if (box := self._place(thing.shape[1:], boxes, stream)) is None:
                continue
            low, high = box[:2], box[2:]
            ground = scene[:, low[1] : high[1], low[0] : high[0]]
            np.maximum(ground, thing, out=ground)
            things[len(boxes)] = [
                label, *(low + high) / 2 / self.size, *(high - low) / self.size
            ]  # fmt: skip
            boxes.append(box)
        return scene, things

    def _pictures(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = taken(self.dataset, indices)
        if not isinstance(found, tuple) or len(found) < 2 or found[0].ndim != 4:
            raise ShapeError(
                "Scenes: the data set has no pictures with classes",
                got=f"{type(self.dataset).__name__} with samples of shapes "
                + ", ".join(str(np.shape(x)[1:]) for x in found),
                rule="samples (picture (C, h, w), class)",
                fix='Scenes(load_mnist("train"), count)',
            )
        return found[0], found[1]

    def _place(
        self, shape: tuple[int, ...], boxes: list[np.ndarray], stream: Stream
    ) -> np.ndarray | None:
        """A box of this height and width at random that leaves the others alone, or None."""
        height, width = shape
        lefts = stream.whole(self.size - width + 1, TRIES)
        tops = stream.whole(self.size - height + 1, TRIES)
        for left, top in zip(lefts, tops, strict=True):
            box = np.array([left, top, left + width, top + height])
            if all(_iou(box, other) <= self.overlap for other in boxes):
                return box
        return None


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    """As `nn.boxes.box_iou`, which is for Tensors."""
    common = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0).prod()
    return common / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - common)


def resized(picture: np.ndarray, side: int) -> np.ndarray:
    """(C, h, w) as (C, side, side), each pixel between its four neighbours; float32.

    Corners of the pixels lie on corners: pixel i of n is at (i + 0.5) / n, as in PyTorch's
    interpolate(mode="bilinear", align_corners=False).

    Args:
        picture: (C, h, w).
        side: height and width of the result, at least 1.

    Example:
        >>> resized(np.array([[[0.0, 1.0]]]), 2).round(2).tolist()
        [[[0.0, 1.0], [0.0, 1.0]]]
    """
    rows, columns = (_between(n, side) for n in picture.shape[1:])
    return (rows @ picture @ columns.T).astype(np.float32)


def _between(n: int, side: int) -> np.ndarray:
    """(side, n): how much of each of n neighbours a pixel of the result is."""
    at = np.clip((np.arange(side) + 0.5) * n / side - 0.5, 0, n - 1)
    low = np.minimum(at.astype(int), max(n - 2, 0))
    out = np.zeros((side, n))
    out[np.arange(side), low] = 1 - (at - low)
    if n > 1:
        out[np.arange(side), low + 1] = at - low
    return out


def cut(picture: np.ndarray) -> np.ndarray:
    """The smallest part of (C, h, w) that holds all bright pixels; all of it if there are none."""
    bright = (picture > INK).any(0)
    if not bright.any():
        return picture
    rows, columns = np.flatnonzero(bright.any(-1)), np.flatnonzero(bright.any(0))
    return picture[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
