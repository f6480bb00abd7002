"""Training as if with 8 bits: what is rounded, which gradient goes through, what it becomes."""

import numpy as np
import pytest

import tinytorch as tt
from tests.mistakes import mistakes
from tinytorch import compression, nn
from tinytorch.base.errors import DataError, SettingError
from tinytorch.compression.fake import FakeQuantizedWeight, fake_bytes, fake_channels
from tinytorch.data import load_digits
from tinytorch.models import GPT, CifarResNet, GPTConfig, VisionTransformer
from tinytorch.nn.quantized import QuantizedWeight
from tinytorch.training.history import Silent


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("unsigned", [False, True])
def test_activations(unsigned):
    """Ground truth: the bytes of StaticRounding times their step, bit for bit; the gradient is that
    of the identity, 0 where a number is cut off. Compiled = eager."""
    x, rounding = normal(50), nn.StaticRounding(2.0**-7, unsigned)
    low, high = rounding.limits
    inside = (np.rint(x * 128) >= low) & (np.rint(x * 128) <= high)
    assert 10 < inside.sum() < 45

    def f(x):
        y = fake_bytes(x, rounding)
        (y * 3.0).sum().backward()
        return y.detach(), x.grad

    for call in (f, tt.compile(f)):
        y, gradient = call(tt.Tensor(x, requires_grad=True))
        np.testing.assert_array_equal(y.numpy(), rounding(tt.Tensor(x)).numpy() * np.float32(2**-7))
        np.testing.assert_array_equal(gradient.numpy(), np.where(inside, 3.0, 0.0))


@pytest.mark.parametrize("shape", [(5, 7), (4, 3, 2, 2), (6,)])
def test_weights(shape):
    """Ground truth: QuantizedWeight's numbers, bit for bit, also of a channel of zeros; the
    gradient is that of the identity."""
    w = normal(*shape)
    w[1] = 0
    fake = tt.Tensor(w, requires_grad=True)
    out = fake_channels(fake)
    if w.ndim > 1:
        wanted = QuantizedWeight(w).dequantize().numpy()
        np.testing.assert_array_equal(out.detach().numpy(), wanted)
        compiled = tt.compile(fake_channels)(tt.Tensor(w)).numpy()
        np.testing.assert_array_equal(compiled, wanted)
    g = normal(*shape, seed=1)
    (out * tt.Tensor(g)).sum().backward()
    np.testing.assert_array_equal(fake.grad.numpy(), g)


def cnn():
    tt.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def gpt():
    tt.manual_seed(1)
    model = GPT(GPTConfig(65, layers=1, heads=2, size=32, length=16, tied=True))
    for p in model.parameters():
        if len(p.shape) == 2:
            p.data *= 8.0
    return model


def of_pictures(make):
    tt.manual_seed(1)
    return make(), tt.Tensor(normal(4, 3, 8, 8))


@pytest.mark.parametrize("name", ["cnn", "gpt", "vit", "resnet"])
def test_what_it_becomes_answers_alike(name):
    """Ground truth: the model that was trained with rounding: the same whole numbers multiplied,
    its floats rounded once more; where that tips a rounding, one step of one number."""
    if name == "cnn":
        model, x = cnn(), tt.Tensor(load_digits("train").take(range(32))[0])
    elif name == "gpt":
        model, x = gpt(), tt.Tensor(np.random.default_rng(0).integers(0, 65, (3, 12)))
    elif name == "vit":
        model, x = of_pictures(lambda: VisionTransformer(8, 4, 16, depth=1, heads=2))
    else:
        model, x = of_pictures(lambda: CifarResNet(1, width=4).eval())
    aware = compression.fake_quantize(model, [x])
    small = compression.quantize(aware)
    assert not any(isinstance(m, FakeQuantizedWeight) for m in small.modules())
    wanted = aware.eval()(x).detach().numpy()
    found, size = small(x).numpy(), np.sqrt(np.square(wanted).mean())
    off = np.abs(found - wanted)
    assert np.median(off) < 1e-5 * size and off.max() < 0.05 * size
    assert np.abs(model.eval()(x).detach().numpy() - wanted).max() > 1e-4 * size


def test_one_layer_to_rounding():
    """Closed form: both are sums of the same products of whole numbers: n eps of their sizes."""
    x = tt.Tensor(normal(6, 40))
    aware = compression.fake_quantize(nn.Linear(40, 9), [x])
    small = compression.quantize(aware)
    wide = np.abs(x.numpy()) @ np.abs(aware.weight.weight.detach().numpy()).T + 1
    off = np.abs(aware(x).detach().numpy() - small(x).numpy())
    assert (off <= 45 * 2.0**-24 * wide).all()


def test_training_moves_it_to_better_bytes():
    """Ground truth: the loss of the int8 model on the digits it was trained on, before and after;
    the model that is given does not change; scales of activations stay."""
    images, labels = load_digits("train").take(range(320))
    model = cnn()
    before = model[0].weight.detach().clone().numpy()
    aware = compression.fake_quantize(model, [images])
    scale = aware[3].weight.input.unsigned_scale.item()

    def loss(m):
        return nn.functional.cross_entropy(m(tt.Tensor(images)), tt.Tensor(labels)).item()

    first = loss(compression.quantize(aware))
    data = [(images[i : i + 64], labels[i : i + 64]) for i in range(0, 320, 64)]
    compression.fine_tune(aware, data, 8, lr=1e-2, progress=Silent())
    assert loss(compression.quantize(aware)) < 0.8 * first
    np.testing.assert_array_equal(model[0].weight.detach().numpy(), before)
    assert aware[3].weight.input.unsigned_scale.item() == scale


def test_what_is_shared_stays_shared():
    """Ground truth: the tied model: one rounded weight in both places, one Parameter."""
    model = gpt()
    aware = compression.fake_quantize(model, [tt.tensor([[1, 2, 3]])], skip=["blocks"])
    assert aware.head.weight is aware.tokens.weight
    assert isinstance(aware.head.weight, FakeQuantizedWeight)
    assert not any(isinstance(m, FakeQuantizedWeight) for m in aware.blocks.modules())
    assert len(list(aware.parameters())) == len(list(model.parameters()))
    model.requires_grad_(False)
    kept = compression.fake_quantize(model, [tt.tensor([[1, 2, 3]])])
    assert not any(p.requires_grad for p in kept.parameters())


def aware():
    return compression.fake_quantize(nn.Linear(4, 2), [tt.ones(1, 4)])


test_mistakes = mistakes(
    (lambda: compression.fake_quantize(nn.Linear(4, 2), []), DataError, "without data"),
    (lambda: compression.fake_quantize(nn.ReLU(), [tt.ones(1)]), SettingError, "nothing in"),
    (lambda: compression.quantize(aware(), "int4"), SettingError, "for other bytes"),
    (
        lambda: compression.quantize(aware(), calibration=[tt.ones(1, 4)]),
        SettingError, "for other bytes",
    ),
)  # fmt: skip
