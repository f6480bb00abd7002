"""ConvVAE: pictures to a few numbers and back, and new pictures out of random numbers.

Knows its sizes, its two halves and its loss; the layers are those of `nn`.
"""

from __future__ import annotations

from typing import NamedTuple

from tinytorch.base.arguments import whole
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn import functional as F
from tinytorch.nn.activation import ReLU
from tinytorch.nn.containers import Sequential
from tinytorch.nn.convolution import Conv2d, ConvTranspose2d
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module
from tinytorch.nn.shapes import Flatten
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.random import randn
from tinytorch.tensor.tensor import Tensor


class VAEOutput(NamedTuple):
    """What a ConvVAE says of pictures.

    Args:
        logits: (N, C, H, W), of each pixel being white.
        mean: (N, Z), of the latent numbers.
        log_variance: (N, Z), of the latent numbers.
    """

    logits: Tensor
    mean: Tensor
    log_variance: Tensor


class ConvVAE(Module):
    """Two convolutions that halve the picture, `latent` random numbers, the same way back.

        z = mean + exp(log_variance / 2) * noise           while training; else z = mean

    Args:
        image_size: H = W of the pictures, a multiple of 4; default 28.
        channels: C of the pictures; default 1.
        latent: Z, numbers a picture is squeezed into; default 20.
        width: channels after the first convolution, half of those after the second; default 32.

    Shapes: (N, C, H, W) with pixels in [0, 1] -> VAEOutput.

    Source: Kingma & Welling 2014, https://arxiv.org/abs/1312.6114; the deviation as a logarithm of
    the variance is their appendix C.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import ConvVAE, vae_loss
        >>> net, x = ConvVAE(8, latent=2, width=4), tt.rand(5, 1, 8, 8)
        >>> vae_loss(net(x), x).shape, net.sample(3).shape
        ((), (3, 1, 8, 8))
    """

    def __init__(self, image_size: int = 28, channels: int = 1, latent: int = 20, width: int = 32):
        self.latent = whole("ConvVAE", "latent", latent, at_least=1)
        self.shape = (channels, image_size, image_size)
        if whole("ConvVAE", "image_size", image_size, at_least=1) % 4:
            raise SettingError(
                "ConvVAE: the picture cannot be halved twice",
                got=f"image_size={image_size}",
                rule="a multiple of 4",
                fix=f"image_size={-(-image_size // 4) * 4}, and pictures padded to that",
            )
        side = image_size // 4
        self.small = (2 * width, side, side)
        self.encoder = Sequential(
            Conv2d(channels, width, 4, stride=2, padding=1), ReLU(),
            Conv2d(width, 2 * width, 4, stride=2, padding=1), ReLU(),
            Flatten(), Linear(2 * width * side * side, 2 * self.latent),
        )  # fmt: skip
        self.expand = Linear(self.latent, 2 * width * side * side)
        self.decoder = Sequential(
            ConvTranspose2d(2 * width, width, 4, stride=2, padding=1), ReLU(),
            ConvTranspose2d(width, channels, 4, stride=2, padding=1),
        )  # fmt: skip

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) -> mean and log variance of the latent numbers, each (N, Z)."""
        if tuple(x.shape[1:]) != self.shape:
            raise ShapeError(
                "ConvVAE: the pictures do not fit",
                got=f"x {tuple(x.shape)}",
                rule="(N, C, H, W) with (C, H, W) = " + str(self.shape),
                fix="ConvVAE(image_size, channels) of the pictures",
            )
        found = self.encoder(x)
        return found[:, : self.latent], found[:, self.latent :]

    def decode(self, z: Tensor) -> Tensor:
        """Latent numbers (N, Z) -> logits (N, C, H, W)."""
        return self.decoder(F.relu(self.expand(z)).reshape(z.shape[0], *self.small))

    def forward(self, x: Tensor) -> VAEOutput:
        """(N, C, H, W) -> VAEOutput."""
        mean, log_variance = self.encode(x)
        z = mean
        if self.training:
            z = mean + (log_variance * 0.5).exp() * randn(*mean.shape, dtype=mean.dtype)
        return VAEOutput(self.decode(z), mean, log_variance)

    def sample(self, count: int) -> Tensor:
        """New pictures (count, C, H, W) with pixels in [0, 1], from normal latent numbers."""
        with no_grad():
            return self.decode(
                randn(whole("sample", "count", count, at_least=0), self.latent)
            ).sigmoid()


def vae_loss(output: VAEOutput, target: Tensor) -> Tensor:
    """The negative evidence lower bound, in nats a picture.

        reconstruction = -sum over pixels of x log p + (1 - x) log(1 - p)
        divergence     = sum over z of (mean^2 + variance - 1 - log variance) / 2

    Args:
        output: what a ConvVAE gave.
        target: the pictures (N, C, H, W), in [0, 1].

    Returns:
        0-d, the mean over pictures of the sum of both.

    Source: Kingma & Welling 2014, https://arxiv.org/abs/1312.6114, equation 10 and appendix B.

    Example:
        >>> import tinytorch as tt
        >>> zeros = tt.zeros(1, 1, 2, 2)
        >>> nothing = VAEOutput(zeros, tt.zeros(1, 3), tt.zeros(1, 3))
        >>> round(vae_loss(nothing, zeros).item(), 4)              # four pixels of log 2
        2.7726
    """
    logits, mean, log_variance = output
    count = target.shape[0]
    pixels = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    divergence = 0.5 * (mean * mean + log_variance.exp() - 1.0 - log_variance).sum()
    return (pixels + divergence) / count
