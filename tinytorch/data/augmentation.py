"""Augmentation: changes at random that keep what a picture shows, for a whole batch at once.

Places (crop, flip, cutout), then colour and scale (jitter, normalisation, mixing two pictures).
Knows images (B, C, H, W) as bytes or numbers, labels, and a stream of random numbers; never files.
A transform is any callable `transform(batch, stream) -> batch` on tuples of arrays, the images
first. It never changes the arrays it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tinytorch.base.arguments import number, one_of, pair, whole
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.data.dataset import class_numbers
from tinytorch.data.stream import Stream, mixed

Batch = tuple[np.ndarray, ...]
Transform = Callable[[Batch, Stream], Batch]
WHITE = 255  # the byte that means 1.0
# How bright red, green and blue look: ITU-R BT.601, as torchvision rounds it.
LUMA = np.array([0.2989, 0.587, 0.114], np.float32).reshape(1, 3, 1, 1)


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
    """A window of each image at a random place, after zeros or its mirror were put around it.

    Every place is equally likely: (H + 2 * padding - height + 1) rows times as many columns.

    Args:
        size: (height, width) of the window, or one number for both; >= 1.
        padding: pixels on each side, >= 0, one number or (vertical, horizontal).
        padding_mode: what they are: "constant", zeros; or "reflect", the image mirrored at its
            edge, the edge itself not repeated, so that no edge is learned that is none.

    Shapes: (B, C, H, W) -> (B, C, height, width).

    Raises:
        SettingError: a setting outside its range.
        ShapeError: no batch of images, the window is larger than the padded image, or more is
            mirrored than there is.

    Cost: reads and writes the images twice.

    Differs from torchvision: works on a batch; two modes.

    Example:
        >>> images = np.arange(1, 5).reshape(1, 1, 2, 2)
        >>> RandomCrop(2, padding=1)((images,), Stream(seed=7))[0][0, 0]
        array([[0, 0],
               [1, 2]])
    """

    def __init__(
        self, size: int | tuple[int, int], padding: int | tuple[int, int] = 0,
        padding_mode: str = "constant",
    ):  # fmt: skip
        self.size = pair("RandomCrop", "size", size, at_least=1)
        self.padding = pair("RandomCrop", "padding", padding, at_least=0)
        self.padding_mode = one_of(
            "RandomCrop", "padding_mode", padding_mode, ("constant", "reflect")
        )

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
        if self.padding_mode == "reflect":
            padded = mirrored_around(x, p, q)
        else:
            padded = np.zeros((b, c, h + 2 * p, w + 2 * q), x.dtype)
            rows_of(padded, p, q, h, w)[...] = rows_of(np.ascontiguousarray(x), 0, 0, h, w)
        top, left = stream.whole(rows, b), stream.whole(columns, b)
        return (windows(padded, top, left, height, width), *batch[1:])


def mirrored_around(x: np.ndarray, vertical: int, horizontal: int) -> np.ndarray:
    """The images with what their mirrors at the edges show, the edges themselves once.

    Args:
        x: (B, C, H, W).
        vertical: rows above and below, less than H.
        horizontal: columns left and right, less than W.

    Raises:
        ShapeError: more rows or columns than there are beside the edge.

    Example:
        >>> mirrored_around(np.arange(3).reshape(1, 1, 1, 3), 0, 2)[0, 0].tolist()
        [[2, 1, 0, 1, 2, 1, 0]]
    """
    if vertical >= x.shape[2] or horizontal >= x.shape[3]:
        raise ShapeError(
            "mirrored_around: the image is too small to be mirrored so far",
            got=f"images {x.shape}, {vertical} rows and {horizontal} columns",
            rule="fewer rows than H and fewer columns than W",
            fix=f"padding={min(x.shape[2:]) - 1}",
        )
    sides = (0, 0), (0, 0), (vertical, vertical), (horizontal, horizontal)
    return np.pad(x, sides, mode="reflect")


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
        self.probability = number("RandomFlip", "probability", probability, "[0, 1]")

    def __call__(self, batch: Batch, stream: Stream) -> Batch:
        """The batch with some images mirrored."""
        x = images_of(batch, "RandomFlip")
        chosen = np.flatnonzero(stream.chance(self.probability, len(x)))
        out = x.copy()
        out[chosen] = mirrored(x[chosen])
        return (out, *batch[1:])


class AlternatingFlip:
    """Each image mirrored left to right in every other pass over the data.

    Which passes are an image's own is decided by a hash of the image and `seed`: half of them are
    mirrored in even passes, the others in odd ones. In two passes a network sees both views of
    every image, of which chance would show the same one twice in half of the cases.

    Args:
        seed: at least 0; another one draws other images. That of the loader has no part in it.

    Put it first: images that were changed at random before have another hash in each pass.

    Shapes: (B, C, H, W) -> the same.

    Raises:
        SettingError: the seed is negative.
        ShapeError: no batch of images.

    Cost: a copy of the images and a sum over them, and of those that are mirrored once more.

    Source: K. Jordan (2024), 94% on CIFAR-10 in 3.29 seconds on a single GPU, arXiv:2404.00498,
    section 3.6; there the hash is of the image's number.

    Example:
        >>> flip, images = AlternatingFlip(), np.arange(60, dtype=np.uint8).reshape(20, 1, 1, 3)
        >>> first, second = (flip((images,), Stream(epoch=e))[0] for e in (0, 1))
        >>> bool(((first[..., 0] > first[..., 2]) != (second[..., 0] > second[..., 2])).all())
        True
    """

    def __init__(self, seed: int = 0):
        self.seed = whole("AlternatingFlip", "seed", seed, at_least=0) % 2**64

    def __call__(self, batch: Batch, stream: Stream) -> Batch:
        """The batch with the images mirrored whose turn it is."""
        x = images_of(batch, "AlternatingFlip")
        out = np.array(x, order="C")
        words = mixed(out.reshape(len(x), -1).view(np.uint8).sum(axis=1, dtype=np.uint64))
        turns = (mixed(words ^ np.uint64(self.seed)) + np.uint64(stream.epoch)) & np.uint64(1)
        chosen = np.flatnonzero(turns)
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
        self.size = whole("Cutout", "size", size, at_least=1)

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


class Normalize:
    """Each channel moved and scaled, out = (x - mean) / std; bytes become numbers first (x / 255).

    Args:
        mean: one number, or one for each channel.
        std: likewise, each > 0. With the defaults bytes become numbers from 0 to 1.

    Shapes: (B, C, H, W) -> the same, float32.

    Raises:
        SettingError: a setting outside its range.
        ShapeError: no batch of images, or another number of channels.

    Cost: two passes over the images.

    Differs from torchvision: works on a batch, and takes bytes.

    Example:
        >>> images = np.array([0, 255], np.uint8).reshape(1, 1, 1, 2)
        >>> Normalize(0.5, 0.25)((images,), Stream())[0].tolist()
        [[[[-2.0, 2.0]]]]
    """

    def __init__(self, mean: float | Sequence[float] = 0.0, std: float | Sequence[float] = 1.0):
        self.mean = _per_channel("mean", mean, "(-inf, inf)")
        self.std = _per_channel("std", std, "(0, inf)")
        self._last: tuple[tuple, np.ndarray, np.ndarray] | None = None

    def __call__(self, batch: Batch, stream: Stream) -> Batch:
        """The batch with its images normalised."""
        x = images_of(batch, "Normalize")
        if {self.mean.size, self.std.size} - {1, x.shape[1]}:
            raise ShapeError(
                "Normalize: the channels do not fit",
                got=f"images {x.shape}, {self.mean.size} means, {self.std.size} deviations",
                rule="one number, or as many as the images have channels",
                fix=f"Normalize([0.5] * {x.shape[1]}, [0.25] * {x.shape[1]})",
            )
        scale, shift = self._for(x.shape[1:], WHITE if x.dtype == np.uint8 else 1)
        out = x.astype(np.float32)
        out *= scale
        out -= shift
        return (out, *batch[1:])

    def _for(self, shape: tuple[int, ...], white: int) -> tuple[np.ndarray, np.ndarray]:
        """Factor and difference written out for a whole image: NumPy's loops over (C, 1, 1) take a
        third longer. The last ones are kept."""
        last = self._last
        if last is None or last[0] != (shape, white):
            scale = np.broadcast_to(1 / (white * self.std), (1, *shape)).astype(np.float32)
            shift = np.broadcast_to(self.mean / self.std, (1, *shape)).astype(np.float32)
            last = ((shape, white), np.ascontiguousarray(scale), np.ascontiguousarray(shift))
            self._last = last  # one assignment: other threads see the old ones or these
        return last[1], last[2]


class ColorJitter:
    """Brightness, contrast and saturation of each image changed at random, in this order.

        brightness: f * x
        contrast:   f * x + (1 - f) * (mean brightness of the image)
        saturation: f * x + (1 - f) * (brightness of the pixel)

    each cut to [0, 1], with f uniform in [max(0, 1 - setting), 1 + setting) for each image.

    Args:
        brightness: how far f may be from 1, >= 0; 0 leaves the step out.
        contrast: likewise.
        saturation: likewise; needs three channels.

    Shapes: (B, C, H, W) in [0, 1], or bytes -> the same shape, float32 in [0, 1].

    Raises:
        SettingError: a setting outside its range.
        ShapeError: no batch of images, or not three channels where they are needed.

    Cost: about four passes over the images for each step.

    Differs from torchvision: a batch at once, no hue, always this order (there a random one).

    Example:
        >>> grey = ColorJitter(saturation=1.0)((np.full((1, 3, 1, 1), 0.5),), Stream())[0]
        >>> grey.round(3).ravel().tolist()  # without colour nothing changes
        [0.5, 0.5, 0.5]
    """

    def __init__(self, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0):
        self.brightness = number("ColorJitter", "brightness", brightness, "[0, inf)")
        self.contrast = number("ColorJitter", "contrast", contrast, "[0, inf)")
        self.saturation = number("ColorJitter", "saturation", saturation, "[0, inf)")

    def __call__(self, batch: Batch, stream: Stream) -> Batch:
        """The batch with other colours."""
        (x,) = Normalize()((images_of(batch, "ColorJitter"),), stream)
        if self.brightness:
            x = _blend(x, np.float32(0), _factors(stream, self.brightness, len(x)))
        if self.contrast:
            grey = _brightness(x).mean(axis=(1, 2, 3), keepdims=True)
            x = _blend(x, grey, _factors(stream, self.contrast, len(x)))
        if self.saturation:
            if x.shape[1] != 3:
                raise ShapeError(
                    "ColorJitter: saturation needs colours",
                    got=f"images {x.shape}",
                    rule="(B, 3, H, W): red, green, blue",
                    fix="ColorJitter(brightness, contrast)",
                )
            x = _blend(x, _brightness(x), _factors(stream, self.saturation, len(x)))
        return (x, *batch[1:])


class Mixup:
    """Each image mixed with another of the batch, and its label with the other's.

        x = l * x + (1 - l) * x[other],  y likewise on one-hot labels,  l from Beta(alpha, alpha)

    with one l and one random order of the batch, as in the authors' code.

    Args:
        alpha: > 0; large mixes evenly, small hardly at all. The paper uses 0.2 to 0.4 for images.
        classes: number of classes K, >= 2.

    Shapes: images (B, C, H, W), labels (B,) -> images float32, labels (B, K) float32: the
        probabilities that cross-entropy takes in place of class numbers.

    Raises:
        SettingError: a setting outside its range.
        ShapeError: no batch of images and labels.
        DataError: a label is outside 0..K-1.

    Cost: three passes over the images.

    Source: H. Zhang et al. (2018), mixup: beyond empirical risk minimization, arXiv:1710.09412,
    equation 1 and figure 1a.

    Example:
        >>> batch = np.ones((2, 1, 1, 1)), np.array([0, 2])
        >>> images, labels = Mixup(0.4, classes=3)(batch, Stream(seed=1))
        >>> labels.shape, labels.sum(axis=1).tolist()
        ((2, 3), [1.0, 1.0])
    """

    def __init__(self, alpha: float, classes: int):
        self.alpha = number("Mixup", "alpha", alpha, "(0, inf)")
        self.classes = whole("Mixup", "classes", classes, at_least=2)

    def __call__(self, batch: Batch, stream: Stream) -> Batch:
        """The batch with every image and label mixed with another."""
        (x,) = Normalize()((images_of(batch, "Mixup"),), stream)
        if len(batch) < 2 or np.shape(batch[1]) != x.shape[:1]:
            raise ShapeError(
                "Mixup: the batch does not hold images and labels",
                got=f"shapes {[np.shape(a) for a in batch]}",
                rule="images (B, C, H, W) and labels (B,)",
                fix="put Mixup last: it turns labels (B,) into probabilities (B, K)",
            )
        labels = class_numbers(batch[1], self.classes)
        share = np.float32(stream.beta(self.alpha, self.alpha))
        other = stream.permutation(len(x))
        y = np.zeros((len(x), self.classes), np.float32)
        y[np.arange(len(x)), labels] = 1
        x = share * x + (1 - share) * x[other]
        return (x, share * y + (1 - share) * y[other], *batch[2:])


def _per_channel(name: str, value: float | Sequence[float], interval: str) -> np.ndarray:
    values = np.atleast_1d(np.asarray(value)).tolist()
    if not values:
        raise SettingError(
            f"Normalize: {name} is empty",
            got=f"{name}={value!r}",
            rule="one number, or one for each channel",
            fix=f"Normalize({name}=0.5)",
        )
    numbers = [number("Normalize", name, v, interval) for v in values]
    return np.array(numbers).reshape(1, -1, 1, 1)


def _factors(stream: Stream, reach: float, n: int) -> np.ndarray:
    return stream.uniform(n, max(0.0, 1 - reach), 1 + reach).astype(np.float32).reshape(n, 1, 1, 1)


def _blend(x: np.ndarray, y: np.ndarray | np.float32, share: np.ndarray) -> np.ndarray:
    return np.clip(share * x + (1 - share) * y, 0, 1, dtype=np.float32)


def _brightness(x: np.ndarray) -> np.ndarray:
    """(B, 1, H, W): the weighted sum of three channels, or the only channel's own value."""
    return (x * LUMA).sum(axis=1, keepdims=True) if x.shape[1] == 3 else x
