"""The contract that every layer keeps. A layer that is not in LAYERS fails the first test."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn


@dataclass
class Case:
    """A layer, inputs for it, and what it declares.

    Args:
        make: builds it.
        inputs: shapes of its float inputs, or an array for others.
        output: shape of what it gives.
        parameters: how many numbers it trains.
        modes_differ: whether train() and eval() compute different things.
        products: matrix products one after the other, each of which rounds its inputs in bf16.
    """

    make: Callable[[], nn.Module]
    inputs: tuple
    output: tuple[int, ...]
    parameters: int
    modes_differ: bool = False
    products: int = 1


IMAGES = ((2, 4, 6, 5),)
SIGNALS = ((2, 4, 7),)
LAYERS = {
    "Linear": Case(lambda: nn.Linear(5, 3), ((4, 5),), (4, 3), 18),
    "Linear no bias": Case(lambda: nn.Linear(5, 3, bias=False), ((2, 4, 5),), (2, 4, 3), 15),
    "Conv2d": Case(lambda: nn.Conv2d(4, 6, 3, padding=1), IMAGES, (2, 6, 6, 5), 6 * 4 * 9 + 6),
    "Conv2d all settings": Case(
        lambda: nn.Conv2d(4, 6, (3, 2), (2, 1), (2, 1), dilation=(2, 1), groups=2, bias=False),
        IMAGES, (2, 6, 3, 6), 6 * 2 * 6,
    ),
    "Conv2d same": Case(
        lambda: nn.Conv2d(4, 2, (2, 3), padding="same", dilation=2), IMAGES, (2, 2, 6, 5), 50
    ),
    "Conv2d one group for each channel": Case(
        lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4), IMAGES, (2, 4, 6, 5), 40
    ),
    "Conv1d": Case(lambda: nn.Conv1d(4, 3, 3, stride=2, padding=1), SIGNALS, (2, 3, 4), 39),
    "Conv1d same": Case(
        lambda: nn.Conv1d(4, 6, 2, padding="same", dilation=3, groups=2), SIGNALS, (2, 6, 7), 30
    ),
    "ConvTranspose2d": Case(
        lambda: nn.ConvTranspose2d(4, 3, 4, stride=2, padding=1), IMAGES, (2, 3, 12, 10), 195
    ),
    "ConvTranspose2d all settings": Case(
        lambda: nn.ConvTranspose2d(
            4, 6, (3, 2), (2, 3), (1, 0), (1, 2), groups=2, bias=False, dilation=(1, 2)
        ),
        IMAGES, (2, 6, 12, 17), 4 * 3 * 6,
    ),
    "MaxPool2d": Case(lambda: nn.MaxPool2d(2), IMAGES, (2, 4, 3, 2), 0),
    "MaxPool2d padded": Case(lambda: nn.MaxPool2d(3, stride=2, padding=1), IMAGES, (2, 4, 3, 3), 0),
    "MaxPool1d": Case(lambda: nn.MaxPool1d(3, 2, 1), SIGNALS, (2, 4, 4), 0),
    "AvgPool2d": Case(lambda: nn.AvgPool2d(2), IMAGES, (2, 4, 3, 2), 0),
    "AvgPool2d padded": Case(
        lambda: nn.AvgPool2d((3, 2), (2, 1), (1, 1), count_include_pad=False),
        IMAGES, (2, 4, 3, 6), 0,
    ),
    "AvgPool1d": Case(lambda: nn.AvgPool1d(3, 2, 1), SIGNALS, (2, 4, 4), 0),
    "AdaptiveAvgPool2d": Case(lambda: nn.AdaptiveAvgPool2d(1), IMAGES, (2, 4, 1, 1), 0),
    "AdaptiveAvgPool2d uneven": Case(
        lambda: nn.AdaptiveAvgPool2d((4, 3)), IMAGES, (2, 4, 4, 3), 0
    ),
    "LayerNorm": Case(lambda: nn.LayerNorm(5), ((3, 5),), (3, 5), 10),
    "LayerNorm two axes": Case(lambda: nn.LayerNorm((4, 5)), ((3, 4, 5),), (3, 4, 5), 40),
    "BatchNorm2d": Case(lambda: nn.BatchNorm2d(4), IMAGES, (2, 4, 6, 5), 8, modes_differ=True),
    "BatchNorm2d plain mean": Case(
        lambda: nn.BatchNorm2d(4, momentum=None, affine=False),
        IMAGES, (2, 4, 6, 5), 0, modes_differ=True,
    ),
    "BatchNorm2d no statistics": Case(
        lambda: nn.BatchNorm2d(4, track_running_stats=False), IMAGES, (2, 4, 6, 5), 8
    ),
    "BatchNorm1d": Case(lambda: nn.BatchNorm1d(5), ((4, 5),), (4, 5), 10, modes_differ=True),
    "BatchNorm1d signals": Case(
        lambda: nn.BatchNorm1d(4), SIGNALS, (2, 4, 7), 8, modes_differ=True
    ),
    "GroupNorm": Case(lambda: nn.GroupNorm(2, 4), IMAGES, (2, 4, 6, 5), 8),
    "GroupNorm signals": Case(lambda: nn.GroupNorm(1, 4, affine=False), SIGNALS, (2, 4, 7), 0),
    "RMSNorm": Case(lambda: nn.RMSNorm(5), ((3, 5),), (3, 5), 5),
    "RMSNorm two axes": Case(lambda: nn.RMSNorm((4, 5), 1e-3), ((3, 4, 5),), (3, 4, 5), 20),
    "Embedding": Case(lambda: nn.Embedding(7, 3), (np.array([[0, 6], [3, 3]]),), (2, 2, 3), 21),
    "Embedding padded": Case(
        lambda: nn.Embedding(7, 3, padding_idx=-1), (np.array([[0, 5], [3, 3]]),), (2, 2, 3), 21
    ),
    "Dropout": Case(lambda: nn.Dropout(0.5), ((4, 5),), (4, 5), 0, modes_differ=True),
    "Dropout2d": Case(lambda: nn.Dropout2d(0.5), IMAGES, (2, 4, 6, 5), 0, modes_differ=True),
    "DropPath": Case(lambda: nn.DropPath(0.5), ((8, 5),), (8, 5), 0, modes_differ=True),
    "Flatten": Case(lambda: nn.Flatten(), IMAGES, (2, 120), 0),
    "Flatten two axes": Case(lambda: nn.Flatten(0, 1), IMAGES, (8, 6, 5), 0),
    "Unflatten": Case(lambda: nn.Unflatten(-1, (2, 3)), ((4, 6),), (4, 2, 3), 0),
    "Upsample": Case(lambda: nn.Upsample((2, 3)), IMAGES, (2, 4, 12, 15), 0),
    "Identity": Case(lambda: nn.Identity(), ((4, 5),), (4, 5), 0),
    "MLP": Case(lambda: nn.MLP([5, 4, 2]), ((3, 2, 5),), (3, 2, 2), 34),
    "MLP dropout": Case(
        lambda: nn.MLP([5, 6, 2], tt.tanh, dropout=0.5, bias=False),
        ((3, 5),), (3, 2), 42, modes_differ=True,
    ),
    "ReLU": Case(lambda: nn.ReLU(), ((4, 5),), (4, 5), 0),
    "GELU": Case(lambda: nn.GELU(), ((4, 5),), (4, 5), 0),
    "GELU tanh": Case(lambda: nn.GELU(approximate="tanh"), ((4, 5),), (4, 5), 0),
    "Tanh": Case(lambda: nn.Tanh(), ((4, 5),), (4, 5), 0),
    "Sigmoid": Case(lambda: nn.Sigmoid(), ((4, 5),), (4, 5), 0),
    "Softmax": Case(lambda: nn.Softmax(), ((4, 5),), (4, 5), 0),
    "LogSoftmax": Case(lambda: nn.LogSoftmax(1), IMAGES, (2, 4, 6, 5), 0),
    "SiLU": Case(lambda: nn.SiLU(), ((4, 5),), (4, 5), 0),
    "Mish": Case(lambda: nn.Mish(), ((4, 5),), (4, 5), 0),
    "LogSigmoid": Case(lambda: nn.LogSigmoid(), ((4, 5),), (4, 5), 0),
    "Softsign": Case(lambda: nn.Softsign(), ((4, 5),), (4, 5), 0),
    "ReLU6": Case(lambda: nn.ReLU6(), ((4, 5),), (4, 5), 0),
    "Hardsigmoid": Case(lambda: nn.Hardsigmoid(), ((4, 5),), (4, 5), 0),
    "Hardswish": Case(lambda: nn.Hardswish(), ((4, 5),), (4, 5), 0),
    "SELU": Case(lambda: nn.SELU(), ((4, 5),), (4, 5), 0),
    "LeakyReLU": Case(lambda: nn.LeakyReLU(0.1), ((4, 5),), (4, 5), 0),
    "PReLU": Case(lambda: nn.PReLU(), ((4, 5),), (4, 5), 1),
    "PReLU channels": Case(lambda: nn.PReLU(4), IMAGES, (2, 4, 6, 5), 4),
    "ELU": Case(lambda: nn.ELU(0.5), ((4, 5),), (4, 5), 0),
    "Softplus": Case(lambda: nn.Softplus(2.0), ((4, 5),), (4, 5), 0),
    "Hardtanh": Case(lambda: nn.Hardtanh(-0.5, 0.7), ((4, 5),), (4, 5), 0),
    "GLU": Case(lambda: nn.GLU(), ((4, 6),), (4, 3), 0),
    "MultiHeadAttention": Case(lambda: nn.MultiHeadAttention(6, 2), ((2, 4, 6),), (2, 4, 6), 168),
    "MultiHeadAttention causal": Case(
        lambda: nn.MultiHeadAttention(6, 3, causal=True), ((2, 4, 6),), (2, 4, 6), 168
    ),
    "MultiHeadAttention cross": Case(
        lambda: nn.MultiHeadAttention(6, 2), ((2, 4, 6), (2, 3, 6)), (2, 4, 6), 168
    ),
    "MultiHeadAttention other sizes": Case(
        lambda: nn.MultiHeadAttention(6, 3, kdim=5, vdim=2, bias=False),
        ((2, 4, 6), (2, 3, 5), (2, 3, 2)), (2, 4, 6), 36 + 30 + 12 + 36,
    ),
    "MultiHeadAttention grouped": Case(
        lambda: nn.MultiHeadAttention(8, 4, kv_heads=2, causal=True), ((2, 3, 8),), (2, 3, 8),
        64 + 2 * 32 + 64 + 8 + 2 * 4 + 8,
    ),
    "MultiHeadAttention rotary": Case(
        lambda: nn.MultiHeadAttention(8, 2, positions=nn.RotaryPositions(4)),
        ((2, 3, 8),), (2, 3, 8), 4 * 64 + 32,
    ),
    "MultiHeadAttention dropout": Case(
        lambda: nn.MultiHeadAttention(6, 2, dropout=0.5), ((2, 4, 6),), (2, 4, 6), 168,
        modes_differ=True,
    ),
    "SelfAttention": Case(lambda: nn.SelfAttention(6), ((2, 4, 6),), (2, 4, 6), 168),
    "SelfAttention of single tokens": Case(lambda: nn.SelfAttention(6), ((5, 6),), (5, 6), 168),
    "TransformerBlock": Case(
        lambda: nn.TransformerBlock(6, 2, causal=True), ((2, 4, 6),), (2, 4, 6), 168 + 318 + 24,
        products=5,
    ),
    "TransformerBlock norms last": Case(
        lambda: nn.TransformerBlock(6, 3, norm_first=False, hidden=5, activation=tt.tanh),
        ((2, 4, 6),), (2, 4, 6), 168 + 71 + 24, products=5,
    ),
    "TransformerBlock of Llama": Case(
        lambda: nn.TransformerBlock(
            6, 3, causal=True, hidden=4, activation=nn.SiLU(), gated=True, norm="rms", bias=False,
            attention={"kv_heads": 1, "positions": nn.RotaryPositions(2)},
        ),
        ((2, 4, 6),), (2, 4, 6), 6 * 10 + 36 + 72 + 12, products=5,
    ),
    "TransformerBlock cross": Case(
        lambda: nn.TransformerBlock(6, 2, cross=True, dropout=0.3, drop_path=0.2),
        ((2, 4, 6), (2, 3, 6)), (2, 4, 6), 2 * 168 + 318 + 36, modes_differ=True, products=8,
    ),
    "LearnedPositions": Case(lambda: nn.LearnedPositions(5, 4), ((2, 3, 4),), (2, 3, 4), 20),
    "SinusoidalPositions": Case(
        lambda: nn.SinusoidalPositions(5, 4), ((2, 3, 4),), (2, 3, 4), 0
    ),
    "RotaryPositions": Case(lambda: nn.RotaryPositions(4), ((2, 3, 4),), (2, 3, 4), 0),
    "RotaryPositions interleaved": Case(
        lambda: nn.RotaryPositions(4, interleaved=True), ((2, 3, 4),), (2, 3, 4), 0
    ),
    "LSTM": Case(lambda: nn.LSTM(3, 2), ((3, 2, 3),), (3, 2, 2), 4 * 2 * (3 + 2 + 2), products=4),
    "LSTM all settings": Case(
        lambda: nn.LSTM(3, 2, 2, batch_first=True, dropout=0.4, bidirectional=True),
        ((2, 2, 3),), (2, 2, 4), 16 * (3 + 2 + 2) + 16 * (4 + 2 + 2), modes_differ=True, products=6,
    ),
    "GRU": Case(lambda: nn.GRU(3, 2), ((3, 2, 3),), (3, 2, 2), 3 * 2 * (3 + 2 + 2), products=4),
    "GRU all settings": Case(
        lambda: nn.GRU(3, 2, 2, bias=False, batch_first=True, bidirectional=True),
        ((2, 2, 3),), (2, 2, 4), 12 * (3 + 2) + 12 * (4 + 2), products=6,
    ),
    "RNN": Case(lambda: nn.RNN(3, 2), ((3, 2, 3),), (3, 2, 2), 2 * (3 + 2 + 2), products=4),
    "Sequential": Case(
        lambda: nn.Sequential(nn.Linear(5, 4), tt.tanh, nn.Linear(4, 2)), ((3, 5),), (3, 2), 34
    ),
}  # fmt: skip
each_layer = pytest.mark.parametrize("case", LAYERS.values(), ids=LAYERS.keys())
with_weights = pytest.mark.parametrize(
    "case",
    [c for c in LAYERS.values() if c.parameters],
    ids=[n for n, c in LAYERS.items() if c.parameters],
)


def built(case: Case, dtype=tt.float64) -> nn.Module:
    tt.manual_seed(3)
    return case.make().to(dtype)


def inputs_of(case: Case, dtype=np.float64) -> list[tt.Tensor]:
    rng = np.random.default_rng(5)
    return [
        tt.Tensor(x if isinstance(x, np.ndarray) else rng.standard_normal(x).astype(dtype))
        for x in case.inputs
    ]


def output_of(layer: nn.Module, inputs: list[tt.Tensor]) -> tt.Tensor:
    tt.manual_seed(11)  # the same dropout mask each time
    return output_alone(layer(*inputs))


def output_alone(out) -> tt.Tensor:
    """Recurrent layers give their last state too; it is made of the outputs."""
    return out[0] if isinstance(out, tuple) else out


def weighted(output: tt.Tensor) -> tt.Tensor:
    """One number that depends on every output, each with a weight of its own."""
    weights = np.random.default_rng(7).standard_normal(output.shape)
    return (output * tt.Tensor(weights).astype(output.dtype)).sum()


def test_every_public_layer_has_a_case():
    """Ground truth: the names nn exports."""
    layers = {
        n
        for n in nn.__all__
        if inspect.isclass(getattr(nn, n)) and issubclass(getattr(nn, n), nn.Module)
    }
    # no forward of their own
    layers -= {"Module", "ModuleDict", "ModuleList"}
    layers -= {"KeyValueCache", "ModelCache", "StaticRounding"}
    layers = {name for name in layers if not issubclass(getattr(nn, name), nn.WeightForm)}
    layers = {name for name in layers if not name.endswith("Loss")}  # tests/test_every_loss.py
    listed = {name.split()[0] for name in LAYERS}
    assert layers == listed, f"LAYERS of tests/test_every_layer.py: {sorted(layers ^ listed)}"


@each_layer
def test_output_has_the_declared_shape_and_dtype(case):
    """Ground truth: shapes worked out by hand; float32 in, float32 out."""
    out = output_of(built(case, tt.float32), inputs_of(case, np.float32))
    assert tuple(out.shape) == case.output
    assert out.dtype is tt.float32


@each_layer
def test_parameter_count(case):
    """Ground truth: counted by hand from the layer's formula."""
    assert sum(p.size for p in built(case).parameters()) == case.parameters


STEP = 1e-4  # of the differences below


def slope(at: Callable[[float], float]) -> float:
    """d at / d step by four points: wrong by STEP^4 f^(5) / 30 = 3e-18 f^(5), and by rounding.

    Rounding is 1.5 eps |f| / STEP = 3e-12 |f|, so 1e-6 is ample for slopes above 1e-5 |f|, and
    1e-8 covers those that are zero.
    """
    near, far = at(STEP) - at(-STEP), at(2 * STEP) - at(-2 * STEP)
    return (8.0 * near - far) / (12.0 * STEP)


@each_layer
def test_gradient_to_first_and_second_order(case):
    """Ground truth: differences along random directions of all weights and float inputs, to 1e-6.

    The outputs are squared, so that layers that are linear have second derivatives too.
    """
    layer, inputs = built(case), inputs_of(case)
    moved = [*layer.parameters(), *(x for x in inputs if x.dtype.is_float)]
    values = [t.detach().numpy().copy() for t in moved]
    rng = np.random.default_rng(13)
    along, across = ([rng.standard_normal(t.shape) for t in moved] for _ in range(2))

    def place(step: float) -> None:
        with tt.no_grad():
            for tensor, value, direction in zip(moved, values, across, strict=True):
                tensor.assign_(tt.Tensor(value + step * direction))
        for tensor in moved:
            tensor.requires_grad, tensor.grad = True, None

    def loss() -> tt.Tensor:
        out = output_of(layer, inputs)
        return weighted(out + out * out)

    def number(step: float) -> float:
        place(step)
        return loss().item()

    def rate(step: float, create_graph: bool = False) -> tt.Tensor:
        """Of the loss along the first direction, by the gradient."""
        place(step)
        loss().backward(create_graph=create_graph)
        assert all(t.grad.shape == t.shape for t in moved)
        products = [(t.grad * tt.Tensor(d)).sum() for t, d in zip(moved, along, strict=True)]
        return sum(products[1:], start=products[0])

    first = rate(0.0, create_graph=True)
    gradients = [t.grad.detach().numpy() for t in moved]
    exact = sum(float((g * d).sum()) for g, d in zip(gradients, across, strict=True))
    assert exact == pytest.approx(slope(number), rel=1e-6, abs=1e-8)
    if first.requires_grad:
        first = rate(0.0, create_graph=True)
        for tensor in moved:
            tensor.grad = None
        first.backward()
        found = [(t.grad, d) for t, d in zip(moved, across, strict=True) if t.grad is not None]
        exact = sum(float((g.detach().numpy() * d).sum()) for g, d in found)
    else:
        exact = 0.0
    assert exact == pytest.approx(slope(lambda h: rate(h).item()), rel=1e-6, abs=1e-8)


@with_weights
def test_gradient_reaches_every_parameter(case):
    """Ground truth: a random weighting of the outputs depends on every weight."""
    layer = built(case)
    weighted(output_of(layer, inputs_of(case)) ** 2).backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None and np.abs(parameter.grad.numpy()).max() > 0, name


@with_weights
def test_one_step_against_the_gradient_lowers_the_loss(case):
    """Ground truth: a short enough step downhill goes down."""
    layer, inputs = built(case), inputs_of(case)
    sgd = tt.optim.SGD(layer.parameters(), lr=1e-3)
    before = (output_of(layer, inputs) ** 2).mean()
    before.backward()
    sgd.step()
    assert (output_of(layer, inputs) ** 2).mean().item() < before.item()


@each_layer
def test_state_goes_through_a_dictionary(case):
    """Ground truth: two layers with the same state compute the same, bit for bit."""
    layer, other = built(case), case.make().to(tt.float64)
    inputs = inputs_of(case)
    output_of(layer, inputs)  # moves running statistics
    other.load_state_dict(layer.state_dict())
    first, second = output_of(layer.eval(), inputs), output_of(other.eval(), inputs)
    assert np.array_equal(first.numpy(), second.numpy())
    assert layer.state_dict().keys() == other.state_dict().keys()


@each_layer
def test_modes_differ_only_where_declared(case):
    """Ground truth: the declaration in LAYERS."""
    layer, inputs = built(case), inputs_of(case)
    trained = output_of(layer.train(), inputs).numpy()
    evaluated = output_of(layer.eval(), inputs).numpy()
    assert np.array_equal(trained, evaluated) is not case.modes_differ


def run_twice(case: Case, training: bool, through: Callable) -> list[np.ndarray]:
    """Outputs, gradients and buffers of two calls of forward and backward, no host call."""
    layer = built(case, tt.float32).train(training)
    inputs = inputs_of(case, np.float32)

    def step(*inputs):
        leaves = [x.detach() for x in inputs]
        for x in leaves:
            x.requires_grad = x.dtype.is_float
        out = output_alone(layer(*leaves))
        if out.requires_grad:
            weighted(out).backward()
        return out.detach(), *(x.grad for x in leaves if x.dtype.is_float and x.grad is not None)

    tt.manual_seed(17)
    call = through(step)
    arrays = [x.numpy() for _ in range(2) for x in call(*inputs)]
    if through is tt.compile:
        assert not call._the_call((), {}).program.host_calls
    arrays += [p.grad.numpy() for p in layer.parameters()]
    return arrays + [b.numpy() for b in layer.buffers()]


@each_layer
@pytest.mark.parametrize("training", [True, False])
def test_compiled_is_eager(case, training):
    """Ground truth: eager NumPy: output, gradients, statistics, random bits of two calls.

    float32 in another order: sums of n = 240 terms of size 1 differ by sqrt(240) * 6e-8 = 1e-6 of
    the largest number; batch norm's differences of sums amplify that about ten times.
    """
    eager, compiled = (run_twice(case, training, through) for through in (lambda f: f, tt.compile))
    for a, b in zip(eager, compiled, strict=True):
        assert a.shape == b.shape
        size = max(1.0, float(np.abs(a).max(initial=0.0)))
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5 * size)


@pytest.mark.parametrize(
    "case",  # each layer once: the settings are compared in float32 above
    [c for n, c in LAYERS.items() if c.parameters and " " not in n],
    ids=[n for n, c in LAYERS.items() if c.parameters and " " not in n],
)
def test_compiled_is_eager_in_bfloat16(case):
    """Ground truth: eager NumPy in the same mode.

    Both round the same inputs, but where one layer feeds another a difference of 1e-7 can tip a
    rounding: one part in 2^8 of one input, less in a sum; once for each product on the way.
    """
    near = case.products * 2**-8
    with tt.precision("bf16"):
        pair = [run_twice(case, True, through) for through in (lambda f: f, tt.compile)]
    for a, b in zip(*pair, strict=True):
        size = max(1.0, float(np.abs(a).max(initial=0.0)))
        np.testing.assert_allclose(b, a, rtol=near, atol=near * size)


@each_layer
def test_finite_far_from_zero(case):
    """Ground truth: no layer's value or slope is infinite at +-1e4, float32, eager and compiled.

    Bounds: 1e4^2 times a few hundred terms is far below float32's 3e38.
    """
    layer, rng = built(case, tt.float32), np.random.default_rng(19)
    far = [
        tt.Tensor(rng.choice(np.array([-1e4, 0.0, 1e4], np.float32), x.shape))
        if x.dtype.is_float
        else x
        for x in inputs_of(case, np.float32)
    ]

    def step(*inputs):
        inputs = [x.detach() for x in inputs]
        for x in inputs:
            x.requires_grad = x.dtype.is_float
        out = output_alone(layer(*inputs))
        out.sum().backward()
        return out.detach(), *(x.grad for x in inputs if x.dtype.is_float)

    for call in (step, tt.compile(step)):
        found = call(*far)
        found += tuple(p.grad for p in layer.parameters())
        assert all(np.isfinite(a.numpy()).all() for a in found)
        layer.zero_grad()


@each_layer
def test_an_empty_batch_passes_or_is_refused_in_words(case):
    """Ground truth: no numbers in, none out; or one of our own errors, eager and compiled alike."""
    layer = built(case, tt.float32)
    empty = [tt.Tensor(x.numpy()[:0]) for x in inputs_of(case, np.float32)]
    for call in (output_of, tt.compile(lambda layer, inputs: output_of(layer, inputs))):
        try:
            assert 0 in call(layer, empty).shape
        except tt.TinyTorchError as refusal:
            assert refusal.rule and refusal.fix


@each_layer
def test_repr_begins_with_the_class(case):
    """Ground truth: the class's own name comes first."""
    layer = case.make()
    assert repr(layer).startswith(type(layer).__name__ + "(")
