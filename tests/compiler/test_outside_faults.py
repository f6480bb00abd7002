"""Faults of compiled programs that were found from outside (2026-11), each with its siblings.

Ground truth: the eager definition (NumPy's arithmetic, op by op), unless a test says otherwise;
every target, one thread and three, values and gradients.
"""

from __future__ import annotations

import numpy as np
import pytest

import tinytorch as tt
from tests.compiler.compiled import targets
from tinytorch import nn

F = nn.functional
TARGETS = targets()


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def outcome(fn, arrays, target=None, threads=None) -> list[np.ndarray]:
    """What `fn` gives, then the gradients of a weighted sum of it."""
    given = [tt.Tensor(a.copy(), requires_grad=a.dtype.kind == "f") for a in arrays]

    def step(*given):
        out = fn(*given)
        if out.dtype.is_float and out.requires_grad:
            weights = np.arange(out.size).reshape(out.shape) % 7 - 2.5
            (out * tt.Tensor(weights.astype(np.float32))).sum().backward()
        return out.detach()

    run = step if target is None else tt.compile(step, target=target, threads=threads)
    out = run(*given)
    return [out.numpy(), *(x.grad.numpy() for x in given if x.grad is not None)]


def agree(fn, *arrays: np.ndarray, rtol=2e-4, targets=TARGETS, threads=(1, 3)) -> list[np.ndarray]:
    """Compiled as eager, up to the order of float32 sums; gives the eager outcome."""
    wanted = outcome(fn, arrays)
    for target in targets:
        for number in threads:
            found = outcome(fn, arrays, target, number)
            assert len(found) == len(wanted)
            for a, b in zip(found, wanted, strict=True):
                scale = np.abs(b).max(initial=1.0, where=np.isfinite(b))
                np.testing.assert_allclose(a, b, rtol, rtol * scale, err_msg=target.name)
    return wanted


ROWS = {
    "softmax": lambda y: F.softmax(y, -1),
    "layer norm": lambda y: F.layer_norm(y, (y.shape[-1],)),
    "normalize": lambda y: F.normalize(y, dim=-1),
    "logsumexp": lambda y: tt.logsumexp(y, -1),
    "deviation": lambda y: y.std(-1),
    "distance from the mean": lambda y: y - y.mean(-1, keepdim=True),
    "share of the first axis": lambda y: y / y.sum(0, keepdim=True).square().add(1.0),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_an_array_that_lies_in_another_order(name):
    """Images lie channels-last: a row that is written as neighbours is none in memory."""
    image, line = random(3, 4, 6, 5), random(2, 4, 9)
    agree(lambda x, w: ROWS[name](F.conv2d(x, w).flatten(2)), image, random(6, 4, 3, 3))
    agree(lambda x, w: ROWS[name](F.conv1d(x, w)), line, random(6, 4, 3))
    agree(lambda x, w: ROWS[name](F.conv2d(x, w)), image, random(6, 4, 3, 3))
    agree(lambda x, w: ROWS[name](F.conv2d(x, w).transpose(1, 3)), image, random(6, 4, 3, 3))


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_norm_after_a_convolution(groups):
    """Its groups are channels side by side, or one channel each (an instance norm)."""
    agree(lambda x, w: F.group_norm(F.conv2d(x, w), groups), random(3, 4, 6, 5), random(6, 4, 3, 3))


@pytest.mark.parametrize("n", [3, 4, 17, 64])
def test_a_column_plus_a_row(n):
    """No array that is read has an element at each point; what is stored has."""
    column, row = random(n, 1), random(1, n)
    labels = np.arange(n) % n
    agree(lambda x, z: F.softmax(x + z, -1).square(), column, row)
    agree(lambda x, z: F.softmax(x + z, 0).square(), column, row)
    agree(lambda x, z: F.log_softmax(x * z, -1), column, row)
    agree(lambda x, z, t: F.cross_entropy(x + z, t), column, row, labels)
    agree(
        lambda t, s, z: (t @ s + z).tanh().exp().sum(-1).square().sum(),
        random(n, 3), random(3, 1), row,
    )  # fmt: skip


def test_a_result_of_rows_at_every_point():
    """A long row is summed in parts; what is stored at each point must not be."""
    x = random(1, 300_000)
    agree(lambda x: tt.where(x > 0, x.sum(-1, keepdim=True), 1.0), x, rtol=2e-3)
    agree(lambda x: tt.zeros(2, 3) + x.mean(), x)
    agree(lambda x: (x * x).sum(-1, keepdim=True).expand(1, 300_000) * 1e-3, x, rtol=2e-3)


def _times(y, place, s):
    y[place] *= s


def _plus(y, place, s):
    y[place] += s


def _set(y, place, s):
    y[place] = s


PLACES = (np.s_[::2], np.s_[1::3], np.s_[::-1], np.s_[1:4], 2, [0, 3, 5], [3, 3, 1])


@pytest.mark.parametrize("write", [_times, _plus, _set])
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_writes_that_read_what_they_write_to(write, place):
    """The number written depends on all that is there, and on it before it was computed."""

    for x in (random(8), random(8, 3)):

        def run(x):
            y = F.softmax(x, 0) if x.ndim == 1 else x * 2
            write(y, place, y.std() if x.ndim == 1 else y[0])
            return y

        agree(run, x, targets=TARGETS[-1:], threads=(2,))


S = slice(None)
MASKED = (  # shape, what stands beside the mask in the key (None: the mask), value
    ((6, 3), (None,), ()), ((6, 3), (None,), (4, 3)), ((6, 3), (None,), (4, 1)),
    ((6, 3), (None,), (3,)), ((6, 3), (None, 1), ()), ((6, 3), (None, 1), (4,)),
    ((6, 3), (None, S), (3,)), ((6, 3), (None, np.s_[::-1]), (4, 3)),
    ((2, 6, 3), (S, None), (2, 4, 3)), ((2, 6, 3), (S, None, 0), (2, 4)),
    ((6, 5), (None, np.s_[1::2]), (4, 2)),
)  # fmt: skip


@pytest.mark.parametrize("shape, key, value", MASKED, ids=str)
def test_writes_behind_a_mask(shape, key, value):
    """The mask is an argument: how many places it picks is not known while recording."""
    mask = np.array([1, 0, 1, 0, 1, 1], bool)

    def write(x, mask, value):
        y = x * 1.5
        y[tuple(mask if k is None else k for k in key)] = value
        return y

    agree(write, random(*shape), mask, random(*value, seed=1), threads=(2,))


def test_writes_behind_a_mask_of_two_axes():
    """Several values go to the places that are true in their order, not by broadcasting."""
    mask = np.array([[1, 0], [1, 0], [0, 0]], bool)

    def write(x, mask, value):
        y = x * 1.5
        y[mask] = value
        return y

    agree(write, random(3, 2), mask, random(2, seed=1), threads=(2,))
    agree(write, random(3, 2, 4), mask, random(2, 4, seed=1), threads=(2,))
    agree(write, random(3, 2, 4), mask, random(4, seed=1), threads=(2,))
    x, compiled = tt.Tensor(random(3, 2)), tt.compile(lambda x, m, v: write(x, m, v))
    for count in (3, 5):  # there are two places
        with pytest.raises(IndexError):
            compiled(x, mask, np.ones(count, np.float32))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_ignored_labels_over_positions(reduction):
    """nll_loss of (N, C, T): the weights are sums beside the picked numbers."""
    x, labels = random(2, 3, 8), np.arange(16).reshape(2, 8) % 3
    options = {"ignore_index": 1, "reduction": reduction}
    agree(lambda x, t: F.nll_loss(x, t, **options), x, labels)
    agree(lambda x, t: F.cross_entropy(x, t, **options), x, labels)
    value = tt.compile(lambda x, t: F.nll_loss(x, t, ignore_index=1))(tt.Tensor(x), labels)
    keep = labels != 1
    picked = np.take_along_axis(x, labels[:, None], 1)[:, 0]
    np.testing.assert_allclose(value.numpy(), -picked[keep].mean(), rtol=1e-5)


@pytest.mark.parametrize("queries, keys", [(0, 4), (4, 0), (0, 0), (1, 0)])
@pytest.mark.parametrize("how", ["plain", "causal", "mask", "added"])
def test_attention_of_nothing(queries, keys, how):
    """Closed form: a query that sees no key gets zeros, and gives no gradient."""
    q, k, v = random(2, 2, queries, 8), random(2, 2, keys, 8, seed=1), random(2, 2, keys, 8, seed=2)
    mask = {"mask": np.ones((queries, keys), bool), "added": np.zeros((queries, keys), "float32")}

    def attend(q, k, v):
        given = tt.Tensor(mask[how]) if how in mask else None
        return F.scaled_dot_product_attention(q, k, v, given, is_causal=how == "causal")

    for array in agree(attend, q, k, v):
        assert not array.any()


def test_places_among_sorted_numbers_and_nan():
    """Ground truth: NumPy, for which NaN is the largest number."""
    needles = np.array([np.nan, 1, 5, -np.inf, np.inf, 3], np.float32)
    lines = ([1, 2, 4, np.nan], [1, 2, 3], [-np.inf, 0, 0, np.inf], [np.nan, np.nan], [])
    for line in lines:
        for side in ("left", "right"):
            found = tt.compile(lambda a, v, side=side: tt.searchsorted(a, v, side=side))(
                tt.Tensor(np.array(line, np.float32)), tt.Tensor(needles)
            )
            np.testing.assert_array_equal(found.numpy(), np.searchsorted(line, needles, side))


@pytest.mark.parametrize(
    "fn, number",
    [
        (lambda y: F.softmax(y, -1), None), (lambda y: F.log_softmax(y, -1), None),
        (lambda y: F.softmin(y, -1), None), (lambda y: tt.logsumexp(y, -1), -np.inf),
        (lambda y: F.glu(y, -1), None), (lambda y: F.layer_norm(y, (0,)), None),
        (lambda y: F.normalize(y, dim=-1), None),
    ],
    ids=["softmax", "log_softmax", "softmin", "logsumexp", "glu", "layer_norm", "normalize"],
)  # fmt: skip
def test_an_axis_of_size_0(fn, number):
    """Closed form: of nothing a distribution is empty, a sum is 0 and its log -inf."""
    out, slope = agree(fn, random(2, 0))
    assert out.shape == ((2,) if number else (2, 0)) and slope.shape == (2, 0)
    assert number is None or (out == number).all()


EMPTY = {  # what is done with arrays of these shapes
    "image channels": (lambda x, w: F.conv2d(x, w), (2, 0, 5, 5), (4, 0, 3, 3)),
    "pictures": (lambda x, w: F.conv2d(x, w, padding=1), (0, 3, 5, 5), (4, 3, 3, 3)),
    "turned channels": (lambda x, w: F.conv_transpose2d(x, w, None, 2), (2, 0, 4, 4), (0, 2, 3, 3)),
    "turned filters": (lambda x, w: F.conv_transpose2d(x, w), (2, 3, 4, 4), (3, 0, 3, 3)),
    "pooled pictures": (lambda x: F.max_pool2d(x, 2), (0, 3, 4, 4)),
    "pooled channels": (lambda x: F.avg_pool2d(x, 2), (2, 0, 4, 4)),
    "inner axis": (lambda a, b: a @ b + 1.0, (3, 0), (0, 4)),
    "batch": (lambda a, b: a @ b, (0, 2, 3), (0, 3, 4)),
    "rows": (lambda x: F.layer_norm(x, (4,)), (0, 4)),
    "groups": (lambda x: F.group_norm(x, 2), (3, 4, 0)),
    "rows of softmax": (lambda x: F.softmax(x, -1), (0, 4)),
    "column plus a row": (lambda x, z: F.softmax(x + z, -1), (0, 1), (1, 4)),
    "sums": (lambda x: tt.cat([x.sum(0), x.prod(0), x.mean(0)]), (0, 4)),
    "order": (lambda x: tt.sort(x, 1, descending=True).values, (4, 0)),
    "running sums": (lambda x: tt.cumulative_sum(x, axis=1), (4, 0)),
    "parts": (lambda x, y: tt.cat([x, y], 1), (3, 0), (3, 4)),
    "heads": (lambda q: F.scaled_dot_product_attention(q, q, q), (2, 0, 3, 4)),
    "head size": (lambda q: F.scaled_dot_product_attention(q, q, q, scale=1.0), (2, 2, 3, 0)),
    "place written to": (lambda x: _write_nothing(x * 1.0), (3, 4)),
}


def _write_nothing(y):
    y[0:0] = 5.0
    y[tt.Tensor(np.zeros(0, np.int64))] = 7.0
    return y


@pytest.mark.parametrize("name", EMPTY)
def test_nothing_in_an_axis(name):
    """The eager definition: NumPy does nothing, too."""
    fn, *shapes = EMPTY[name]
    agree(fn, *(random(*shape) for shape in shapes), targets=TARGETS[-1:], threads=(2,))


LOOKUPS = {
    "rows": lambda x, i: x[i] + 1.0,
    "tokens": lambda x, i: F.embedding(i, x),
    "labels": lambda x, i: F.cross_entropy(x.reshape(2, 0), i),
    "elements": lambda x, i: tt.gather(x.reshape(2, 0), 1, i.reshape(2, 1)),
}


@pytest.mark.parametrize("name", LOOKUPS)
def test_looking_into_nothing(name):
    """Invariant: no index is inside an axis of size 0, eager and compiled."""
    for run in (LOOKUPS[name], tt.compile(LOOKUPS[name])):
        with pytest.raises(IndexError):
            run(tt.zeros(0, 4), tt.Tensor(np.zeros(2, np.int64)))


def test_a_convolution_without_filters():
    """Closed form: nothing comes out, and the image's gradient is 0."""
    for stride, padding in ((1, 0), (2, 1)):
        x, w = random(2, 3, 5, 5), random(0, 3, 3, 3)
        out, slope, _ = agree(lambda x, w, s=stride, p=padding: F.conv2d(x, w, None, s, p), x, w)
        assert out.shape[1] == 0 and slope.shape == x.shape and not slope.any()


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_subnormal_bfloat16(target):
    """Ground truth: nearest, ties to even, on the bits; an instruction of AVX-512 gives 0."""
    bits = np.random.default_rng(0).integers(0, 2**24, 3000, dtype=np.uint32)
    x = np.concatenate([bits.view("f4"), -bits.view("f4"), (bits << 7).view("f4")])
    x = np.concatenate([x[np.isfinite(x)], np.float32([1e-39, 1e-45, 0.0, -0.0, np.inf])])

    def round_trip(x):
        return x.to(tt.bfloat16).to(tt.float32)

    u = x.view(np.uint32)
    wanted = ((u + 0x7FFF + (u >> 16 & 1)) & 0xFFFF0000).view(np.float32)
    found = tt.compile(round_trip, target=target)(tt.Tensor(x)).numpy()
    np.testing.assert_array_equal(found.view("u4"), wanted.view("u4"))
    seen = tt.compile(lambda x: x.to(tt.bfloat16) != 0, target=target)(tt.Tensor(x)).numpy()
    np.testing.assert_array_equal(seen, wanted != 0)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_slopes_far_out(target, dtype):
    """Closed form: e / (1 + e)^2 with e = exp(-|x|), where it is a normal number; 8 units for two
    functions. 1 / (1 + exp(-x)) of -200 has the slope 0, where inf times 0 would be NaN."""
    far = [-87.0, -37.43, -20, -17, 0, 17, 20, 37.43, 87] + [-700.0, 700] * (dtype == "float64")
    e = np.exp(-np.abs(np.array(far)))
    x = tt.Tensor(np.array(far, dtype), requires_grad=True)
    tt.compile(lambda x: tt.sigmoid(x).sum().backward(), target=target)(x)
    np.testing.assert_allclose(x.grad.numpy(), e / (1 + e) ** 2, rtol=8 * np.finfo(dtype).eps)
    value = tt.compile(tt.sigmoid, target=target)(x.detach()).numpy()
    np.testing.assert_allclose(value, 1 / (1 + np.exp(-np.array(far))), 8 * np.finfo(dtype).eps)
    low = tt.Tensor(np.array([-200.0, -1000], dtype), requires_grad=True)
    tt.compile(lambda x: (1 / (1 + tt.exp(-x))).sum().backward(), target=target)(low)
    np.testing.assert_allclose(low.grad.numpy(), [np.exp(-200.0) if dtype == "float64" else 0, 0],
                               atol=1e-80)  # fmt: skip
