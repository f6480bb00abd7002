"""Values and slopes where functions have corners, poles and branches that are not taken.

Ground truth: closed forms and limits, written beside each row; a subgradient where there is no
derivative, and then PyTorch's choice. Each row is asked eagerly and compiled for every target, to
second order: rows of one order are one program, so there are few compilations. `None` for a second
slope: mathematics has none (or an infinite one).
"""

from __future__ import annotations

import math

import numpy as np
import pytest

import tinytorch as tt
from tests.compiler.compiled import targets
from tinytorch.nn import functional as F

INF, NAN = math.inf, math.nan
T = tt.tensor
P20 = math.exp(-20.0) / (1.0 + math.exp(-20.0)) ** 2  # sigmoid'(20)
P37 = math.exp(-37.43) / (1.0 + math.exp(-37.43)) ** 2
SHARE = math.exp(1.0) / (math.exp(1.0) + math.exp(-0.8))  # softmax of [1, -inf, -0.8] at 0
SURE = 1.0 / (1.0 + math.exp(-1.0))  # sigmoid(1)

# name: (function, input, value, slope of the sum, slope of the sum of the slopes)
ROWS = {
    # the branch that is not taken
    "where sqrt": (
        lambda x: tt.where(x > 0, tt.sqrt(x), x),
        [-1.0, 4.0],
        [-1, 2],
        [1, 0.25],
        [0, -1 / 32],
    ),
    "where log": (
        lambda x: tt.where(x > 2, tt.log(x), 2 * x),
        [0.0, 4.0],
        [0, math.log(4.0)],
        [2, 0.25],
        [0, -1 / 16],
    ),
    "where exp": (
        lambda x: tt.where(x <= 10, tt.exp(x), 1.0),
        [1e10, 1.0],
        [1, math.e],
        [0, math.e],
        [0, math.e],
    ),
    "where pow": (lambda x: tt.where(x > 0, x**1.5, 0.0), [-1.0, 4.0], [0, 8], [0, 3], [0, 3 / 8]),
    "where 1/x": (
        lambda x: tt.where(x != 0, 1 / x, 0.0),
        [0.0, 2.0],
        [0, 0.5],
        [0, -0.25],
        [0, 0.25],
    ),
    "where rsqrt": (
        lambda x: tt.where(x > 0, tt.rsqrt(x), 0.0),
        [0.0, 4.0],
        [0, 0.5],
        [0, -1 / 16],
        [0, 3 / 128],
    ),
    "x log x": (lambda x: tt.where(x > 0, x * tt.log(x), 0.0), [0.0, 1.0], [0, 0], [0, 1], [0, 1]),
    "masked target": (
        lambda x: tt.where(T([True, False]), (x - T([1.0, NAN])) ** 2, 0.0),
        [0.0, 1.0],
        [1, 0],
        [-2, 0],
        [2, 0],
    ),
    "where log1p": (
        lambda x: tt.where(x > -1, tt.log1p(x), 0.0),
        [-1.0, 1.0],
        [0, math.log(2.0)],
        [0, 0.5],
        [0, -0.25],
    ),
    "where of NaN": (
        lambda x: tt.where(tt.isnan(x), 0.0, x * x),
        [NAN, 3.0],
        [0, 9],
        [0, 6],
        [0, 2],
    ),
    "where of prod": (
        lambda x: tt.where(T([True, False]), tt.prod(x, 1), 0.0),
        [[2.0, 3.0], [INF, NAN]],
        [6, 0],
        [[3, 2], [0, 0]],
        [[1, 1], [0, 0]],
    ),
    "where of amax": (
        lambda x: tt.where(T([True, False]), tt.amax(x, 1), 0.0),
        [[2.0, 3.0], [NAN, 1.0]],
        [3, 0],
        [[0, 1], [0, 0]],
        [[0, 0], [0, 0]],
    ),
    "where of logsumexp": (
        lambda x: tt.where(T([True, False]), tt.logsumexp(x, 1), 0.0),
        [[0.0, 0.0], [NAN, INF]],
        [math.log(2), 0],
        [[0.5, 0.5], [0, 0]],
        [[0, 0], [0, 0]],
    ),
    "a slice of log": (lambda x: tt.log(x)[1:], [0.0, 2.0], [math.log(2)], [0, 0.5], [0, -0.25]),
    "a lookup in log": (
        lambda x: tt.take(tt.log(x), T([1]), 0),
        [0.0, 2.0],
        [math.log(2)],
        [0, 0.5],
        [0, -0.25],
    ),
    "relu of log": (
        lambda x: tt.relu(tt.log(x)),
        [0.0, 2.0],
        [0, math.log(2)],
        [0, 0.5],
        [0, -0.25],
    ),
    "larger than log": (
        lambda x: tt.maximum(tt.log(x), -1.0),
        [0.0, 2.0],
        [-1, math.log(2)],
        [0, 0.5],
        [0, -0.25],
    ),
    "log, largest": (lambda x: tt.amax(tt.log(x)), [0.0, 2.0], math.log(2), [0, 0.5], [0, -0.25]),
    # a taken zero is not final: its second slope is there
    "taken zero": (
        lambda x: tt.where(x > -9, x * x * x, 0.0) ** 2 / 2,
        [1.0, 0.0],
        [0.5, 0],
        [3, 0],
        [15, 0],
    ),
    "taken product": (lambda x: tt.where(x > -9, x * 3.0, 0.0) ** 2 / 2, [0.0], [0], [0], [9]),
    # gone flat to all orders
    "1/(1+exp(-x))": (lambda x: 1 / (1 + tt.exp(-x)), [-200.0, 0.0], [0, 0.5], [0, 0.25], [0, 0]),
    "exp(-exp(x))": (
        lambda x: tt.exp(-tt.exp(x)),
        [100.0, 0.0],
        [0, 1 / math.e],
        [0, -1 / math.e],
        [0, 0],
    ),
    "tanh(exp(x))": (lambda x: tt.tanh(tt.exp(x)), [100.0], [1], [0], [0]),
    "tanh gelu far out": (
        lambda x: F.gelu(x, approximate="tanh"),
        [1e20, -1e20],
        [1e20, 0],
        [1, 0],
        None,
    ),
    "sigmoid": (
        tt.sigmoid,
        [20.0, -20.0, 0.0, 200.0, -200.0],
        [1, 2.0611537e-9, 0.5, 1, 0],
        [P20, P20, 0.25, 0, 0],
        [-P20, P20, 0, 0, 0],
    ),
    # norms and deviations
    "norm": (lambda x: tt.norm(x), [0.0, 0.0], 0, [0, 0], [0, 0]),
    "norm .5": (lambda x: tt.norm(x, 0.5), [0.0, 1.0, 4.0], 9, [0, 3, 1.5], [0, -0.75, 0.1875]),
    "norm .5 at 0": (lambda x: tt.norm(x, 0.5), [0.0, 0.0], 0, [0, 0], [0, 0]),
    "norm -1": (lambda x: tt.norm(x, -1), [1.0, 2.0], 2 / 3, [4 / 9, 1 / 9], [-4 / 27, 2 / 27]),
    "norm -1 at 0": (lambda x: tt.norm(x, -1), [0.0, 2.0], 0, [0, 0], [0, 0]),
    "norm, squared": (lambda x: tt.norm(x) ** 2, [0.0, 0.0], 0, [0, 0], None),
    "norm of rows": (
        lambda x: tt.norm(x, dim=1),
        [[0.0, 0.0], [3.0, 4.0]],
        [0, 5],
        [[0, 0], [0.6, 0.8]],
        [[0, 0], [4 / 125, -3 / 125]],
    ),
    "std of equals": (lambda x: tt.std(x), [2.0, 2.0, 2.0], 0, [0, 0, 0], [0, 0, 0]),
    "hypot at 0": (lambda x: tt.hypot(x, 0.0), [0.0, 2.0], [0, 2], [0, 1], [0, 0]),
    "normalize": (
        lambda x: F.normalize(x, dim=1) * 1e-12,
        [[0.0, 0.0], [3.0, 4.0]],
        [[0, 0], [0.6e-12, 0.8e-12]],
        [[1, 1], [0.032e-12, -0.024e-12]],
        None,
    ),
    # bounds
    "clip": (
        lambda x: tt.clip(x, 0, 1),
        [0.0, 0.5, 1.0, 2.0, -1.0],
        [0, 0.5, 1, 1, 0],
        [1, 1, 1, 0, 0],
        [0] * 5,
    ),
    "clip below": (lambda x: tt.clip(x, min=0), [0.0, 1.0, -1.0], [0, 1, 0], [1, 1, 0], [0] * 3),
    "clip above": (lambda x: tt.clip(x, max=0), [0.0, 1.0, -1.0], [0, 0, -1], [1, 0, 1], [0] * 3),
    "clip by Tensors": (
        lambda x: tt.clip(T([0.5, 0.5, 0.5]), x, 1.0),
        [0.0, 0.5, 0.75],
        [0.5, 0.5, 0.75],
        [0, 0, 1],
        [0] * 3,
    ),
    "relu6": (F.relu6, [0.0, 6.0, 3.0], [0, 6, 3], [0, 0, 1], [0] * 3),
    "hardtanh": (F.hardtanh, [-1.0, 1.0, 0.0], [-1, 1, 0], [0, 0, 1], [0] * 3),
    "huber at its joint": (
        lambda x: F.huber_loss(x, tt.zeros(3), reduction="none"),
        [1.0, -1.0, 0.0],
        [0.5, 0.5, 0],
        [1, -1, 0],
        None,
    ),
    "abs, sign": (lambda x: tt.abs(x) + tt.sign(x), [0.0, -0.0], [0, 0], [0, 0], [0, 0]),
    "stairs": (
        lambda x: tt.floor(x) + tt.ceil(x) + tt.round(x) + tt.trunc(x) + tt.sign(x) + x // 2,
        [0.0, 1.5, -0.25],
        [0, 1 + 2 + 2 + 1 + 1, -1 + 0 + 0 + 0 - 1 - 1],
        [0, 0, 0],
        [0, 0, 0],
    ),
    "stairs of a root": (lambda x: tt.floor(tt.sqrt(x)), [0.0, 2.0], [0, 1], [0, 0], [0, 0]),
    # ties
    "amax": (lambda x: tt.amax(x), [1.0, 1.0, 0.0], 1, [0.5, 0.5, 0], [0] * 3),
    "maximum": (lambda x: tt.maximum(x, T([1.0, 2.0])), [1.0, 1.0], [1, 2], [0.5, 0], [0] * 2),
    "sort down": (
        lambda x: tt.sort(x, descending=True)[0] * T([1.0, 2.0, 4.0]),
        [1.0, 1.0, 3.0],
        [3, 2, 4],
        [2, 4, 1],
        [0] * 3,
    ),
    # products and powers
    "prod": (lambda x: tt.prod(x), [0.0, 2.0, 3.0], 0, [6, 0, 0], [5, 3, 2]),
    "cumprod": (lambda x: tt.cumprod(x, 0), [2.0, 0.0, 3.0], [2, 0, 0], [1, 8, 0], [4, 6, 2]),
    "x^0, x^1, x^2": (
        lambda x: tt.pow(x, T([0.0, 1.0, 2.0])),
        [0.0] * 3,
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 2],
    ),
    "0^x": (lambda x: tt.pow(T(0.0), x), [0.0, 1.0, 2.0], [1, 0, 0], [0, 0, 0], [0, 0, 0]),
    # angles
    "atan2 at 0": (lambda x: tt.atan2(x, T([0.0, 1.0])), [0.0, 0.0], [0, 0], [0, 1], [0, 0]),
    "asin": (tt.asin, [1.0, -1.0, 0.0], [math.pi / 2, -math.pi / 2, 0], [INF, INF, 1], None),
    "acos": (tt.acos, [1.0, -1.0, 0.0], [0, math.pi, math.pi / 2], [-INF, -INF, -1], None),
    # logarithms of sums
    "logsumexp of -inf": (lambda x: tt.logsumexp(x), [-INF, -INF], -INF, [0, 0], [0, 0]),
    "logsumexp of x - inf": (lambda x: tt.logsumexp(x - INF), [1.0, 2.0], -INF, [0, 0], [0, 0]),
    "logsumexp with -inf": (lambda x: tt.logsumexp(x), [0.0, -INF], 0, [1, 0], [0, 0]),
    "logaddexp": (
        lambda x: tt.logaddexp(x, T([INF, -INF, INF, 0.0])),
        [INF, -INF, -INF, 0.0],
        [INF, -INF, INF, math.log(2)],
        [0.5, 0.5, 0, 0.5],
        None,
    ),
    "softplus": (
        F.softplus,
        [0.0, 200.0, -200.0],
        [math.log(2), 200, 0],
        [0.5, 1, 0],
        [0.25, 0, 0],
    ),
    # 0 times inf in losses
    "bce right": (
        lambda x: F.binary_cross_entropy_with_logits(x, T([1.0, 0.0]), reduction="none"),
        [INF, -INF],
        [0, 0],
        [0, 0],
        [0, 0],
    ),
    "bce wrong": (
        lambda x: F.binary_cross_entropy_with_logits(x, T([0.0, 1.0]), reduction="none"),
        [INF, -INF],
        [INF, INF],
        [1, -1],
        [0, 0],
    ),
    "bce, pos_weight": (
        lambda x: F.binary_cross_entropy_with_logits(
            x, T([1.0, 0.0]), pos_weight=T(2.0), reduction="none"
        ),
        [INF, -INF],
        [0, 0],
        [0, 0],
        [0, 0],
    ),
    "bce, no weight": (
        lambda x: F.binary_cross_entropy_with_logits(
            x, T([0.0, 1.0]), T([0.0, 1.0]), reduction="none"
        ),
        [INF, 0.0],
        [0, math.log(2)],
        [0, -0.5],
        [0, 0.25],
    ),
    "kl": (
        lambda x: F.kl_div(x, T([0.0, 1.0]), reduction="none"),
        [-INF, -0.25],
        [0, 0.25],
        [0, -1],
        [0, 0],
    ),
    "kl of logarithms": (
        lambda x: F.kl_div(x, T([0.0, -INF, -INF]), log_target=True, reduction="none"),
        [math.log(0.25), math.log(0.75), -INF],
        [math.log(4.0), 0, 0],
        [-1, 0, 0],
        [0] * 3,
    ),
    "cross entropy, label": (
        lambda x: F.cross_entropy(x, T([0])),
        [[1.0, -INF, -0.8]],
        -math.log(SHARE),
        [[SHARE - 1, 0, 1 - SHARE]],
        [[0] * 3],
    ),
    "cross entropy, shares": (
        lambda x: F.cross_entropy(x, T([[0.8, 0.0, 0.2]])),
        [[1.0, -INF, -0.8]],
        0.36 - math.log(SHARE),
        [[SHARE - 0.8, 0, 0.8 - SHARE]],
        [[0] * 3],
    ),
    "cross entropy, weights, smoothed": (  # 0.9 L - 0.8 x0 - 0.1 x2, L of the first and the last
        lambda x: F.cross_entropy(x, T([0]), T([1.0, 0.0, 1.0]), label_smoothing=0.3),
        [[1.0, -INF, -0.8]],
        0.18 - 0.9 * math.log(SHARE),
        [[0.9 * SHARE - 0.8, 0, 0.8 - 0.9 * SHARE]],
        [[0] * 3],
    ),
    "cross entropy, all smoothed": (  # the mean over the classes, and the label is one of them
        lambda x: F.cross_entropy(x, T([0]), label_smoothing=1.0),
        [[-INF, 0.0]],
        INF,
        None,
        None,
    ),
    "ignored logits": (
        lambda x: F.cross_entropy(x, T([0, 5]), ignore_index=5),
        [[1.0, 2.0], [NAN, INF]],
        -math.log(1 - SURE),
        [[-SURE, SURE], [0, 0]],
        [[0, 0], [0, 0]],
    ),
    "ignored, weighed": (
        lambda x: F.cross_entropy(x, T([0, 5]), T([3.0, 1.0]), ignore_index=5),
        [[1.0, 2.0], [NAN, INF]],
        -math.log(1 - SURE),
        [[-SURE, SURE], [0, 0]],
        [[0, 0], [0, 0]],
    ),
    "ignored scores": (
        lambda x: F.nll_loss(x, T([0, 5]), ignore_index=5),
        [[1.0, 2.0], [NAN, INF]],
        -1,
        [[-1, 0], [0, 0]],
        [[0, 0], [0, 0]],
    ),
}
DOUBLE = {
    "expm1": (tt.expm1, [-40.0], [math.expm1(-40.0)], [math.exp(-40.0)], [math.exp(-40.0)]),
    "sigmoid": (
        tt.sigmoid,
        [37.43, -40.0, -800.0],
        [1.0, math.exp(-40.0), 0.0],
        [P37, math.exp(-40.0), 0],
        [-P37, math.exp(-40.0), 0],
    ),
    "where sqrt": ROWS["where sqrt"],
}
CASES = [(name, row, np.float32) for name, row in ROWS.items()]
CASES += [(name + ", double", row, np.float64) for name, row in DOUBLE.items()]


def slope_of(function):
    return tt.grad(lambda x: function(x).sum())


def question(order: int):
    """All rows as one function of all inputs, and what each of them gives."""

    def ask(*inputs):
        found = []
        for (_, row, _), x in zip(CASES, inputs, strict=True):
            function = row[0]
            if order:
                function = slope_of(function)
            if order == 2:
                function = slope_of(function)
            found.append(function(x))
        return found

    return ask


def check(found, order: int) -> None:
    wrong = []
    for (name, row, kind), y in zip(CASES, found, strict=True):
        wanted = row[2 + order]
        if wanted is None:
            continue
        # a few roundings of each of up to ten operations; powers and exponentials up to 8 units
        units = 64 * np.finfo(kind).eps
        if not np.allclose(y.numpy(), np.array(wanted, kind), units, 2 * np.finfo(kind).tiny):
            wrong.append(f"{name}: {y.tolist()}, not {wanted}")
    assert not wrong, "\n".join(wrong)


def inputs() -> list[tt.Tensor]:
    return [T(np.array(row[1], kind)) for _, row, kind in CASES]


@pytest.mark.parametrize("order", [0, 1, 2])
def test_eager(order):
    """Ground truth: the closed form in the row."""
    check(question(order)(*inputs()), order)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("target", [t.name for t in targets()])
def test_compiled(target, order):
    """Ground truth: the closed form in the row."""
    check(tt.compile(question(order), target=target)(*inputs()), order)


def heads(*shape, seed):
    return np.random.default_rng(seed).standard_normal((1, 2, *shape)).astype(np.float32)


def attended(q, k, v):
    """The rows before the last, and their gradient for the queries."""
    y = tt.attention(q, k, v, causal=True)[:, :, :-1]
    return y, tt.grad(lambda q: (tt.attention(q, k, v, causal=True)[:, :, :-1] ** 2).sum())(q)


@pytest.mark.parametrize("bad", ["k", "v"])
@pytest.mark.parametrize(("queries", "keys", "size"), [(5, 5, 4), (33, 70, 20), (70, 33, 8)])
def test_what_causal_attention_hides_may_be_nan(queries, keys, size, bad):
    """Ground truth: the same with the last key (seen by the last query alone) as it was."""
    q, k, v = heads(queries, size, seed=0), heads(keys, size, seed=1), heads(keys, size, seed=2)
    wanted = attended(*map(T, (q, k, v)))
    spoiled = {"k": k.copy(), "v": v.copy()}
    spoiled[bad][:, :, -1] = [NAN, INF] * (size // 2)
    given = [T(x) for x in (q, spoiled["k"], spoiled["v"])]
    for ask in (attended, *(tt.compile(attended, target=t.name) for t in targets())):
        for y, z in zip(ask(*given), wanted, strict=True):
            # sums of at most 70 products of size 20, rounded: 100 units of the largest
            np.testing.assert_allclose(
                y.numpy()[:, :, : queries - 1], z.numpy()[:, :, : queries - 1], 1e-5, 1e-5
            )


@pytest.mark.parametrize("kind", ["bools", "floats"])
def test_what_a_mask_hides_from_all_may_be_nan(kind):
    """Ground truth: the same with hidden keys and values as they were; all three gradients."""
    q, k, v = (heads(5, 4, seed=i) for i in range(3))
    mask = np.array([True, True, True, False, False])
    mask = T(mask if kind == "bools" else np.where(mask, 0.0, -INF).astype(np.float32))

    def ask(q, k, v):
        def loss(q, k, v):
            return (F.scaled_dot_product_attention(q, k, v, mask.reshape(1, 5)) ** 2).sum()

        return tt.grad(loss, (0, 1, 2))(q, k, v)

    wanted = ask(*map(T, (q, k, v)))
    k[:, :, 3:], v[:, :, 3:] = NAN, INF
    for asked in (ask, tt.compile(ask)):
        for y, z in zip(asked(*map(T, (q, k, v))), wanted, strict=True):
            np.testing.assert_allclose(y.numpy(), z.numpy(), 1e-5, 1e-5)
