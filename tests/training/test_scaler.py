"""scaler.py and precision "float16": small gradients survive, overflows are left out."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import GradientError, SettingError
from tinytorch.training import LossScaler, Trainer
from tinytorch.training.progress import Silent

TINY = 1e-9  # below 2**-25 = 3e-8, half the smallest float16: rounds to 0 without scaling


def trained(precision: str, factor: float, compile: bool, steps: int = 1, scale=None):
    """A linear model whose loss is `factor` times its output's sum."""
    tt.manual_seed(0)
    model = nn.Linear(4, 1, bias=False)
    with tt.no_grad():
        model.weight.fill_(0.0)  # what it moves by is then seen to the last bit
    trainer = Trainer(
        model, tt.optim.SGD(lr=1.0), lambda out, y: (out * y).sum(), metrics={},
        precision=precision, compile=compile, progress=Silent(),
    )  # fmt: skip
    if scale is not None:
        trainer.scaler.scale.fill_(scale)
    x, y = np.ones((2, 4), np.float32), np.full((2, 1), factor, np.float32)
    trainer.train([(x, y)] * steps, 1)
    return trainer, -model.weight.detach().numpy()


@pytest.mark.parametrize("compile", [False, True])
def test_gradients_too_small_for_float16_survive(compile):
    """Ground truth: d/dw sum(y * w x) = sum of y over the batch, 2e-9; unscaled it would be 0."""
    _, moved = trained("float16", TINY, compile)
    np.testing.assert_allclose(moved, 2 * TINY, rtol=2**-10)  # one rounding to float16
    _, lost = trained("float16", TINY, compile, scale=1.0)
    assert np.all(lost == 0.0)


@pytest.mark.parametrize("compile", [False, True])
def test_an_overflow_is_left_out_and_the_scale_halved(compile):
    """Ground truth: the gradient is 2 * 8; times 2**16 .. 2**12 it is at least 65536, infinite in
    float16; the sixth step, at 2**11, moves the weights by 16."""
    trainer, moved = trained("float16", 8.0, compile, steps=5)
    assert trainer.scaler.scale.item() == 2.0**11 and np.all(moved == 0.0)
    assert trainer.optimizer.state_dict()["step.0.0"].item() == 0.0
    trainer, moved = trained("float16", 8.0, compile, steps=6)
    assert trainer.scaler.scale.item() == 2.0**11
    assert np.all(moved == 16.0)


def test_a_scale_that_falls_without_end_is_an_error():
    """Ground truth: an infinite input has no gradient at any scale."""
    trainer, _ = trained("float16", 1.0, False)
    x = np.full((2, 4), np.inf, np.float32)
    with pytest.raises(GradientError, match="the loss scale fell to"), np.errstate(all="ignore"):
        trainer.train([(x, np.ones((2, 1), np.float32))] * 40, 1)
    assert np.isfinite(trainer.model.weight.numpy()).all()


def test_the_scale_grows_after_enough_good_steps():
    """Ground truth: by hand: interval 3, growth 4."""
    scaler, seen = LossScaler(scale=2.0, growth=4.0, interval=3), []
    for ok in (True, True, True, True, True, False, True, True, True):
        scaler.update(tt.Tensor(ok))
        seen.append(scaler.scale.item())
    assert seen == [2.0, 2.0, 8.0, 8.0, 8.0, 4.0, 4.0, 4.0, 16.0]
    other = LossScaler()
    other.load_state_dict(scaler.state_dict())
    assert other.scale.item() == 16.0


def test_settings_are_checked():
    """Ground truth: the docstring."""
    for settings in ({"scale": 0.0}, {"growth": 0.5}, {"backoff": 1.0}, {"interval": 0}):
        with pytest.raises(SettingError, match=next(iter(settings))):
            LossScaler(**settings)


@pytest.mark.parametrize("precision", ["bf16", "float16"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_mixed_precision_learns_as_float32_does(precision, accumulate):
    """Ground truth: the float32 run. Inputs rounded to 8 or 11 bits change a loss of about 1 by
    2**-8 or 2**-11 a step; 40 steps with momentum add up to no more than a few percent."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 10)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    batches = [(x[i : i + 16], y[i : i + 16]) for i in range(0, 64, 16)]
    found = []
    for p in ("float32", precision):
        tt.manual_seed(0)
        model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))
        trainer = Trainer(model, tt.optim.AdamW(lr=0.01), precision=p, accumulate=accumulate,
                          compile=False, progress=Silent())  # fmt: skip
        found.append(trainer.train(batches, 10).last["loss"])
    assert found[1] == pytest.approx(found[0], rel=0.03) and found[1] != found[0]
