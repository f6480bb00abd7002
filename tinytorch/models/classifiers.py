"""Small classifiers: MLP, LeNet, a CNN in the shape of VGG, the vision transformer.

To a vision transformer a picture is a sequence of patches. Knows layers and sizes, never where
pictures come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinytorch.base.arguments import whole
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn import functional as F
from tinytorch.nn import linear
from tinytorch.nn.attention import TransformerBlock
from tinytorch.nn.convolution import Conv2d
from tinytorch.nn.dropout import Dropout
from tinytorch.nn.init import normal
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module, ModuleList, Parameter
from tinytorch.nn.normalization import BatchNorm2d, LayerNorm
from tinytorch.nn.pooling import MaxPool2d
from tinytorch.nn.shapes import Flatten
from tinytorch.tensor.tensor import Tensor


class MLP(linear.MLP):
    """`nn.MLP` on whole samples: images are flattened first.

    Args:
        sizes: features of the input, of each hidden layer, of the output; at least two numbers.
        activation: Tensor -> Tensor of the same shape; default ReLU.
        dropout: probability of a zero after each activation, in [0, 1]; default 0.
        bias: whether the layers have one.

    Shapes: (N, ...) with product sizes[0] -> (N, sizes[-1]).

    Cost: 2 operations per weight and sample.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import MLP
        >>> net = MLP([784, 256, 128, 10])
        >>> net(tt.zeros(32, 1, 28, 28)).shape, sum(p.size for p in net.parameters())
        ((32, 10), 235146)
    """

    def __init__(
        self, sizes: Sequence[int], activation: Callable[[Tensor], Tensor] = F.relu,
        dropout: float = 0.0, bias: bool = True,
    ):  # fmt: skip
        super().__init__(sizes, activation, dropout, bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) -> (N, sizes[-1])."""
        return super().forward(x.flatten(1))


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
        self, image_size: int, in_channels: int = 1, classes: int = 10,
        widths: Sequence[int] = (32, 64),
    ):  # fmt: skip
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


class VisionTransformer(Module):
    """Patches, learned positions, `depth` transformer blocks, the mean patch, a small MLP.

    Args:
        image_size: S, height and width of the picture; a multiple of `patch_size`.
        patch_size: P, height and width of a patch.
        d_model: C, features of a patch; divisible by `heads`.
        depth: blocks.
        heads: attention heads of each block.
        channels: of the picture.
        classes: K.
        dropout: share of the residual values set to zero while training, in [0, 1).

    Shapes: (B, channels, S, S) -> logits (B, K).

    Raises:
        SettingError: patches that do not tile the picture.
        ShapeError: a picture of another size.

    Cost: about 24 C^2 + 4 T C operations a patch and block, T = (S / P)^2 patches.

    Source: Dosovitskiy et al. 2021 (ViT); the mean over patches in place of a class token is their
    appendix D.3, and keeps T a power of two for the usual sizes.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import VisionTransformer
        >>> net = VisionTransformer(image_size=8, patch_size=4, d_model=16, depth=1, heads=2)
        >>> net(tt.zeros(2, 3, 8, 8)).shape
        (2, 10)
    """

    def __init__(
        self, image_size: int = 32, patch_size: int = 4, d_model: int = 256, *, depth: int = 6,
        heads: int = 8, channels: int = 3, classes: int = 10, dropout: float = 0.0,
    ):  # fmt: skip
        self.image_size = whole("VisionTransformer", "image_size", image_size, at_least=1)
        self.patch_size = whole("VisionTransformer", "patch_size", patch_size, at_least=1)
        self.channels = whole("VisionTransformer", "channels", channels, at_least=1)
        if image_size % patch_size:
            raise SettingError(
                "VisionTransformer: the patches do not tile the picture",
                got=f"image_size={image_size}, patch_size={patch_size}",
                rule="image_size is a multiple of patch_size",
                fix=f"image_size={-(-image_size // patch_size) * patch_size}",
            )
        patches = (image_size // patch_size) ** 2
        self.patch_embedding = Linear(patch_size * patch_size * channels, d_model)
        # 0.02: Dosovitskiy et al. 2021, appendix B.1 (as in BERT).
        self.positions = Parameter(normal((patches, d_model), 0.02))
        self.dropout = Dropout(dropout)
        self.blocks = ModuleList(
            TransformerBlock(d_model, heads, dropout=dropout) for _ in range(depth)
        )
        self.norm = LayerNorm(d_model)
        self.classifier = linear.MLP([d_model, 128, classes])

    def forward(self, images: Tensor) -> Tensor:
        """(B, channels, S, S) -> logits (B, K)."""
        expected = (self.channels, self.image_size, self.image_size)
        if images.shape[1:] != expected:
            raise ShapeError(
                "VisionTransformer: the pictures do not fit",
                got=f"images {tuple(images.shape)}",
                rule=f"(B, {', '.join(map(str, expected))})",
                fix="resize or crop the pictures, or another image_size or channels",
            )
        x = self.dropout(self.patch_embedding(self.patches(images)) + self.positions)
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.norm(x).mean(axis=1))

    def patches(self, images: Tensor) -> Tensor:
        """(B, channels, S, S) -> (B, T, channels P P), rows of patches from the top."""
        batch, channels, height, width = images.shape
        p = self.patch_size
        x = images.reshape(batch, channels, height // p, p, width // p, p)
        x = x.permute(0, 2, 4, 1, 3, 5)  # (B, rows, columns, channels, P, P)
        return x.reshape(batch, (height // p) * (width // p), channels * p * p)
