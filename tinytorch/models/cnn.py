"""CNN: a small convolutional classifier of images, for digits and for CIFAR's pictures.

Knows stages and sizes; the layers are those of `nn`.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinytorch.base.checks import whole
from tinytorch.base.errors import SettingError
from tinytorch.nn import functional as F
from tinytorch.nn.batch_norm import BatchNorm2d
from tinytorch.nn.containers import ModuleList
from tinytorch.nn.convolution import Conv2d
from tinytorch.nn.flatten import Flatten
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module
from tinytorch.nn.pooling import MaxPool2d
from tinytorch.tensor.tensor import Tensor


class Stage(Module):
    """Two 3x3 convolutions, each with batch norm and ReLU, then the image is halved.

    Args:
        channels_in: C of the input.
        channels: C of the output.

    Shapes: (N, channels_in, H, W) -> (N, channels, H // 2, W // 2).
    """

    def __init__(self, channels_in: int, channels: int):
        # No bias: batch norm subtracts the mean, and has a shift of its own.
        self.conv1 = Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.norm1 = BatchNorm2d(channels)
        self.conv2 = Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = BatchNorm2d(channels)
        self.pool = MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, K, H // 2, W // 2)."""
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(self.norm2(self.conv2(x)))
        return self.pool(x)


class CNN(Module):
    """Stages of convolutions that halve the image, then one linear layer to the classes.

    Args:
        image_size: H = W of the images; at least 2 for each stage.
        in_channels: C of the images; default 1.
        classes: K, numbers given out per image; default 10.
        widths: channels of each stage; default (32, 64).

    Shapes: (N, in_channels, image_size, image_size) -> (N, classes).

    Source: the shape of VGG (Simonyan, Zisserman 2014, https://arxiv.org/abs/1409.1556) with batch
        norm.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import CNN
        >>> CNN(8, widths=(16, 32))(tt.zeros(2, 1, 8, 8)).shape
        (2, 10)
    """

    def __init__(
        self,
        image_size: int,
        in_channels: int = 1,
        classes: int = 10,
        widths: Sequence[int] = (32, 64),
    ):
        sizes = [whole("CNN", "in_channels", in_channels, at_least=1)]
        sizes += [whole("CNN", "widths", width, at_least=1) for width in widths]
        side = whole("CNN", "image_size", image_size, at_least=1) >> (len(sizes) - 1)
        if side == 0:
            raise SettingError(
                "CNN: the image is too small for so many stages",
                got=f"image_size={image_size}, {len(sizes) - 1} stages",
                rule="each stage halves the image, and one pixel must remain",
                fix=f"widths of at most {int(image_size).bit_length() - 1} stages",
            )
        self.stages = ModuleList(Stage(a, b) for a, b in zip(sizes, sizes[1:], strict=False))
        self.flatten = Flatten()
        self.head = Linear(sizes[-1] * side * side, whole("CNN", "classes", classes, at_least=1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, classes)."""
        for stage in self.stages:
            x = stage(x)
        return self.head(self.flatten(x))
