"""SwiftCNN: a ResNet for small pictures, its blocks narrow inside, as channel pruning leaves it.

What goes through the network keeps its channels, and what a block adds is computed from few: a
third of ResNet-20's weights. Knows widths; the blocks are ResNet's, and so are the names, so that a
pruned ResNet-20 loads. How it is pruned, taught and made bytes: `benchmarks/runs/swift_cnn.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinytorch.base.arguments import whole
from tinytorch.base.errors import SettingError
from tinytorch.models.resnet import CifarBlock, initialise_by_inputs
from tinytorch.nn import functional as F
from tinytorch.nn.convolution import Conv2d
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module, Sequential
from tinytorch.nn.normalization import BatchNorm2d
from tinytorch.tensor.tensor import Tensor

STAGES = 3


class SwiftCNN(Module):
    """A convolution, three stages of three narrow blocks, the mean of the image, a linear layer.

    Args:
        channels: of the pictures; default 3.
        classes: K; default 10.
        width: channels of the first stage, doubled in each further one; default 16.
        inner: channels between the two convolutions of a block, for each stage; default (8, 16,
            20), of which int8 makes a tenth of ResNet-20's bytes.
        blocks: of each stage; default 3.

    Shapes: (N, channels, H, W) -> (N, classes), any H and W.

    Cost: 97,666 weights and 37 million operations for a 32 x 32 picture; ResNet-20 has 269,722 and
    takes 82 million.

    Source: He et al. 2016, https://arxiv.org/abs/1512.03385, section 4.2 (the network); Li et al.
    2017, https://arxiv.org/abs/1608.08710, section 3.3 (of residual blocks the inner filters go).

    Example:
        >>> import tinytorch as tt
        >>> net = SwiftCNN().eval()
        >>> net(tt.zeros(2, 3, 32, 32)).shape, sum(p.size for p in net.parameters())
        ((2, 10), 97666)
    """

    def __init__(
        self, channels: int = 3, classes: int = 10, width: int = 16,
        inner: Sequence[int] = (8, 16, 20), blocks: int = 3,
    ):  # fmt: skip
        channels = whole("SwiftCNN", "channels", channels, at_least=1)
        width = whole("SwiftCNN", "width", width, at_least=1)
        blocks = whole("SwiftCNN", "blocks", blocks, at_least=1)
        narrow = [whole("SwiftCNN", "inner", n, at_least=1) for n in inner]
        if len(narrow) != STAGES:
            raise SettingError(
                "SwiftCNN: there are three stages",
                got=f"inner={inner!r}",
                rule="the inner channels of each of three stages",
                fix="inner=(8, 16, 20)",
            )
        self.conv1 = Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.layer1 = _stage(blocks, width, width, 1, narrow[0])
        self.layer2 = _stage(blocks, width, 2 * width, 2, narrow[1])
        self.layer3 = _stage(blocks, 2 * width, 4 * width, 2, narrow[2])
        self.apply(initialise_by_inputs)  # not the last layer: small logits at first
        self.linear = Linear(4 * width, whole("SwiftCNN", "classes", classes, at_least=1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, classes)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean(axis=(2, 3)))


def _stage(count: int, before: int, width: int, stride: int, inner: int) -> Sequential:
    """Blocks of one width, of which the first changes the sizes."""
    rest = (CifarBlock(width, width, 1, inner) for _ in range(count - 1))
    return Sequential(CifarBlock(before, width, stride, inner), *rest)
