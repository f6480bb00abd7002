"""generative.py: of the VAE the bound, the noise, sampling; of the GAN sizes, losses, the game."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.models import (
    ConvVAE,
    DCGANDiscriminator,
    DCGANGenerator,
    VAEOutput,
    discriminator_loss,
    generator_loss,
    vae_loss,
)
from tinytorch.optim import Adam
from tinytorch.training import Trainer
from tinytorch.training.history import Silent

RNG = np.random.default_rng(0)


def test_loss_is_the_negative_bound():
    """Ground truth: the paper's formulas, one picture and one number after the other."""
    logits, pixels = RNG.standard_normal((3, 1, 2, 2)), RNG.random((3, 1, 2, 2))
    mean, log_variance = RNG.standard_normal((3, 5)), RNG.standard_normal((3, 5))
    total = 0.0
    for n in range(3):
        for logit, x in zip(logits[n].ravel(), pixels[n].ravel(), strict=True):
            p = 1 / (1 + np.exp(-logit))
            total -= x * np.log(p) + (1 - x) * np.log(1 - p)
        for m, s in zip(mean[n], log_variance[n], strict=True):
            total -= 0.5 * (1 + s - m**2 - np.exp(s))
    output = VAEOutput(*(tt.Tensor(a) for a in (logits, mean, log_variance)))
    # Some 30 terms of size 1, each rounded by 1e-16.
    assert vae_loss(output, tt.Tensor(pixels)).item() == pytest.approx(total / 3, rel=1e-13)


def test_divergence_of_the_prior_is_zero():
    """Closed form: mean 0 and variance 1; four pixels of chance 1/2 cost log 2 each."""
    nothing = VAEOutput(tt.zeros(2, 1, 2, 2), tt.zeros(2, 3), tt.zeros(2, 3))
    assert vae_loss(nothing, tt.ones(2, 1, 2, 2)).item() == pytest.approx(4 * np.log(2), rel=1e-6)


def test_noise_while_training_only():
    """Invariant: in evaluation twice the same; in training two draws differ, seeded they agree."""
    net, x = ConvVAE(8, latent=2, width=4), tt.rand(3, 1, 8, 8)
    draws = []
    for seed in (1, 1, 2):
        tt.manual_seed(seed)
        draws.append(net(x).logits.detach().numpy())
    assert np.array_equal(draws[0], draws[1]) and not np.array_equal(draws[0], draws[2])
    net.eval()
    assert np.array_equal(net(x).logits.detach().numpy(), net(x).logits.detach().numpy())


def test_samples_are_probabilities_and_record_nothing():
    """Ground truth: its docstring."""
    pictures = ConvVAE(8, channels=3, latent=2, width=4).sample(5)
    assert pictures.shape == (5, 3, 8, 8) and not pictures.requires_grad
    assert 0 < pictures.min().item() and pictures.max().item() < 1


def test_the_trainer_trains_evaluates_and_predicts_it():
    """Ground truth: a batch is (pictures, pictures); in evaluation `predict` is the model."""
    pictures = RNG.random((8, 1, 8, 8)).astype(np.float32).round()
    net = ConvVAE(8, latent=4, width=8)
    trainer = Trainer(net, Adam(lr=0.01), vae_loss, progress=Silent())
    losses = trainer.train([(pictures, pictures)], epochs=60)["loss"]
    assert losses[-1] < 0.9 * losses[0]
    assert trainer.evaluate([(pictures, pictures)])["loss"] < losses[0]
    said, own = trainer.predict(pictures), net.eval()(tt.Tensor(pictures))
    # float32: compiled and eager sums of some hundred products.
    np.testing.assert_allclose(said[0].numpy(), own.logits.detach().numpy(), rtol=1e-3, atol=1e-4)


def test_bad_settings_of_a_vae_are_named():
    """Ground truth: the ranges in the docstring."""
    with pytest.raises(SettingError, match="cannot be halved twice"):
        ConvVAE(30)
    with pytest.raises(SettingError, match="latent is not a whole number"):
        ConvVAE(latent=0)
    with pytest.raises(ShapeError, match="the pictures do not fit"):
        ConvVAE(28)(tt.zeros(1, 1, 32, 32))


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


def test_bad_settings_of_a_gan_are_named():
    """Ground truth: the ranges in the docstrings."""
    for make in (DCGANGenerator, DCGANDiscriminator):
        with pytest.raises(SettingError, match="not 4 pixels doubled"):
            make(image_size=28)
        with pytest.raises(SettingError, match="width is not a whole number"):
            make(image_size=8, width=0)


def test_the_discriminator_leaks_a_fifth():
    """Ground truth: Radford et al. 2016, section 4: slope 0.2."""
    found = [getattr(m, "negative_slope", None) for m in DCGANDiscriminator().modules()]
    assert {slope for slope in found if slope is not None} == {0.2}
