"""Vision transformer: a picture is a sequence of patches.

Knows layers, never where the pictures come from.
"""

from __future__ import annotations

from tinytorch.base.arguments import whole
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn.attention import TransformerBlock
from tinytorch.nn.containers import ModuleList
from tinytorch.nn.dropout import Dropout
from tinytorch.nn.initialisation import normal
from tinytorch.nn.linear import MLP, Linear
from tinytorch.nn.module import Module, Parameter
from tinytorch.nn.normalization import LayerNorm
from tinytorch.tensor.tensor import Tensor


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
        self.classifier = MLP([d_model, 128, classes])

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
