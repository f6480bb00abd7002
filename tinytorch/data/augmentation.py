"""Changes at random that keep what a picture shows: crop, flip, cutout, for a whole batch at once.

Knows images (B, C, H, W) as bytes or numbers, and a stream of random numbers; never files.
A transform is any callable `transform(batch, stream) -> batch` on tuples of arrays, the images
first. It never changes the arrays it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tinytorch.base import checks
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.data.stream import Stream

Batch = tuple[np.ndarray, ...]
Transform = Callable[[Batch, Stream], Batch]


class Compose:
    """Transforms one after the other.

    Args:
        transforms: callables `transform(batch, stream) -> batch`.

    Raises:
        SettingError: one of them cannot be called.

    Example:
        >>> both = Compose([RandomCrop(4, padding=1), RandomFlip()])
        >>> images, labels = both((np.ones((2, 1, 4, 4)), np.arange(2)), Stream(seed=1))
        >>> images.shape, labels
        ((2, 1, 4, 4), array([0, 1]))
    """

    def __init__(self, transforms: Sequence[Transform]):
        self.transforms = tuple(transforms)
        wrong = [t for t in self.transforms if not callable(t)]
        if wrong:
            raise SettingError(
                "Compose: this is not a transform",
                got=repr(wrong[0]),
                rule="a callable: transform(batch, stream) -> batch",
                fix="Compose([RandomCrop(32, padding=4), RandomFlip()])",
            )

    def __call__(self, batch: Batch, stream: Stream) -> Batch:
        """The batch after every transform in turn."""
        for transform in self.transforms:
            batch = transform(batch, stream)
        return batch


class RandomCrop:
    """A window of each image at a random place, after zeros were put around it.

    Every place is equally likely: (H + 2 * padding - height + 1) rows times as many columns.

    Args:
        size: (height, width) of the window, or one number for both; >= 1.
        padding: zeros on each side, >= 0, one number or (vertical, horizontal).

    Shapes: (B, C, H, W) -> (B, C, height, width).

    Raises:
        SettingError: a setting outside its range.
        ShapeError: no batch of images, or the window is larger than the padded image.

    Cost: reads and writes the images twice.

    Differs from torchvision: works on a batch; padding is zeros only.

    Example:
        >>> images = np.arange(1, 5).reshape(1, 1, 2, 2)
        >>> RandomCrop(2, padding=1)((images,), Stream(seed=7))[0][0, 0]
        array([[0, 0],
               [1, 2]])
    """

    def __init__(self, size: int | tuple[int, int], padding: int | tuple[int, int] = 0):
        self.size = checks.pair("RandomCrop", "size", size, at_least=1)
        self.padding = checks.pair("RandomCrop", "padding", padding, at_least=0)

    def __call__(self, batch: Batch, stream: Stream) -> Batch:
        """The batch with a window of each image."""
        x = images_of(batch, "RandomCrop")
        b, c, h, w = x.shape
        (height, width), (p, q) = self.size, self.padding
        rows, columns = h + 2 * p - height + 1, w + 2 * q - width + 1
        if rows < 1 or columns < 1:
            raise ShapeError(
                "RandomCrop: the window is larger than the image",
                got=f"images {x.shape}, padding {self.padding}, window {self.size}",
                rule="size <= image + 2 * padding",
                fix=f"RandomCrop(({min(height, h)}, {min(width, w)}), padding={self.padding})",
            )
        padded = np.zeros((b, c, h + 2 * p, w + 2 * q), x.dtype)
        rows_of(padded, p, q, h, w)[...] = rows_of(np.ascontiguousarray(x), 0, 0, h, w)
        top, left = stream.whole(rows, b), stream.whole(columns, b)
        return (windows(padded, top, left, height, width), *batch[1:])


def rows_of(x: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """A window of all images as whole rows, (B, C, height) of `width` numbers in one item.

    Note [rows as items]: NumPy copies an item of any size at once, but steps through numbers; with
    rows of 32 bytes as items, cutting windows takes a third of the time.
    """
    row = np.dtype((np.void, width * x.itemsize))
    start = top * x.strides[2] + left * x.strides[3]
    return np.ndarray((*x.shape[:2], height), row, x, start, x.strides[:3])


def windows(
    x: np.ndarray, top: np.ndarray, left: np.ndarray, height: int, width: int
) -> np.ndarray:
    """From each image the window that begins at its own (top, left), (B, C, height, width).

    See Note [rows as items].
    """
    b, c, h, w = x.shape
    row = np.dtype((np.void, width * x.itemsize))
    shape = (b, h - height + 1, w - width + 1, c, height)
    sb, sc, sh, sw = x.strides
    every = np.ndarray(shape, row, x, 0, (sb, sh, sw, sc, sh))
    return every[np.arange(b), top, left].view(x.dtype).reshape(b, c, height, width)


class RandomFlip:
    """Each image mirrored left to right with a probability.

    Args:
        probability: of being mirrored, in [0, 1]; default 0.5.

    Shapes: (B, C, H, W) -> the same.

    Raises:
        SettingError: the probability is outside its range.
        ShapeError: no batch of images.

    Cost: a copy of the images, and of those that are mirrored once more.

    Differs from torchvision's RandomHorizontalFlip: works on a batch.

    Example:
        >>> RandomFlip(1.0)((np.array([[[[1, 2, 3]]]]),), Stream())[0].tolist()
        [[[[3, 2, 1]]]]
    """

    def __init__(self, probability: float = 0.5):
        self.probability = checks.number("RandomFlip", "probability", probability, "[0, 1]")

    def __call__(self, batch: Batch, stream: Stream) -> Batch:
        """The batch with some images mirrored."""
        x = images_of(batch, "RandomFlip")
        chosen = np.flatnonzero(stream.chance(self.probability, len(x)))
        out = x.copy()
        out[chosen] = mirrored(x[chosen])
        return (out, *batch[1:])


def mirrored(x: np.ndarray) -> np.ndarray:
    """The images with their columns in the opposite order.

    Bytes are turned round eight at a time: the words of a row in the opposite order, and in each
    word the bytes, which takes a third of the time.
    """
    if x.itemsize > 1 or x.shape[-1] % 8:
        return x[..., ::-1]
    words = np.ascontiguousarray(x).view(np.uint64)[..., ::-1]
    return np.ascontiguousarray(words).byteswap().view(x.dtype)


class Cutout:
    """A square of zeros in each image, its centre anywhere, so that it may hang over the edge.

    Args:
        size: length of a side in pixels, >= 1.

    Shapes: (B, C, H, W) -> the same.

    Raises:
        SettingError: the size is outside its range.
        ShapeError: no batch of images.

    Cost: one pass over the images.

    Source: T. DeVries, G. Taylor (2017), Improved regularization of convolutional neural networks
    with cutout, arXiv:1708.04552, section 3.

    Example:
        >>> Cutout(2)((np.ones((1, 1, 3, 3), int),), Stream(seed=6))[0][0, 0]
        array([[0, 1, 1],
               [1, 1, 1],
               [1, 1, 1]])
    """

    def __init__(self, size: int):
        self.size = checks.whole("Cutout", "size", size, at_least=1)

    def __call__(self, batch: Batch, stream: Stream) -> Batch:
        """The batch with a square of each image put to zero."""
        x = images_of(batch, "Cutout")
        b, _, h, w = x.shape
        rows, columns = self._hit(h, stream.whole(h, b)), self._hit(w, stream.whole(w, b))
        kept = ~(rows[:, None, :, None] & columns[:, None, None, :])  # (B, 1, H, W)
        return (x * kept.astype(x.dtype), *batch[1:])

    def _hit(self, length: int, centre: np.ndarray) -> np.ndarray:
        """Which places of an axis the square covers, (B, length) bool."""
        first = centre[:, None] - self.size // 2
        place = np.arange(length)
        return (first <= place) & (place < first + self.size)


def images_of(batch: Batch, owner: str) -> np.ndarray:
    """The images of a batch, or a ShapeError if its first array is none."""
    x = np.asarray(batch[0]) if batch else np.empty(0)
    if x.ndim == 4 and x.dtype.kind in "biuf" and 0 not in x.shape[1:]:
        return x
    raise ShapeError(
        f"{owner}: the batch does not begin with images",
        got=f"shapes {[np.shape(x) for x in batch]}",
        rule="images (B, C, H, W) of numbers first, each with at least one",
        fix="images[:, None] for grey images (B, H, W)",
    )
