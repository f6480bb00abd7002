"""float16 and bfloat16 inside a composite: computed in float32 and rounded once, with gradients."""

import numpy as np
import pytest
import torch

import tinytorch as tt
from tests.compiler.compiled import targets
from tinytorch import nn
from tinytorch.nn import functional as F

TARGETS = targets()
WAYS = [None, *TARGETS]
IDS = ["eager", *(t.name for t in TARGETS)]
HALF = ["float16", "bfloat16"]
STEP = {"float16": 2.0**-10, "bfloat16": 2.0**-7}  # from 1 to the next number

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 6)).astype("f4") * 3
IMAGE = RNG.normal(size=(2, 4, 5, 5)).astype("f4")
LABELS = np.array([0, 5, 2, 2])
ROW = np.array([[300.0, -300.0, 100.0, 5.0]], "f4")  # its squares are no float16


def by(way, function):
    return function if way is None else tt.compile(function, target=way)


def weights(n):
    return np.linspace(0.5, 1.5, n).astype("f4")


# name -> function of (x of float type T, library module F, make: NumPy -> T)
ROWS = {
    "mean": lambda x, F, make: x.mean(0),
    "var": lambda x, F, make: x.var(1),
    "std": lambda x, F, make: x.std(1),
    "norm": lambda x, F, make: x.norm(2, 1),
    "norm of 3": lambda x, F, make: x.norm(3, 1),
    "softmax": lambda x, F, make: F.softmax(x, -1),
    "log_softmax": lambda x, F, make: F.log_softmax(x, -1),
    "logsumexp": lambda x, F, make: x.logsumexp(-1),
    "layer_norm": lambda x, F, make: F.layer_norm(x, (6,), make(weights(6)), make(weights(6))),
    "rms_norm": lambda x, F, make: F.rms_norm(x, (6,), make(weights(6))),
    "group_norm": lambda x, F, make: F.group_norm(x, 2, make(weights(6)), make(weights(6))),
    "batch_norm": lambda x, F, make: F.batch_norm(x, None, None, make(weights(6)), training=True),
    "normalize": lambda x, F, make: F.normalize(x),
    "cosine_similarity": lambda x, F, make: F.cosine_similarity(x, make(X[::-1].copy())),
    "gelu": lambda x, F, make: F.gelu(x),
    "gelu by tanh": lambda x, F, make: F.gelu(x, approximate="tanh"),
    "silu": lambda x, F, make: F.silu(x),
    "mish": lambda x, F, make: F.mish(x),
    "softplus": lambda x, F, make: F.softplus(x),
    "elu": lambda x, F, make: F.elu(x, 0.7),
    "selu": lambda x, F, make: F.selu(x),
    "softsign": lambda x, F, make: F.softsign(x),
    "hardswish": lambda x, F, make: F.hardswish(x),
    "sigmoid": lambda x, F, make: F.sigmoid(x),
    "cross_entropy": lambda x, F, make: F.cross_entropy(x, labels(make)),
    "smoothed": lambda x, F, make: F.cross_entropy(x, labels(make), label_smoothing=0.1),
    "nll_loss": lambda x, F, make: F.nll_loss(F.log_softmax(x, -1), labels(make)),
    "mse_loss": lambda x, F, make: F.mse_loss(x, make(X[::-1].copy())),
    "l1_loss": lambda x, F, make: F.l1_loss(x, make(X[::-1].copy())),
    "huber_loss": lambda x, F, make: F.huber_loss(x, make(X[::-1].copy())),
    "smooth_l1_loss": lambda x, F, make: F.smooth_l1_loss(x, make(X[::-1].copy())),
    "bce": lambda x, F, make: F.binary_cross_entropy_with_logits(x, make((X > 0).astype("f4"))),
    "kl_div": lambda x, F, make: F.kl_div(F.log_softmax(x, -1), make(np.full((4, 6), 1 / 6, "f4"))),
}
IMAGES = {
    "avg_pool2d": lambda x, F, make: F.avg_pool2d(x, 2),
    "avg_pool2d overlapping": lambda x, F, make: F.avg_pool2d(x, 3, 1, 1),
    "adaptive": lambda x, F, make: F.adaptive_avg_pool2d(x, 2),
    "adaptive to one": lambda x, F, make: F.adaptive_avg_pool2d(x, 1),
    "batch_norm": lambda x, F, make: F.batch_norm(x, None, None, training=True),
    "group_norm": lambda x, F, make: F.group_norm(x, 2),
}
CASES = [(name, f, X) for name, f in ROWS.items()]
CASES += [(f"image {name}", f, IMAGE) for name, f in IMAGES.items()]


def labels(make):
    return make(LABELS)


def ours(f, half):
    """Value and gradient (of a sum with uneven weights), everything in half precision."""

    def make(array):
        array = tt.Tensor(array)
        return array.astype(half) if array.dtype.is_float else array

    def both(x):
        x = x.detach().requires_grad_()
        out = f(x, F, make)
        (out * spread(out.size, make).reshape(out.shape)).sum().backward()
        return out.detach(), x.grad

    return both


def spread(n, make):
    """Powers of two, exact in every type, so that they add no rounding of their own."""
    return make((2.0 ** (np.arange(n) % 3 - 1)).astype("f4"))


def exact(f, array, half):
    """The same in float32 of the rounded inputs: what is to be rounded once."""

    def make(array):
        array = tt.Tensor(array)
        return array.astype(half).astype("float32") if array.dtype.is_float else array

    x = make(array).requires_grad_()
    out = f(x, F, make)
    (out * spread(out.size, make).reshape(out.shape)).sum().backward()
    return out.detach().numpy(), x.grad.numpy()


@pytest.mark.parametrize("half", HALF)
@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_composites_are_float32_inside_and_rounded_once(way, half):
    """Invariant: the float32 result, rounded: half a step of the type, and float32's own few
    roundings. The gradient is rounded once too (nll_loss and kl_div are two composites each)."""

    def everything(rows, image):
        out = []
        for _, f, array in CASES:
            out += ours(f, half)(rows if array is X else image)
        return out

    given = [tt.Tensor(a).astype(half) for a in (X, IMAGE)]
    outs = iter(by(way, everything)(*given))
    for name, f, array in CASES:
        twice = 3 if name in ("nll_loss", "kl_div", "sigmoid") else 1
        for what, truth in zip(("value", "gradient"), exact(f, array, half), strict=True):
            mine = next(outs)
            assert mine.dtype.name == half and mine.shape == truth.shape, name
            allowed = twice * (0.5 + 2.0**-6) * STEP[half] * np.abs(truth)
            least = 2.0**-24 if half == "float16" else 2.0**-22  # a denormal; float32 beside 1
            error = np.abs(mine.float().numpy() - truth)
            assert (error <= allowed + 4 * least).all(), (name, what, error.max())


@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_what_overflowed_inside_fits(way):
    """Closed forms, row X04: means of ones and twos, norms of a row whose squares are no float16,
    the loss log(7) of 70,000 even rows, means of windows whose sums overflow."""
    log7 = float(np.float16(np.log(7.0)))
    row = ROW[0].astype("f8")
    normed = (row - row.mean()) / np.sqrt(row.var() + 1e-5)
    rms = row / np.sqrt((row * row).mean())
    length, deviation = np.sqrt((row * row).sum()), row.std(ddof=1)

    def everything(ones, row, logits, labels):
        half = row.dtype
        column = row.transpose(0, 1)
        window = tt.full((1, 1, 33, 33), 300.0, half)
        return [
            ones.mean(), (tt.zeros(70000, 4, dtype=half) + 2.0).mean(), row.std(), row.norm(),
            F.layer_norm(row, (4,)), F.rms_norm(row, (4,)), F.group_norm(row, 1),
            F.batch_norm(column, None, None, training=True).transpose(0, 1),
            F.cross_entropy(logits, labels), F.mse_loss(ones * 3.0, ones),
            F.avg_pool2d(window, 32, 1), F.adaptive_avg_pool2d(window, 1),
            F.normalize(row), F.cosine_similarity(row, row), ones[:1000].sum(),
            ones[:1000].cumsum(0)[-1],
        ]  # fmt: skip

    for half in HALF:
        outs = by(way, everything)(
            tt.ones(70000, dtype=half), tt.Tensor(ROW).astype(half),
            tt.zeros(70000, 7, dtype=half), tt.zeros(70000, dtype="int64"),
        )  # fmt: skip
        truths = [
            1.0, 2.0, deviation, length, normed, rms, normed, normed, log7, 4.0, 300.0, 300.0,
            row / length, 1.0, 1000.0, 1000.0,
        ]  # fmt: skip
        for i, (mine, truth) in enumerate(zip(outs, truths, strict=True)):
            assert mine.dtype.name == half
            error = np.abs(mine.float().numpy() - truth)
            assert (error <= STEP[half] * np.abs(truth)).all(), (i, mine)


@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_a_mean_of_bfloat16_is_not_rounded_inside(way):
    """Row X05: numbers of mean 100 and deviation 1: PyTorch, whose norm is float32 inside too."""
    x = (100.0 + RNG.normal(size=(8, 64))).astype("f4")
    given = tt.Tensor(x).astype("bfloat16")
    mine = by(way, lambda x: F.layer_norm(x, (64,)))(given).float().numpy()
    peer = torch.tensor(x).bfloat16()
    truth = torch.nn.functional.layer_norm(peer, (64,)).float().numpy()
    np.testing.assert_allclose(mine, truth, rtol=2**-7)


@pytest.mark.parametrize("half", HALF)
@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_sums_of_many_gradients_are_not_rounded_on_the_way(way, half):
    """Closed form: a row looked up 1,000 times, a bias added 1,000 times, has the gradient 1,000
    (PyTorch in bfloat16: 256, where 256 + 1 rounds back)."""

    def slopes(table, index, bias):
        table, bias = table.detach().requires_grad_(), bias.detach().requires_grad_()
        (F.embedding(index, table) + bias).sum().backward()
        return table.grad, bias.grad

    index = tt.zeros(1000, dtype="int64")
    table, bias = tt.ones(3, 2, dtype=half), tt.ones(2, dtype=half)
    rows, added = by(way, slopes)(table, index, bias)
    assert rows[0].tolist() == [1000.0, 1000.0] == added.tolist()


def test_numpys_half_is_widened_too():
    """Closed form: the mean of ones is 1; 300 * 300 * 3 is no float16, 1 * 300 - 1 * 300 + 1 is."""
    assert tt.mean(np.ones(70000, np.float16)).item() == 1.0
    assert tt.logsumexp(np.full(8, 11.0, np.float16)).item() == float(np.float16(11 + np.log(8)))
    a = tt.Tensor(np.array([300.0, -300.0, 1.0], np.float16))
    assert tt.vecdot(a, tt.Tensor(np.array([300.0, 300.0, 1.0], np.float16))).item() == 1.0


def test_running_statistics_of_a_half_batch_norm_move():
    """Closed form: 0.9 * 0 + 0.1 * mean; the state keeps its own type, float32 or half."""
    for state in ("float32", "bfloat16", "float16"):
        norm = nn.BatchNorm1d(2)
        norm.to(state)
        x = tt.Tensor([[1.0, 2.0], [3.0, 6.0]]).astype("bfloat16" if state == "float32" else state)
        assert norm(x).dtype is x.dtype
        assert norm.running_mean.dtype.name == state
        np.testing.assert_allclose(norm.running_mean.float().numpy(), [0.2, 0.4], rtol=2**-8)
        np.testing.assert_allclose(norm.running_var.float().numpy(), [1.1, 1.7], rtol=2**-8)
        norm.eval()
        assert norm(x).dtype is x.dtype


def test_a_compiled_composite_has_no_kernel_for_its_conversions():
    """Invariant: a half layer norm with its gradient is one kernel, as it is in float32."""

    def step(x, w):
        x = x.detach().requires_grad_()
        F.layer_norm(x, (256,), w, w).sum().backward()
        return x.grad

    counts = set()
    for dtype in ("float32", *HALF):
        compiled = tt.compile(step)
        compiled(tt.ones(64, 256, dtype=dtype), tt.ones(256, dtype=dtype))
        counts.add(sum(line.startswith("rows") for line in str(compiled.explain()).splitlines()))
    assert counts == {1}
