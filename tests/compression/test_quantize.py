"""Models of few bits: which weights, how small, saved and loaded, compiled."""

import numpy as np
import pytest

import tinytorch as tt
from tests.mistakes import mistakes
from tinytorch import compression, nn, storage
from tinytorch.base.errors import ArgumentTypeError, DataError, SettingError
from tinytorch.data import load_mnist
from tinytorch.models import GPT, GPTConfig, pretrained
from tinytorch.nn.quantized import QuantizedWeight

TINY = GPTConfig(65, layers=2, heads=2, size=64, length=32, tied=True)


def tokens(b=2, t=9, seed=0):
    return tt.Tensor(np.random.default_rng(seed).integers(0, 65, (b, t)))


def cnn():
    tt.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(32, 10),
    )  # fmt: skip


def mlp():
    tt.manual_seed(1)
    return nn.MLP([128, 64, 10])


def gpt():
    tt.manual_seed(1)
    model = GPT(TINY)
    for p in model.parameters():
        if len(p.shape) == 2:
            p.data *= 8.0  # first weights of 0.02 tell little
    return model


MODELS = {
    "mlp": (mlp, lambda: tt.Tensor(np.random.default_rng(0).standard_normal((5, 128), np.float32))),
    "cnn": (
        cnn, lambda: tt.Tensor(np.random.default_rng(0).standard_normal((2, 3, 8, 8), np.float32)),
    ),
    "gpt": (gpt, tokens),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("kind", "group"), [("int8", None), ("int4", 32), ("int4", 64)])
def test_answers_are_near_and_compiled_alike(name, kind, group):
    """Ground truth: the model itself, to the error of the bits (one part in 250 and in 15 of the
    largest weight, some layers deep); eager and compiled differ where a last place of float32
    tips a rounding of activations, at most a step of 1 / 127 of one number."""
    model, x = MODELS[name][0]().eval(), MODELS[name][1]()
    small = compression.quantize(model, kind, group)
    with tt.no_grad():
        plain = model(x).numpy()
    answer = small(x).numpy()
    size = np.sqrt(np.square(plain).mean())
    assert np.sqrt(np.square(answer - plain).mean()) < {"int8": 0.03, "int4": 0.35}[kind] * size
    compiled = tt.compile(small)
    np.testing.assert_allclose(compiled(x).numpy(), answer, rtol=0, atol=0.02 * size)
    assert "host calls: 0" in str(compiled.explain())


def test_what_is_shared_stays_shared():
    """Ground truth: the tied model: head and table are one weight, in memory and in the state."""
    model = gpt()
    small = compression.quantize(model, "int4")
    assert small.head.weight is small.tokens.weight
    assert isinstance(small.head.weight, QuantizedWeight)
    assert small.blocks[0].self_attn.in_proj_weight is not model.blocks[0].self_attn.in_proj_weight
    held = sum({id(t): t.size * t.dtype.itemsize for t in small._state().values()}.values())
    assert compression.bytes_of(small) == held


def test_the_model_that_is_given_does_not_change():
    """Ground truth: its weights and modes before."""
    model = gpt().train()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    small = compression.quantize(model)
    assert model.training and not small.training
    assert all(p.requires_grad for p in model.parameters())
    assert not any(p.requires_grad for p in small.parameters())
    for name, x in model.state_dict().items():
        np.testing.assert_array_equal(x.numpy(), before[name].numpy())


@pytest.mark.parametrize(
    ("kind", "group", "ratio"), [("int8", None, 3.9), ("int4", 32, 6.9), ("int4", 64, 7.3)]
)
def test_bytes_in_memory_and_in_the_file(kind, group, ratio, tmp_path):
    """Closed form: 32 bits / (8 + 32 / 1024), 32 / 4.5, 32 / 4.25, less what biases take; a file
    holds the same bytes and a header. What comes back is the same, bit for bit."""
    tt.manual_seed(0)
    model = nn.Sequential(nn.Linear(1024, 256), nn.ReLU(), nn.Linear(256, 1024))
    small = compression.quantize(model, kind, group)
    assert compression.bytes_of(model) / compression.bytes_of(small) >= ratio
    for which in (model, small):
        storage.save(tmp_path / f"{which is small}", _arrays(which))
    sizes = [(tmp_path / f"{of}").stat().st_size for of in (False, True)]
    assert sizes[0] / sizes[1] >= ratio - 0.02
    again = compression.quantize(model, kind, group)
    for tensor in again.state_dict().values():
        tensor.zero_()
    again.load_state_dict(storage.load(tmp_path / "True"))
    x = tt.ones(3, 1024)
    np.testing.assert_array_equal(again(x).numpy(), small(x).numpy())


def _arrays(model):
    return {name: x.numpy() for name, x in model.state_dict().items()}


def test_parts_that_are_skipped():
    """Ground truth: the names; what a skipped part shares stays as it is everywhere."""
    small = compression.quantize(gpt(), skip=["blocks.1", "head"])
    assert isinstance(small.blocks[0].linear1.weight, QuantizedWeight)
    assert not isinstance(small.blocks[1].linear1.weight, QuantizedWeight)
    assert not isinstance(small.tokens.weight, QuantizedWeight)
    assert small.tokens.weight is small.head.weight


def test_cross_attention():
    """Ground truth: the model itself, to the error of int8; parts of one joint weight."""
    tt.manual_seed(0)
    layer = nn.MultiHeadAttention(32, 4)
    x, memory = (
        tt.Tensor(np.random.default_rng(i).standard_normal((2, 5, 32), np.float32)) for i in (0, 1)
    )
    with tt.no_grad():
        plain = layer(x, memory).numpy()
    for kind, off in (("int8", 0.03), ("int4", 0.3)):
        small = compression.quantize(layer, kind, 32 if kind == "int4" else None)
        assert np.abs(small(x, memory).numpy() - plain).max() < off * np.abs(plain).max()


def test_with_a_cache():
    """Ground truth: the same tokens without one: one token at a time through a cache."""
    small = compression.quantize(gpt())
    ids = tokens(1, 6)
    whole = small(ids).numpy()
    cache = small.new_cache(1)
    steps = [small(ids[:, i : i + 1], cache).numpy() for i in range(6)]
    np.testing.assert_allclose(
        np.concatenate(steps, 1), whole, rtol=0, atol=0.02 * np.abs(whole).max()
    )


def chain():
    tt.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 3)
    )


STATIC = {
    "chain": (chain, lambda n: tt.Tensor(normal(n, 3, 8, 8))),
    "mlp": (mlp, lambda n: tt.Tensor(normal(n, 128))),
    "cnn": (cnn, lambda n: tt.Tensor(normal(n, 3, 8, 8))),
    "gpt": (gpt, lambda n: tokens(n)),
}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("name", STATIC)
@pytest.mark.parametrize(
    ("kind", "observer"),
    [("int8", "mse"), ("int8", "minmax"), ("int8", "percentile"), ("int4", "mse")],
)
def test_static_answers_are_near(name, kind, observer):
    """Ground truth: the model itself, to the error of the bits, as for scales on the fly."""
    make, inputs = STATIC[name]
    model, x = make().eval(), inputs(32)
    small = compression.quantize(model, kind, calibration=[x], observer=observer)
    with tt.no_grad():
        plain = model(x).numpy()
    answer = small(x).numpy()
    size = np.sqrt(np.square(plain).mean())
    assert np.sqrt(np.square(answer - plain).mean()) < {"int8": 0.04, "int4": 0.35}[kind] * size


@pytest.mark.parametrize("name", STATIC)
def test_static_runs_compiled_without_a_maximum(name):
    """Ground truth: eager; a last place of float32 tips a rounding by one step at most. The program
    has no magnitude of activations, and the rounding stands behind what made the numbers."""
    make, inputs = STATIC[name]
    x = inputs(4)
    small = compression.quantize(make(), calibration=[x])
    answer, compiled = small(x).numpy(), tt.compile(small, freeze=True)
    size = np.sqrt(np.square(answer).mean())
    np.testing.assert_allclose(compiled(x).numpy(), answer, rtol=0, atol=0.03 * size)
    text = str(compiled.explain())
    assert "host calls: 0" in text and "abs" not in text
    kernels = {line.split()[0] for line in text.splitlines() if "+round" in line}
    assert kernels >= {"mlp": {"gemm"}, "chain": {"convolution"}}.get(name, set())


def test_static_scales():
    """Closed form: by "minmax" the largest of what goes in / 127 or 255; ReLU leaves no sign."""
    model, x = mlp().eval(), tt.Tensor(normal(6, 128))
    small = compression.quantize(model, calibration=[x], observer="minmax")
    with tt.no_grad():
        hidden = model.layers[0](x).numpy()
    first, second = small.layers[0].weight.input, small.layers[1].weight.input
    assert (first.unsigned, second.unsigned) == (False, True)
    assert first.scale.item() == pytest.approx(np.abs(x.numpy()).max() / 127, rel=1e-6)
    assert second.unsigned_scale.item() == pytest.approx(hidden.max() / 255, rel=1e-6)
    in_groups = compression.quantize(model, "int8", 32, calibration=[x])
    assert not in_groups.layers[1].weight.input.unsigned


def test_a_static_model_is_saved_and_loaded_without_data(tmp_path):
    """Ground truth: the answers before, bit for bit; scales lie in the file."""
    x = tt.Tensor(normal(6, 3, 8, 8))
    small = compression.quantize(cnn(), calibration=[x])
    storage.save(tmp_path / "small", _arrays(small))
    state = storage.load(tmp_path / "small")
    again = compression.quantize(cnn(), calibration=state)
    for tensor in again.state_dict().values():
        tensor.zero_()
    again.load_state_dict(state)
    np.testing.assert_array_equal(again(x).numpy(), small(x).numpy())


def test_static_leaves_tables_that_are_looked_up():
    """Ground truth: which layers multiply: a tied table is observed where the head uses it."""
    small = compression.quantize(gpt(), calibration=[tokens()])
    assert small.head.weight is small.tokens.weight and small.head.weight.input is not None
    table = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 3))
    small = compression.quantize(table, calibration=[tt.tensor([[1, 2]])])
    assert small[0].weight.input is None and small[1].weight.input is not None


@pytest.mark.data
def test_mnist_in_bytes(official_data):
    """Ground truth: the labels of the 10,000 official test images: the shipped network, its norms
    folded, loses at most half a point and takes at most a 3.9th of the bytes; with scales on the
    fly too."""
    images, labels = load_mnist("test", official_data).take(range(10000))
    given = load_mnist("train", official_data).take(range(256))[0]
    model = pretrained("mnist")
    folded = compression.fold_batch_norm(model, given[:1])
    small = [compression.quantize(folded, calibration=[given]), compression.quantize(folded)]
    right = []
    for which in (model, *small):
        program = tt.compile(which)
        found = [program(tt.Tensor(x)).detach().numpy().argmax(1) for x in np.split(images, 10)]
        right.append((np.concatenate(found) == labels).mean())
    assert right[0] > 0.99 and min(right) > right[0] - 0.005
    assert compression.bytes_of(model) / compression.bytes_of(small[0]) >= 3.9


class Idle(nn.Module):
    """A layer that nothing goes into."""

    def __init__(self):
        self.used, self.idle = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.used(x)


test_mistakes_of_calibration = mistakes(
    (lambda: compression.quantize(mlp(), calibration=[]), DataError, "without data"),
    (lambda: compression.quantize(mlp(), calibration=7), ArgumentTypeError, "of batches"),
    (
        lambda: compression.quantize(mlp(), calibration=[normal(2, 128) * np.nan]),
        DataError, "not finite",
    ),
    (
        lambda: compression.quantize(Idle(), calibration=[normal(2, 4)]),
        SettingError, "do not reach a layer",
    ),
    (
        lambda: compression.quantize(mlp(), calibration={"layers.0.weight": normal(2, 2)}),
        SettingError, "the state has no scale",
    ),
    (
        lambda: compression.quantize(mlp(), calibration=[normal(2, 128)], observer="max"),
        SettingError, "there is no such method",
    ),
    (lambda: nn.StaticRounding(0.0), SettingError, "scale"),
    (lambda: nn.StaticRounding(1.0, 2), SettingError, "unsigned is a yes or no"),
)  # fmt: skip


test_mistakes = mistakes(
    (lambda: compression.quantize(3), ArgumentTypeError, "this is no model"),
    (lambda: compression.quantize(mlp(), "fp4"), SettingError, "there is no such kind"),
    (lambda: compression.quantize(mlp(), "int4", 7), SettingError, "another number of weights"),
    (lambda: compression.quantize(nn.ReLU()), SettingError, "nothing in this model"),
    (lambda: compression.quantize(mlp(), skip=["nose"]), SettingError, "no such part"),
)
