"""A small network that learns CIFAR-10 in few epochs: whitened patches, three groups, a maximum.

What makes it quick stands before the first step: its first filters make neighbouring pixels
independent of each other (computed from training pictures, never trained), and every other
convolution begins by handing its input on. Knows layers, first weights and patches of pictures;
never where pictures come from or how weights move.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytorch.base.arguments import whole
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn import functional as F
from tinytorch.nn.convolution import Conv2d
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module, ModuleList
from tinytorch.nn.normalization import BatchNorm2d
from tinytorch.tensor.creation import asarray
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.tensor import Tensor

# Jordan's numbers (see WhitenedCNN): side of a patch, what is added to each variance so that noise
# is not blown up, how much of the running statistics a batch replaces.
PATCH, SMALLEST_VARIANCE, MOMENTUM = 2, 5e-4, 0.4
EPS = 1e-12  # of the batch norms, as there


class Group(Module):
    """A convolution, the image halved, another convolution, each with batch norm and GELU.

    Args:
        channels_in: C of the input.
        channels: C of the output.

    Shapes: (N, channels_in, H, W) -> (N, channels, H // 2, W // 2).
    """

    def __init__(self, channels_in: int, channels: int):
        self.conv1 = Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.norm1 = _norm(channels)
        self.conv2 = Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = _norm(channels)
        for convolution in (self.conv1, self.conv2):
            _hand_on(convolution)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, channels, H // 2, W // 2)."""
        x = _gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
        return _gelu(self.norm2(self.conv2(x)))


def _norm(channels: int) -> BatchNorm2d:
    """A batch norm with a shift and without a scale: the next convolution has one."""
    norm = BatchNorm2d(channels, eps=EPS, momentum=MOMENTUM)
    dict(norm.named_parameters())["weight"].requires_grad = False
    return norm


def _hand_on(convolution: Conv2d) -> None:
    """The first filters give the channels as they are, as far as there are both (`dirac_`)."""
    weight = convolution.weight.numpy().copy()
    count = min(weight.shape[:2])
    weight[:count] = 0.0
    weight[np.arange(count), np.arange(count), 1, 1] = 1.0
    with no_grad():
        convolution.weight.assign_(Tensor(weight))


def _gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


class WhitenedCNN(Module):
    """Whitened patches of 2 x 2 pixels, three groups of two convolutions, maxima, a linear layer.

    Args:
        widths: channels of the three groups.
        channels: of the pictures; default 3.
        classes: K; default 10.

    Shapes: (N, channels, H, W) -> (N, classes); H and W at least 8.

    Raises:
        SettingError: not three widths, or a size below 1.

    Cost: (64, 256, 256) has 2.0 million weights and takes 293 million operations for a 32 x 32
    picture, (32, 128, 128) 0.5 and 78, (16, 64, 64) 0.13 and 24 million.

    Source: K. Jordan 2024, 94% on CIFAR-10 in 3.29 seconds on a single GPU,
    https://arxiv.org/abs/2404.00498 (airbench94; widths, norms, GELU, first filters), after D. Page
    2018, How to train your ResNet, https://myrtle.ai/learn/how-to-train-your-resnet (whitened
    patches), and T. Swenson (tysam-code) 2023, github.com/tysam-code/hlb-CIFAR10 (2 x 2 patches).

    Differs from Jordan's: patches at the right and lower edge see a line of zeros, so that pictures
    stay 32 x 32 and every halving is even: 3 x 3 windows then take 16 products in place of 36
    (`kernels/winograd.py`) without waste; GELU by tanh.

    Example:
        >>> import numpy as np, tinytorch as tt
        >>> net = WhitenedCNN((4, 8, 8), channels=1, classes=2)
        >>> pictures = np.random.default_rng(0).normal(size=(9, 1, 8, 8)).astype(np.float32)
        >>> net.whiten_from(pictures)(tt.Tensor(pictures)).shape
        (9, 2)
    """

    def __init__(
        self, widths: Sequence[int] = (64, 256, 256), channels: int = 3, classes: int = 10
    ):
        if not isinstance(widths, (list, tuple)) or len(widths) != 3:
            raise SettingError(
                "WhitenedCNN: there are three groups",
                got=f"widths={widths!r}",
                rule="the number of channels of each of three groups",
                fix="WhitenedCNN((64, 256, 256))",
            )
        counts = [whole("WhitenedCNN", "widths", n, at_least=1) for n in widths]
        channels = whole("WhitenedCNN", "channels", channels, at_least=1)
        first = 2 * channels * PATCH * PATCH  # each direction of a patch, and its opposite
        self.whiten = Conv2d(channels, first, PATCH, padding="same")
        self.whiten.weight.requires_grad = False
        before = (first, *counts[:2])
        self.groups = ModuleList([Group(a, b) for a, b in zip(before, counts, strict=True)])
        self.head = Linear(counts[-1], whole("WhitenedCNN", "classes", classes, at_least=1), False)
        with no_grad():
            dict(self.whiten.named_parameters())["bias"].zero_()
            self.head.weight.assign_(self.head.weight / float(self.head.weight.numpy().std(ddof=1)))

    def whiten_from(self, images: Any) -> WhitenedCNN:
        """Compute the first filters from pictures as the network will be given them; gives itself.

        Args:
            images: (N, channels, H, W) float; 1,000 are enough.

        Raises:
            ShapeError: no such pictures.

        Cost: 0.4 MB of memory and 0.1 ms for each picture of 32 x 32.
        """
        weight = self.whiten.weight
        found = asarray(images)
        if found.ndim != 4 or found.shape[1] != weight.shape[1] or min(found.shape[2:]) < PATCH:
            raise ShapeError(
                "whiten_from: these pictures do not fit",
                got=f"images {tuple(found.shape)}",
                rule=f"(N, {weight.shape[1]}, H, W), at least {PATCH} x {PATCH}",
                fix=f"WhitenedCNN(widths, channels={found.shape[1] if found.ndim == 4 else 3})",
            )
        with no_grad():
            weight.assign_(Tensor(whitening_filters(found.numpy())))
        return self

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, classes)."""
        x = _gelu(self.whiten(x))
        for group in self.groups:
            x = group(x)
        x = F.max_pool2d(x, x.shape[2:]).flatten(1)
        return self.head(x) / x.shape[1]


def whitening_filters(images: np.ndarray) -> np.ndarray:
    """Filters that make the pixels of a 2 x 2 patch independent and of variance one.

        covariance of patches = V diag(d) V^T;  filters = rows of diag(d + 5e-4)^(-1/2) V^T

    and their opposites, for GELU hears one side only. The sign of each row is that which makes its
    largest number positive, so that every machine gets the same filters.

    Args:
        images: (N, C, H, W), of mean about 0.

    Returns:
        (8 C, C, 2, 2) float32, the weakest direction first.

    Source: see WhitenedCNN.

    Example:
        >>> noise = np.random.default_rng(0).normal(size=(50, 1, 16, 16)) * 3.0
        >>> filters = whitening_filters(noise)
        >>> lengths = (filters[:4] ** 2).sum(axis=(1, 2, 3)) ** 0.5
        >>> filters.shape, (3 * lengths).round(1).tolist()
        ((8, 1, 2, 2), [1.0, 1.0, 1.0, 1.0])
    """
    patches = np.lib.stride_tricks.sliding_window_view(images, (PATCH, PATCH), (2, 3))
    n, c, height, width = patches.shape[:4]
    rows = patches.transpose(0, 2, 3, 1, 4, 5).reshape(n * height * width, -1).astype(np.float64)
    variances, directions = np.linalg.eigh(rows.T @ rows / len(rows))
    filters = directions.T / np.sqrt(variances[:, None] + SMALLEST_VARIANCE)
    largest = np.abs(filters).argmax(axis=1, keepdims=True)
    filters *= np.sign(np.take_along_axis(filters, largest, 1))
    half = filters.reshape(-1, c, PATCH, PATCH).astype(np.float32)
    return np.concatenate([half, -half])
