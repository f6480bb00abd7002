"""ResNets for pictures of 32 x 32: three stages of few channels, shortcuts without weights.

Knows blocks and stages, in the names of the trained weights that are passed around.
"""

from __future__ import annotations

from tinytorch.base.checks import whole
from tinytorch.base.errors import SettingError
from tinytorch.nn import functional as F
from tinytorch.nn.batch_norm import BatchNorm2d
from tinytorch.nn.containers import Sequential
from tinytorch.nn.convolution import Conv2d
from tinytorch.nn.initialisation import kaiming_normal
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module, Parameter
from tinytorch.tensor.shaping import pad
from tinytorch.tensor.tensor import Tensor


class CifarBlock(Module):
    """relu(x + two 3x3 convolutions of x); x is thinned out and padded where the sizes change.

    Args:
        channels_in: C of the input.
        channels: K of the output, C or 2 C.
        stride: 2 halves the image.

    Shapes: (N, channels_in, H, W) -> (N, channels, H // stride, W // stride).
    """

    def __init__(self, channels_in: int, channels: int, stride: int = 1):
        self.stride, self.added = stride, channels - channels_in
        self.conv1 = Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.conv2 = Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, K, H // stride, W // stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))

    def shortcut(self, x: Tensor) -> Tensor:
        """Option A of the paper: every second pixel, and zeros for the new channels."""
        if self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        if self.added:
            before = self.added // 2
            x = pad(x, (0, before, 0, 0), (0, self.added - before, 0, 0))
        return x


class CifarResNet(Module):
    """A convolution, three stages of `blocks` blocks, the mean of the image, a linear layer.

    Args:
        blocks: of each stage, n in 6 n + 2 layers: 3 is ResNet-20, 5 is ResNet-32, 9 is ResNet-56.
        channels: of the pictures; default 3.
        classes: K; default 10.
        width: channels of the first stage; default 16, as in the paper.

    Shapes: (N, channels, H, W) -> (N, classes), any H and W.

    Cost: ResNet-20 has 0.27 million weights and takes 82 million operations for a 32 x 32 picture.

    Source: He et al. 2016, https://arxiv.org/abs/1512.03385, section 4.2, shortcuts of option A;
    names and initial values those of github.com/akamaster/pytorch_resnet_cifar10.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import CifarResNet
        >>> CifarResNet(1, width=4).eval()(tt.zeros(2, 3, 32, 32)).shape
        (2, 10)
    """

    def __init__(self, blocks: int, channels: int = 3, classes: int = 10, width: int = 16):
        blocks = whole("CifarResNet", "blocks", blocks, at_least=1)
        width = whole("CifarResNet", "width", width, at_least=1)
        channels = whole("CifarResNet", "channels", channels, at_least=1)
        self.conv1 = Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.layer1 = _stage(blocks, width, width, 1)
        self.layer2 = _stage(blocks, width, 2 * width, 2)
        self.layer3 = _stage(blocks, 2 * width, 4 * width, 2)
        self.linear = Linear(4 * width, whole("CifarResNet", "classes", classes, at_least=1))
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean(axis=(2, 3)))


def _stage(blocks: int, channels_in: int, channels: int, stride: int) -> Sequential:
    rest = (CifarBlock(channels, channels) for _ in range(blocks - 1))
    return Sequential(CifarBlock(channels_in, channels, stride), *rest)


def _initialise(module: Module) -> None:
    if isinstance(module, (Conv2d, Linear)):
        module.weight = Parameter(kaiming_normal(module.weight.shape))


def cifar_resnet(depth: int, channels: int = 3, classes: int = 10) -> CifarResNet:
    """The CifarResNet of `depth` layers.

    Args:
        depth: 6 n + 2 with n >= 1: 20, 32, 44, 56, 110, ...
        channels: of the pictures.
        classes: K.

    Example:
        >>> from tinytorch.models import cifar_resnet
        >>> sum(p.size for p in cifar_resnet(20).parameters())        # the paper's 0.27 million
        269722
    """
    depth = whole("cifar_resnet", "depth", depth, at_least=8)
    if (depth - 2) % 6:
        raise SettingError(
            "cifar_resnet: there is no network of this depth",
            got=f"depth={depth}",
            rule="6 n + 2: two layers in each block of three stages, one before, one after",
            fix=f"depth={depth - (depth - 2) % 6}",
        )
    return CifarResNet((depth - 2) // 6, channels, classes)


def resnet20(channels: int = 3, classes: int = 10) -> CifarResNet:
    """ResNet-20 for pictures of 32 x 32: 8.75 % error on CIFAR-10 in the paper.

    Args:
        channels: of the pictures.
        classes: K.
    """
    return cifar_resnet(20, channels, classes)


def resnet32(channels: int = 3, classes: int = 10) -> CifarResNet:
    """ResNet-32 for pictures of 32 x 32: 7.51 % error on CIFAR-10 in the paper.

    Args:
        channels: of the pictures.
        classes: K.
    """
    return cifar_resnet(32, channels, classes)


def resnet56(channels: int = 3, classes: int = 10) -> CifarResNet:
    """ResNet-56 for pictures of 32 x 32: 6.97 % error on CIFAR-10 in the paper.

    Args:
        channels: of the pictures.
        classes: K.
    """
    return cifar_resnet(56, channels, classes)
