"""Floats of different types: joined where PyTorch joins them, refused where PyTorch refuses them.

Every form is asked eagerly and compiled, and beside PyTorch itself.
"""

import numpy as np
import pytest
import torch

import tinytorch as tt
from tests.compiler.compiled import targets
from tinytorch import nn
from tinytorch.base.errors import DTypeError
from tinytorch.nn import functional as F

TARGETS = targets()
WAYS = [None, *TARGETS]
IDS = ["eager", *(t.name for t in TARGETS)]
PAIRS = [
    ("float64", "float32"), ("float32", "float64"), ("float16", "float32"),
    ("float32", "float16"), ("bfloat16", "float32"), ("float32", "bfloat16"),
]  # fmt: skip


def by(way, function):
    return function if way is None else tt.compile(function, target=way)


def numbers(*shape):
    return np.random.default_rng(len(shape)).uniform(0.1, 0.9, shape).astype("f4")


# name -> (library, functional, x of one type (4, 3), y of another (4, 3))
REFUSED = {
    "x @ y.T": lambda L, F, x, y: x @ y.T,
    "matmul of vectors": lambda L, F, x, y: L.matmul(x[0], y[0]),
    "dot": lambda L, F, x, y: L.dot(x[0], y[0]),
    "einsum": lambda L, F, x, y: L.einsum("ij,kj->ik", x, y),
    "tensordot": lambda L, F, x, y: L.tensordot(x, y.T, 1),
    "linear": lambda L, F, x, y: F.linear(x, y),
    "linear's bias": lambda L, F, x, y: F.linear(x, x, y[:, 0]),
    "linear of three axes": lambda L, F, x, y: F.linear(x[None], y, y[:, 0]),
    "conv1d": lambda L, F, x, y: F.conv1d(x[None], y[:, :, None].transpose(0, 1)),
    "conv2d": lambda L, F, x, y: F.conv2d(x[None, None], y[None, None]),
    "conv2d's bias": lambda L, F, x, y: F.conv2d(x[None, None], x[None, None], y[0, :1]),
    "conv_transpose2d": lambda L, F, x, y: F.conv_transpose2d(x[None, None], y[None, None]),
    "attention": lambda L, F, x, y: F.scaled_dot_product_attention(x[None], y[None], y[None]),
    "prelu": lambda L, F, x, y: F.prelu(x, y[0]),
}
# As above, but float32 beside a half input is what PyTorch takes: float32 parameters, and targets.
REFUSED_BUT_FOR_HALF = {
    "layer_norm": lambda L, F, x, y: F.layer_norm(x, (3,), y[0], y[0]),
    "layer_norm's bias": lambda L, F, x, y: F.layer_norm(x, (3,), None, y[0]),
    "group_norm": lambda L, F, x, y: F.group_norm(x[:, :, None], 3, y[0], y[0]),
    "batch_norm": lambda L, F, x, y: F.batch_norm(x, None, None, y[0], y[0], True),
    "binary_cross_entropy": lambda L, F, x, y: F.binary_cross_entropy(x, y),
    "weight of cross_entropy": lambda L, F, x, y: F.cross_entropy(x, (x * 0).argmax(1), y[0]),
}
JOINED = {
    "add": lambda L, F, x, y: x + y,
    "multiply": lambda L, F, x, y: x * y,
    "where": lambda L, F, x, y: L.where(x > 0.5, x, y),
    "maximum": lambda L, F, x, y: L.maximum(x, y),
    "cat": lambda L, F, x, y: L.cat([x, y]),
    "mse_loss": lambda L, F, x, y: F.mse_loss(x, y),
    "l1_loss": lambda L, F, x, y: F.l1_loss(x, y),
    "kl_div": lambda L, F, x, y: F.kl_div(x, y, reduction="batchmean"),
    "cross_entropy": lambda L, F, x, y: F.cross_entropy(x, y),
    "cosine_similarity": lambda L, F, x, y: F.cosine_similarity(x, y),
    # a Tensor without axes widens no other
    "0-d": lambda L, F, x, y: x * y.sum(),
    "0-d on the left": lambda L, F, x, y: y.sum() - x,
    "both 0-d": lambda L, F, x, y: x.sum() * y.sum(),
    "0-d in where": lambda L, F, x, y: L.where(x > 0.5, x, y.sum()),
    "0-d in maximum": lambda L, F, x, y: L.maximum(y.sum(), x),
    "0-d in clip": lambda L, F, x, y: L.clip(x, y.sum() * 0.1),
    "comparison": lambda L, F, x, y: x < y,
}


def ours(kind, array):
    return tt.Tensor(array).astype(kind)


def theirs(kind, array):
    return torch.tensor(array).to(getattr(torch, kind))


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("name", [*REFUSED, *REFUSED_BUT_FOR_HALF])
def test_products_and_layers_refuse_what_pytorch_refuses(name, pair):
    """Ground truth: PyTorch raises; here too, eagerly and while a program is recorded."""
    a, b = pair
    function = REFUSED.get(name) or REFUSED_BUT_FOR_HALF[name]
    if name in REFUSED_BUT_FOR_HALF and a in ("float16", "bfloat16"):
        return  # see the next test
    with pytest.raises((RuntimeError, ValueError)):
        torch_f = torch.nn.functional
        function(torch, torch_f, theirs(a, numbers(4, 3)), theirs(b, numbers(4, 3)))
    for way in (None, TARGETS[0]):
        with pytest.raises(DTypeError, match="floats of different types do not mix"):
            by(way, lambda x, y: function(tt, F, x, y))(
                ours(a, numbers(4, 3)), ours(b, numbers(4, 3))
            )


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_norms_take_float32_parameters_beside_half_inputs(way, half):
    """Ground truth: PyTorch: the result has the type of the input; 2 steps of it, since PyTorch
    rounds before it scales."""
    names = [n for n in REFUSED_BUT_FOR_HALF if "norm" in n]

    def everything(x, y):
        return [REFUSED_BUT_FOR_HALF[n](tt, F, x, y) for n in names]

    outs = by(way, everything)(ours(half, numbers(4, 3)), ours("float32", numbers(4, 3)))
    for name, mine in zip(names, outs, strict=True):
        if name == "layer_norm's bias":
            continue  # PyTorch wants both or none
        peer = REFUSED_BUT_FOR_HALF[name](
            torch,
            torch.nn.functional,
            theirs(half, numbers(4, 3)),
            theirs("float32", numbers(4, 3)),
        )
        assert mine.dtype.name == half == str(peer.dtype).split(".")[1]
        step = 2.0**-10 if half == "float16" else 2.0**-7
        np.testing.assert_allclose(
            mine.float().numpy(), peer.float().numpy(), rtol=2 * step, atol=2 * step
        )


@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_elementwise_operations_and_losses_join_as_in_pytorch(way):
    """Ground truth: PyTorch's result types, all pairs; values to the coarser type's step."""

    def everything(*xs):
        pairs = zip(xs[::2], xs[1::2], strict=True)
        return [f(tt, F, x, y) for x, y in pairs for f in JOINED.values()]

    given = [ours(kind, numbers(4, 3)) for pair in PAIRS for kind in pair]
    outs = iter(by(way, everything)(*given))
    for a, b in PAIRS:
        for name, function in JOINED.items():
            peer = function(
                torch, torch.nn.functional, theirs(a, numbers(4, 3)), theirs(b, numbers(4, 3))
            )
            mine = next(outs)
            assert mine.dtype.name == str(peer.dtype).split(".")[1], (name, a, b)
            step = 2.0**-7 if "bfloat16" in (a, b) else 2.0**-10 if "float16" in (a, b) else 2e-6
            np.testing.assert_allclose(
                mine.astype("float64").numpy(), peer.double().numpy(), rtol=4 * step, atol=step
            )


@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_integers_join_floats_and_promote_with_and_without_axes(way):
    """Stated: integers become the float they meet, in products too; 0-d integers promote like all
    others (NumPy, the array API), since what they hold might not fit."""

    def everything(i, small, point):
        f = tt.ones(3)
        return [
            i @ f,
            F.linear(i, tt.ones(2, 3)),
            i * 0.5,
            small + point,
            i + tt.ones((), dtype=tt.float64),
        ]

    i, small = tt.arange(3), tt.Tensor(np.array([1, 2, 3], np.uint8))
    outs = by(way, everything)(i, small, tt.tensor(300))
    kinds = ["float32", "float32", "float32", "int64", "float64"]
    assert [o.dtype.name for o in outs] == kinds
    assert outs[3].tolist() == [301, 302, 303] and outs[0].item() == 3.0


@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_integers_are_no_reason_to_lose_the_fractions_beside_them(way):
    """Ground truth: the same in float32. Before, targets, weights and windows became integers."""

    def everything(scores, labels, target, image):
        return [
            F.binary_cross_entropy_with_logits(scores, target),
            F.binary_cross_entropy(scores.clip(0, 1), target),
            F.nll_loss(scores, labels, tt.Tensor([0.5, 0.25])),
            F.adaptive_avg_pool2d(image, 3),
        ]

    scores, image = np.array([[1, 0], [-2, 3]]), np.arange(49).reshape(1, 1, 7, 7)
    rest = (tt.tensor([0, 1]), tt.Tensor([[0.3, 0.5], [0.75, 0.1]]))
    whole = by(way, everything)(tt.Tensor(scores), *rest, tt.Tensor(image))
    truth = everything(tt.Tensor(scores).float(), *rest, tt.Tensor(image).float())
    for mine, wanted in zip(whole, truth, strict=True):
        assert mine.dtype is tt.float32
        np.testing.assert_allclose(mine.numpy(), wanted.numpy(), rtol=1e-6)


def test_result_type_counts_axes():
    """Ground truth: torch.result_type."""
    for a, b in PAIRS:
        for p, q in (((2,), ()), ((), (2,)), ((), ()), ((2,), (2,))):
            x, y = tt.zeros(p, dtype=a), tt.zeros(q, dtype=b)
            peer = torch.result_type(
                torch.zeros(p, dtype=getattr(torch, a)), torch.zeros(q, dtype=getattr(torch, b))
            )
            assert tt.result_type(x, y).name == str(peer).split(".")[1]


def test_layers_say_what_to_type():
    """Ground truth: the message's four parts, and that its cure cures."""
    layer = nn.Linear(3, 2)
    x = tt.Tensor(np.ones((4, 3)))
    with pytest.raises(DTypeError) as caught:
        layer(x)
    assert "input of float64, weight of float32" in caught.value.got
    assert caught.value.fix.startswith("input.to(weight.dtype)")
    with pytest.raises(DTypeError) as caught:
        F.linear(tt.ones(4, 3), tt.ones(2, 3), tt.ones(2, dtype="float64"))
    assert caught.value.fix.startswith("bias.to(input.dtype)")
    assert layer(x.to(layer.weight.dtype)).dtype is tt.float32
    assert layer.to(x.dtype)(x).dtype is tt.float64


def test_a_precision_mode_rounds_all_to_one_type():
    """Ground truth: PyTorch's autocast, which takes bfloat16 beside float32, and no float64."""
    x, w = tt.ones(2, 3, dtype="bfloat16"), tt.ones(4, 3)
    with tt.precision("bf16"):
        assert F.linear(x, w).dtype is tt.float32
        with pytest.raises(DTypeError, match="do not mix"):
            F.linear(x.astype("float64"), w)
