"""Columns: the windows of images, laid out as the rows of a matrix.

Knows windows and memory, never filters. Convolution becomes a product of matrices (Chellapilla et
al. 2006, "High performance convolutional neural networks for document processing").
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tinytorch.primitives.windows import Window, padded


class Columns:
    """The windows of a batch of images, image by image, so that they stay in the cache.

    Note [columns of whole rows]
        With a stride of 1 the windows of an output row read neighbouring elements, and those of
        the next row begin one padded image row later. So one run of OH x (padded W) elements,
        which is contiguous, holds a tap of every window, and a few elements at the end of each
        row that belong to none: copied as one run it costs half as much as row by row. Of a view
        this asks that rows follow one another, and `strides[3]` is asked too where W is 1: NumPy
        leaves the stride of an axis of size 1 as it was, and the run goes along it.
        Products carry these elements along; `narrow` leaves them out, `widen` has zeros there.

    Args:
        x: images (N, C, H, W).
        kernel: (KH, KW).
        out_size: (OH, OW), positions of the filter.
        window: stride, padding, dilation, groups.
        working: dtype of the columns.
    """

    def __init__(self, x: np.ndarray, kernel: tuple, out_size: tuple, window: Window, working):
        n, c = x.shape[:2]
        (sh, sw), padding, (eh, ew), groups = window
        oh, ow = self.out_size = out_size
        whole_rows = (sh, sw) == (1, 1)
        image = padded(x, padding, 0, extra_rows=1 if whole_rows and kernel[1] > 1 else 0)
        if whole_rows and image.strides[2] != image.shape[3] * image.strides[3]:
            image = image.copy(order="C")  # a view: its rows do not follow one another
        (dn, dc, dh, dw) = image.strides
        self.row = image.shape[3] if whole_rows else ow
        positions, steps = (
            ((oh * self.row,), (dw,)) if whole_rows else ((oh, ow), (dh * sh, dw * sw))
        )
        self.images = np.lib.stride_tricks.as_strided(
            image,
            (n, groups, c // groups, *kernel, *positions),
            (dn, dc * (c // groups), dc, dh * eh, dw * ew, *steps),
            writeable=False,
        )
        self.matrix = np.empty(self.images.shape[1:], working)
        taps = c // groups * kernel[0] * kernel[1]
        self.flat = self.matrix.reshape(groups, taps, oh * self.row)

    def __iter__(self) -> Iterator[np.ndarray]:
        """For each image (groups, C / groups KH KW, OH row); the same memory each time."""
        for image in self.images:
            np.copyto(self.matrix, image, casting="unsafe")
            yield self.flat

    @property
    def width(self) -> int:
        """Columns of the matrix, OH row."""
        return self.out_size[0] * self.row

    def narrow(self, x: np.ndarray) -> np.ndarray:
        """(..., OH row) -> (..., OH, OW)."""
        return self._rows(x)[..., : self.out_size[1]]

    def clear_between_rows(self) -> None:
        """Zeros where an element belongs to no window: an infinity there times 0 is NaN."""
        self._rows(self.flat)[..., self.out_size[1] :] = 0

    def _rows(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(*x.shape[:-1], self.out_size[0], self.row)
