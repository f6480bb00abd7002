"""Test-time augmentation: a model is asked about several views of a picture, and the mean counts.

Knows pictures as NumPy arrays and whatever gives logits for them; never labels or models.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinytorch.base.arguments import whole
from tinytorch.data.augmentation import images_of, mirrored, mirrored_around
from tinytorch.tensor.creation import asarray


def mean_over_views(predict: Callable[[Any], Any], images: np.ndarray, shift: int = 1) -> Any:
    """Mean logits of each picture and its mirror image; half of it of views that are moved.

        mean(x) = (predict(x) + predict(mirrored x)) / 2
        out = mean(x) / 2 + (mean(x up and left) + mean(x down and right)) / 4

    The edge that comes in is the mirror of what stands beside it.

    Args:
        predict: images -> logits (B, K), a Tensor or an array.
        images: (B, C, H, W), of any number type.
        shift: pixels that views are moved by, at least 0; 0: the picture and its mirror image.

    Returns:
        (B, K) float64.

    Raises:
        ShapeError: no pictures, or they are too small to be moved so far.

    Cost: six predictions; two without a shift.

    Source: the weights and moves are those of K. Jordan 2024, https://arxiv.org/abs/2404.00498,
    section 3.5; mirror images those of Krizhevsky et al. 2012, section 4.1.

    Example:
        >>> images = np.array([[[[1.0, 2.0, 4.0]]]])
        >>> mean_over_views(lambda x: x[:, 0, 0, :1], images, shift=0)    # 1 and, mirrored, 4
        array([[2.5]])
    """
    x = images_of((images,), "mean_over_views")
    step = whole("mean_over_views", "shift", shift, at_least=0)

    def both(x: np.ndarray) -> np.ndarray:
        views = (np.ascontiguousarray(view) for view in (x, mirrored(x)))
        first, second = (asarray(predict(view)).numpy().astype(np.float64) for view in views)
        return (first + second) / 2

    out = both(x)
    if not step:
        return out
    height, width = x.shape[2:]
    around = mirrored_around(x, step, step)
    moved = [around[:, :, at : at + height, at : at + width] for at in (2 * step, 0)]
    return out / 2 + (both(moved[0]) + both(moved[1])) / 4
