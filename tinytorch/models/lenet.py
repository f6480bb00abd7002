"""LeNet: the network that read cheques, two convolutions and three linear layers.

Knows sizes; the layers are those of `nn`.
"""

from __future__ import annotations

from collections.abc import Callable

from tinytorch.base.checks import whole
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn import functional as F
from tinytorch.nn.convolution import Conv2d
from tinytorch.nn.flatten import Flatten
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module
from tinytorch.nn.pooling import MaxPool2d
from tinytorch.tensor.tensor import Tensor


class LeNet(Module):
    """Two 5x5 convolutions of 6 and 16 channels, each halved; linear layers of 120, 84, classes.

    Images below 32 pixels are padded by 2, as the paper did with the 28 of MNIST; images below 16
    once more before the second convolution.

    Args:
        image_size: H = W of the pictures, at least 4; default 28.
        channels: of the pictures; default 1.
        classes: K; default 10.
        activation: Tensor -> Tensor of the same shape; default ReLU.

    Shapes: (N, channels, image_size, image_size) -> (N, classes).

    Cost: 61,706 weights and 0.8 million operations for a digit of MNIST.

    Source: LeCun et al. 1998, Gradient-based learning applied to document recognition (LeNet-5).

    Differs from the paper: ReLU and maxima in place of tanh and trained means; every channel
    sees every other; a linear layer at the end.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import LeNet
        >>> net = LeNet()
        >>> net(tt.zeros(2, 1, 28, 28)).shape, sum(p.size for p in net.parameters())
        ((2, 10), 61706)
    """

    def __init__(
        self, image_size: int = 28, channels: int = 1, classes: int = 10,
        activation: Callable[[Tensor], Tensor] = F.relu,
    ):  # fmt: skip
        self.image_size = whole("LeNet", "image_size", image_size, at_least=1)
        first, second = (2 if image_size < 32 else 0), (2 if image_size < 16 else 0)
        pooled = (image_size + 2 * first - 4) // 2
        side = (pooled + 2 * second - 4) // 2
        if side < 1:
            raise SettingError(
                "LeNet: the image is too small",
                got=f"image_size={image_size}",
                rule="at least 4: two 5x5 windows, each followed by halving",
                fix="LeNet(image_size=28), or an MLP",
            )
        self.activation = activation
        self.conv1 = Conv2d(channels, 6, 5, padding=first)
        self.conv2 = Conv2d(6, 16, 5, padding=second)
        self.pool, self.flatten = MaxPool2d(2), Flatten()
        self.fc1 = Linear(16 * side * side, 120)
        self.fc2 = Linear(120, 84)
        self.fc3 = Linear(84, whole("LeNet", "classes", classes, at_least=1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, classes)."""
        if len(x.shape) != 4 or x.shape[2:] != (self.image_size, self.image_size):
            raise ShapeError(
                "LeNet: the pictures do not fit",
                got=f"x {tuple(x.shape)}",
                rule=f"(N, C, {self.image_size}, {self.image_size})",
                fix="LeNet(image_size=...) with the size of the pictures",
            )
        x = self.pool(self.activation(self.conv1(x)))
        x = self.pool(self.activation(self.conv2(x)))
        x = self.activation(self.fc1(self.flatten(x)))
        return self.fc3(self.activation(self.fc2(x)))
