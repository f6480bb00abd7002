"""dcgan.py: sizes, losses, a game against each other."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import SettingError
from tinytorch.models import (
    DCGANDiscriminator,
    DCGANGenerator,
    discriminator_loss,
    generator_loss,
)


def test_numbers_of_weights():
    """Closed form: PyTorch's DCGAN example (64 x 64, nz 100, ngf = ndf = 64), layer by layer."""
    norms = 2 * (512 + 256 + 128 + 64)
    painted = 16 * (100 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64 * 3) + norms
    assert sum(p.size for p in DCGANGenerator().parameters()) == painted
    judged = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512) + norms - 2 * 64
    assert sum(p.size for p in DCGANDiscriminator().parameters()) == judged


@pytest.mark.parametrize("size", [8, 32])
def test_sizes_of_pictures(size):
    """Ground truth: the docstrings."""
    pictures = DCGANGenerator(5, size, 1, width=2).sample(3)
    assert pictures.shape == (3, 1, size, size) and not pictures.requires_grad
    assert DCGANDiscriminator(size, 1, width=2)(pictures).shape == (3,)


def test_losses_are_those_of_the_paper():
    """Ground truth: its formulas in NumPy; means of four numbers of size 1."""
    real, painted = np.random.default_rng(0).standard_normal((2, 4))
    sure = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    judged = -np.log(sure(real)).mean() - np.log(1 - sure(painted)).mean()
    found = discriminator_loss(tt.Tensor(real), tt.Tensor(painted)).item()
    assert found == pytest.approx(judged, rel=1e-14)
    assert generator_loss(tt.Tensor(painted)).item() == pytest.approx(
        -np.log(sure(painted)).mean(), rel=1e-14
    )


def test_a_compiled_game_lets_the_generator_find_the_brightness():
    """Ground truth: real pictures are all 0.8 bright; a painter who is told so paints bright ones.

    Each side is a compiled step with an optimizer of its own.
    """
    tt.manual_seed(0)
    painter, judge = DCGANGenerator(4, 8, 1, width=8), DCGANDiscriminator(8, 1, width=8)
    fast, slow = (tt.optim.Adam(m.parameters(), lr=0.005, betas=(0.5, 0.999))
                  for m in (painter, judge))  # fmt: skip
    real = tt.full((16, 1, 8, 8), 0.8)

    @tt.compile
    def teach_judge(z):
        loss = discriminator_loss(judge(real), judge(painter(z).detach()))
        loss.backward()
        slow.step()
        slow.zero_grad()
        return loss

    @tt.compile
    def teach_painter(z):
        loss = generator_loss(judge(painter(z)))
        loss.backward()
        fast.step()
        fast.zero_grad()
        slow.zero_grad()
        return loss

    before = painter.sample(16).mean().item()
    for _ in range(60):
        teach_judge(tt.randn(16, 4))
        teach_painter(tt.randn(16, 4))
    assert abs(before) < 0.1 and painter.sample(16).mean().item() > 0.4


def test_bad_settings_are_named():
    """Ground truth: the ranges in the docstrings."""
    for make in (DCGANGenerator, DCGANDiscriminator):
        with pytest.raises(SettingError, match="not 4 pixels doubled"):
            make(image_size=28)
        with pytest.raises(SettingError, match="width is not a whole number"):
            make(image_size=8, width=0)
