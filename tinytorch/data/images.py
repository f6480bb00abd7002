"""Pictures with labels, kept as bytes.

Knows arrays of bytes and class numbers, never files or augmentation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinytorch.base import checks
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.data.dataset import check_index
from tinytorch.data.labels import class_numbers
from tinytorch.data.mapped import MappedArray


class ImageDataset:
    """Images kept as bytes and handed out as numbers from 0 to 1, with their labels.

    Args:
        images: (N, H, W) grey or (N, C, H, W), uint8, in memory or mapped.
        labels: (N,) whole numbers >= 0.
        largest: the byte that means 1.0, in 1..255.
        classes: the names of the classes; then every label lies below their number.
        as_bytes: hand the images out as the bytes they are: a quarter of the memory to move, for
            a transform that turns them into numbers at its end (`Normalize`).

    Raises:
        ShapeError: the shapes are not as above.
        DataError: a label is not a class number (NaN, a fraction, negative, too large).
        SettingError: the images are not bytes, or `largest` is outside its range.

    Cost: N * C * H * W bytes; a batch is made when it is taken.

    Example:
        >>> data = ImageDataset(np.full((2, 1, 2), 4, np.uint8), np.array([0, 1]), largest=16)
        >>> data[1]
        (array([[[0.25, 0.25]]], dtype=float32), np.int64(1))
    """

    def __init__(
        self,
        images: np.ndarray | MappedArray,
        labels: np.ndarray,
        largest: int = 255,
        classes: Sequence[str] = (),
        as_bytes: bool = False,
    ):
        labels = np.asarray(labels)
        if not isinstance(images, MappedArray):
            images = np.asarray(images)
        if images.ndim not in (3, 4) or labels.shape != images.shape[:1]:
            raise ShapeError(
                "images and labels do not belong together",
                got=f"images {images.shape}, labels {labels.shape}",
                rule="images (N, H, W) or (N, C, H, W), and labels (N,)",
                fix="images.reshape(-1, 28, 28), labels.reshape(-1)",
            )
        if images.dtype != np.uint8:
            raise SettingError(
                "ImageDataset: the images are not bytes",
                got=f"dtype {images.dtype}",
                rule="uint8, 0 to `largest`",
                fix="ArrayDataset(images, labels) hands out numbers of any kind",
            )
        if not 1 <= largest <= 255:
            raise SettingError(
                "ImageDataset: largest is outside its range",
                got=f"largest={largest}",
                rule="1 <= largest <= 255, the byte that means white",
                fix="largest=255",
            )
        self.images = images
        self.classes = tuple(classes)
        self.labels = class_numbers(labels, len(self.classes) or None)
        self.largest = largest
        self.as_bytes = checks.flag("ImageDataset", "as_bytes", as_bytes)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple:
        check_index(index, len(self))
        images, labels = self.take(np.array([index]))
        return images[0], labels[0]

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """Images (B, C, H, W) and labels (B,) int64 with these numbers.

        The images are float32 in [0, 1], or uint8 where `as_bytes` is set.
        """
        images = self.images[indices]
        if images.ndim == 3:
            images = images[:, None]
        if not self.as_bytes:
            images = images.astype(np.float32)
            images *= np.float32(1 / self.largest)
        return images, self.labels[indices]
