"""Networks that make new pictures out of random numbers: a variational autoencoder and a GAN.

ConvVAE takes pictures to a few numbers and back. DCGAN is a network that paints pictures, and one
that tells them from real ones. Knows their sizes, halves and losses; the layers are those of `nn`,
and how the two of DCGAN are trained against each other is the user's loop.
"""

from __future__ import annotations

from typing import NamedTuple

from tinytorch.base.arguments import whole
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn import functional as F
from tinytorch.nn.activation import LeakyReLU, ReLU, Tanh
from tinytorch.nn.convolution import Conv2d, ConvTranspose2d
from tinytorch.nn.init import normal
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module, Parameter, Sequential
from tinytorch.nn.normalization import BatchNorm2d
from tinytorch.nn.shapes import Flatten
from tinytorch.tensor.creation import ones, zeros
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.random import randn
from tinytorch.tensor.tensor import Tensor

# --- ConvVAE ---


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


# --- DCGAN ---

DEVIATION = 0.02  # of all first weights: Radford et al. 2016, section 4
SLOPE = 0.2  # of the leaky ReLU: the same


class DCGANGenerator(Module):
    """Random numbers to pictures: 4 x 4 pixels, doubled by transposed convolutions.

    Args:
        latent: Z, random numbers a picture; default 100.
        image_size: H = W, a power of two, at least 8; default 64.
        channels: C of the pictures; default 3.
        width: channels before the last layer; doubled towards the first; default 64.

    Shapes: (N, Z) -> (N, C, H, W) in (-1, 1).

    Source: Radford et al. 2016, https://arxiv.org/abs/1511.06434; names as in PyTorch's example.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import DCGANGenerator
        >>> DCGANGenerator(latent=10, image_size=16, width=4).sample(2).shape
        (2, 3, 16, 16)
    """

    def __init__(self, latent: int = 100, image_size: int = 64, channels: int = 3, width: int = 64):
        self.latent = whole("DCGANGenerator", "latent", latent, at_least=1)
        doublings = _doublings("DCGANGenerator", image_size)
        wide = whole("DCGANGenerator", "width", width, at_least=1) * 2 ** (doublings - 1)
        layers: list[Module] = [
            ConvTranspose2d(latent, wide, 4, bias=False), BatchNorm2d(wide), ReLU(),
        ]  # fmt: skip
        for _ in range(doublings - 1):
            layers += [
                ConvTranspose2d(wide, wide // 2, 4, stride=2, padding=1, bias=False),
                BatchNorm2d(wide // 2), ReLU(),
            ]  # fmt: skip
            wide //= 2
        last = ConvTranspose2d(wide, channels, 4, stride=2, padding=1, bias=False)
        self.main = Sequential(*layers, last, Tanh())
        self.apply(_initialise)

    def forward(self, z: Tensor) -> Tensor:
        """(N, Z) -> (N, C, H, W)."""
        return self.main(z.reshape(z.shape[0], self.latent, 1, 1))

    def sample(self, count: int) -> Tensor:
        """New pictures (count, C, H, W) in (-1, 1), from normal random numbers."""
        with no_grad():
            return self(randn(whole("sample", "count", count, at_least=1), self.latent))


class DCGANDiscriminator(Module):
    """Pictures to one logit each: halved by convolutions down to 4 x 4 pixels.

    Args:
        image_size: H = W, a power of two, at least 8; default 64.
        channels: C of the pictures; default 3.
        width: channels after the first layer; doubled towards the last; default 64.

    Shapes: (N, C, H, W) -> (N,), positive for pictures taken for real ones.

    Source: Radford et al. 2016, https://arxiv.org/abs/1511.06434; names as in PyTorch's example.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import DCGANDiscriminator
        >>> DCGANDiscriminator(image_size=16, width=4)(tt.zeros(2, 3, 16, 16)).shape
        (2,)
    """

    def __init__(self, image_size: int = 64, channels: int = 3, width: int = 64):
        halvings = _doublings("DCGANDiscriminator", image_size)
        wide = whole("DCGANDiscriminator", "width", width, at_least=1)
        layers: list[Module] = [
            Conv2d(channels, wide, 4, stride=2, padding=1, bias=False), LeakyReLU(SLOPE),
        ]  # fmt: skip
        for _ in range(halvings - 1):
            layers += [
                Conv2d(wide, 2 * wide, 4, stride=2, padding=1, bias=False),
                BatchNorm2d(2 * wide), LeakyReLU(SLOPE),
            ]  # fmt: skip
            wide *= 2
        self.main = Sequential(*layers, Conv2d(wide, 1, 4, bias=False))
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N,)."""
        return self.main(x).reshape(x.shape[0])


def _doublings(owner: str, image_size: int) -> int:
    """How often 4 pixels are doubled to give the picture."""
    size = whole(owner, "image_size", image_size, at_least=1)
    if size < 8 or size & (size - 1):
        raise SettingError(
            f"{owner}: the picture is not 4 pixels doubled again and again",
            got=f"image_size={image_size}",
            rule="a power of two, at least 8",
            fix=f"image_size={max(8, 1 << (size - 1).bit_length())}, and pictures padded to that",
        )
    return size.bit_length() - 3


def _initialise(module: Module) -> None:
    if isinstance(module, (Conv2d, ConvTranspose2d)):
        module.weight = Parameter(normal(module.weight.shape, DEVIATION))
    elif isinstance(module, BatchNorm2d):
        module.weight = Parameter(1.0 + normal((module.num_features,), DEVIATION))


def discriminator_loss(real: Tensor, painted: Tensor) -> Tensor:
    """What the discriminator lowers: the cross-entropy of telling the two apart.

        -mean(log sigmoid(real)) - mean(log(1 - sigmoid(painted)))

    Args:
        real: logits of real pictures, (N,).
        painted: logits of the generator's pictures, (N,); `generator(z).detach()` saves time.

    Returns:
        0-d; 2 log 2 for one who guesses.

    Source: Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, algorithm 1.

    Example:
        >>> import tinytorch as tt
        >>> round(discriminator_loss(tt.zeros(3), tt.zeros(3)).item(), 4)
        1.3863
    """
    return F.binary_cross_entropy_with_logits(
        real, ones(*real.shape, dtype=real.dtype)
    ) + F.binary_cross_entropy_with_logits(painted, zeros(*painted.shape, dtype=painted.dtype))


def generator_loss(painted: Tensor) -> Tensor:
    """What the generator lowers: its pictures are not taken for real ones.

        -mean(log sigmoid(painted))

    Args:
        painted: logits of the generator's pictures, (N,).

    Returns:
        0-d.

    Source: Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661, section 3: the form whose
    gradient does not vanish when the discriminator is sure.

    Example:
        >>> import tinytorch as tt
        >>> round(generator_loss(tt.zeros(3)).item(), 4)
        0.6931
    """
    return F.binary_cross_entropy_with_logits(painted, ones(*painted.shape, dtype=painted.dtype))
