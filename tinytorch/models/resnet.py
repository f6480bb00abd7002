"""ResNets: for pictures of 224 x 224 in torchvision's names, and for pictures of 32 x 32.

The first have four stages and shortcuts with weights where sizes change, the second three stages of
few channels and shortcuts without weights. Knows blocks and stages, in the names of the trained
weights that are passed around, so that they can be loaded.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinytorch.base.arguments import flag, whole
from tinytorch.base.errors import SettingError
from tinytorch.nn import functional as F
from tinytorch.nn.convolution import Conv2d
from tinytorch.nn.init import fans, kaiming_normal, normal
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module, Parameter, Sequential
from tinytorch.nn.normalization import BatchNorm2d
from tinytorch.nn.pooling import MaxPool2d
from tinytorch.tensor.shaping import pad
from tinytorch.tensor.tensor import Tensor


class BasicBlock(Module):
    """relu(shortcut(x) + two 3x3 convolutions of x).

    Args:
        channels_in: C of the input.
        width: K of the output.
        stride: of the first convolution.

    Shapes: (N, channels_in, H, W) -> (N, width, H / stride, W / stride).
    """

    expansion = 1  # channels of the output / width

    def __init__(self, channels_in: int, width: int, stride: int = 1):
        self.conv1 = Conv2d(channels_in, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.conv2 = Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(width)
        self.downsample = _shortcut(channels_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, width, H / stride, W / stride)."""
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(Module):
    """relu(shortcut(x) + convolutions 1x1 down, 3x3, 1x1 up to four times the width).

    Args:
        channels_in: C of the input.
        width: channels of the 3x3 convolution.
        stride: of the 3x3 convolution.

    Shapes: (N, channels_in, H, W) -> (N, 4 width, H / stride, W / stride).

    Differs from the paper: the stride is in the 3x3 convolution, as in torchvision.
    """

    expansion = 4  # channels of the output / width

    def __init__(self, channels_in: int, width: int, stride: int = 1):
        self.conv1 = Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.conv2 = Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = BatchNorm2d(width)
        wide = self.expansion * width
        self.conv3 = Conv2d(width, wide, 1, bias=False)
        self.bn3 = BatchNorm2d(wide)
        self.downsample = _shortcut(channels_in, wide, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 4 width, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(out)))))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


def _shortcut(channels_in: int, channels: int, stride: int) -> Sequential | None:
    """Option B of the paper: weights only where the sizes change."""
    if stride == 1 and channels_in == channels:
        return None
    conv = Conv2d(channels_in, channels, 1, stride=stride, bias=False)
    return Sequential(conv, BatchNorm2d(channels))


def _stage(
    block: type[BasicBlock] | type[Bottleneck] | type[CifarBlock], count: int, channels_in: int,
    width: int, stride: int,
) -> Sequential:  # fmt: skip
    """Blocks of one width, of which the first changes the sizes."""
    rest = (block(block.expansion * width, width) for _ in range(count - 1))
    return Sequential(block(channels_in, width, stride), *rest)


class ResNet(Module):
    """A 7x7 convolution, four stages of blocks, the mean of the image, a linear layer.

    Args:
        layers: blocks of each of the four stages.
        bottleneck: whether blocks have three convolutions (ResNet-50 and deeper) or two.
        channels: of the pictures; default 3.
        classes: K; default 1000.
        width: channels of the first stage; default 64.

    Shapes: (N, channels, H, W) -> (N, classes), any H and W; 224 in the paper.

    Cost: ResNet-18 has 11.7 million weights and takes 3.6 billion operations for a 224 x 224
    picture, ResNet-50 25.6 million and 8.2 billion.

    Source: He et al. 2016, https://arxiv.org/abs/1512.03385; names and initial values (normal with
    variance 2 / fan_out) are torchvision's.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import ResNet
        >>> ResNet([1, 1, 1, 1], classes=5, width=4).eval()(tt.zeros(1, 3, 32, 32)).shape
        (1, 5)
    """

    def __init__(
        self, layers: Sequence[int], bottleneck: bool = False, channels: int = 3,
        classes: int = 1000, width: int = 64,
    ):  # fmt: skip
        if not isinstance(layers, (list, tuple)) or len(layers) != 4:
            raise SettingError(
                "ResNet: there are four stages",
                got=f"layers={layers!r}",
                rule="the number of blocks of each of four stages",
                fix="ResNet([2, 2, 2, 2]), which is resnet18()",
            )
        block = Bottleneck if flag("ResNet", "bottleneck", bottleneck) else BasicBlock
        width = whole("ResNet", "width", width, at_least=1)
        channels = whole("ResNet", "channels", channels, at_least=1)
        counts = [whole("ResNet", "layers", n, at_least=1) for n in layers]
        self.conv1 = Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.maxpool = MaxPool2d(3, stride=2, padding=1)
        out = block.expansion
        self.layer1 = _stage(block, counts[0], width, width, 1)
        self.layer2 = _stage(block, counts[1], out * width, 2 * width, 2)
        self.layer3 = _stage(block, counts[2], 2 * out * width, 4 * width, 2)
        self.layer4 = _stage(block, counts[3], 4 * out * width, 8 * width, 2)
        self.fc = Linear(8 * out * width, whole("ResNet", "classes", classes, at_least=1))
        self.apply(_initialise_by_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, classes)."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean(axis=(2, 3)))


def _initialise_by_outputs(module: Module) -> None:
    if isinstance(module, Conv2d):
        shape = module.weight.shape
        module.weight = Parameter(normal(shape, (2.0 / fans(shape)[1]) ** 0.5))


def resnet18(channels: int = 3, classes: int = 1000) -> ResNet:
    """ResNet-18: two blocks of two convolutions in each stage.

    Args:
        channels: of the pictures.
        classes: K.
    """
    return ResNet([2, 2, 2, 2], False, channels, classes)


def resnet34(channels: int = 3, classes: int = 1000) -> ResNet:
    """ResNet-34: 3, 4, 6 and 3 blocks of two convolutions.

    Args:
        channels: of the pictures.
        classes: K.
    """
    return ResNet([3, 4, 6, 3], False, channels, classes)


def resnet50(channels: int = 3, classes: int = 1000) -> ResNet:
    """ResNet-50: 3, 4, 6 and 3 blocks of three convolutions.

    Args:
        channels: of the pictures.
        classes: K.
    """
    return ResNet([3, 4, 6, 3], True, channels, classes)


class CifarBlock(Module):
    """relu(x + two 3x3 convolutions of x); x is thinned out and padded where the sizes change.

    Args:
        channels_in: C of the input.
        channels: K of the output, C or 2 C.
        stride: 2 halves the image.
        inner: channels between the convolutions; None: K.

    Shapes: (N, channels_in, H, W) -> (N, channels, H // stride, W // stride).
    """

    expansion = 1  # channels of the output / width

    def __init__(self, channels_in: int, channels: int, stride: int = 1, inner: int | None = None):
        self.stride, self.added = stride, channels - channels_in
        between = channels if inner is None else inner
        self.conv1 = Conv2d(channels_in, between, 3, stride=stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(between)
        self.conv2 = Conv2d(between, channels, 3, padding=1, bias=False)
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
        self.layer1 = _stage(CifarBlock, blocks, width, width, 1)
        self.layer2 = _stage(CifarBlock, blocks, width, 2 * width, 2)
        self.layer3 = _stage(CifarBlock, blocks, 2 * width, 4 * width, 2)
        self.linear = Linear(4 * width, whole("CifarResNet", "classes", classes, at_least=1))
        self.apply(initialise_by_inputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean(axis=(2, 3)))


def initialise_by_inputs(module: Module) -> None:
    """Normal weights with variance 2 / fan_in: He et al. 2015, https://arxiv.org/abs/1502.01852."""
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
