"""vae.py: the bound, the noise, sampling."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.models import ConvVAE, VAEOutput, vae_loss
from tinytorch.optim import Adam
from tinytorch.training import Trainer
from tinytorch.training.progress import Silent

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


def test_bad_settings_are_named():
    """Ground truth: the ranges in the docstring."""
    with pytest.raises(SettingError, match="cannot be halved twice"):
        ConvVAE(30)
    with pytest.raises(SettingError, match="latent is not a whole number"):
        ConvVAE(latent=0)
    with pytest.raises(ShapeError, match="the pictures do not fit"):
        ConvVAE(28)(tt.zeros(1, 1, 32, 32))
