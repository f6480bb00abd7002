"""Attention, transformer blocks, recurrent layers and losses against PyTorch, weights copied."""

import numpy as np
import pytest
import torch

import tinytorch as tt
from tinytorch import nn

pytestmark = pytest.mark.peer
# float64: each number is a sum of at most a few hundred products, each off by 1e-16 of its size.
CLOSE = {"rtol": 1e-10, "atol": 1e-12}
RNG = np.random.default_rng(8)


def loaded(ours, theirs):
    """Our layer with the weights of theirs, by the same names; both in float64."""
    ours, theirs = ours.to(tt.float64), theirs.double()
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    return ours, theirs


def agree(ours, theirs, a, b, xs, ys):
    """Outputs, gradients of inputs and of every weight, for the same cotangent."""
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), **CLOSE)
    g = np.random.default_rng(9).standard_normal(tuple(a.shape))
    (a * tt.Tensor(g)).sum().backward()
    (b * torch.from_numpy(g)).sum().backward()
    for x, y in zip(xs, ys, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), **CLOSE)
    found = {name: p.grad for name, p in ours.named_parameters()}
    for name, p in theirs.named_parameters():
        np.testing.assert_allclose(found[name].numpy(), p.grad.numpy(), err_msg=name, **CLOSE)


def inputs(*shapes):
    arrays = [RNG.standard_normal(shape) for shape in shapes]
    return (
        [tt.Tensor(x, requires_grad=True) for x in arrays],
        [torch.tensor(x, requires_grad=True) for x in arrays],
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["self", "causal", "cross", "other sizes", "padded", "added"])
def test_multi_head_attention(kind, bias):
    """Ground truth: torch.nn.MultiheadAttention; its masks say who is hidden, ours who sees."""
    sizes = {"kdim": 5, "vdim": 3} if kind == "other sizes" else {}
    shapes = {"cross": ((2, 5, 8), (2, 4, 8), (2, 4, 8)),
              "other sizes": ((2, 5, 8), (2, 4, 5), (2, 4, 3))}.get(kind, ((2, 5, 8),))  # fmt: skip
    ours, theirs = loaded(
        nn.MultiHeadAttention(8, 2, bias=bias, causal=kind == "causal", **sizes),
        torch.nn.MultiheadAttention(8, 2, bias=bias, batch_first=True, **sizes),
    )
    xs, ys = inputs(*shapes)
    padding = np.array([[True] * 5, [True, True, True, False, False]])
    added = RNG.standard_normal((5, 5))
    mask = {"padded": padding[:, None, :], "added": added}.get(kind)
    a = ours(*xs, mask=None if mask is None else tt.Tensor(mask))
    hidden = {"causal": torch.triu(torch.ones(5, 5, dtype=torch.bool), 1),
              "added": torch.from_numpy(added)}.get(kind)  # fmt: skip
    b, _ = theirs(
        *(ys * 3 if len(ys) == 1 else ys), attn_mask=hidden,
        key_padding_mask=torch.from_numpy(~padding) if kind == "padded" else None,
    )  # fmt: skip
    agree(ours, theirs, a, b, xs, ys)


def test_grouped_queries():
    """Ground truth: torch's scaled_dot_product_attention with enable_gqa, causal."""
    arrays = [RNG.standard_normal(s) for s in ((2, 6, 5, 4), (2, 2, 5, 4), (2, 2, 5, 4))]
    a = nn.functional.scaled_dot_product_attention(
        *map(tt.Tensor, arrays), is_causal=True, enable_gqa=True
    )
    b = torch.nn.functional.scaled_dot_product_attention(
        *map(torch.from_numpy, arrays), is_causal=True, enable_gqa=True
    )
    np.testing.assert_allclose(a.numpy(), b.numpy(), **CLOSE)


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("cross", [False, True])
def test_transformer_block(cross, norm_first):
    """Ground truth: torch's TransformerEncoderLayer and TransformerDecoderLayer, no dropout."""
    ours = nn.TransformerBlock(8, 2, hidden=12, cross=cross, norm_first=norm_first)
    kind = torch.nn.TransformerDecoderLayer if cross else torch.nn.TransformerEncoderLayer
    theirs = kind(8, 2, 12, dropout=0.0, activation="gelu", batch_first=True, norm_first=norm_first)
    ours, theirs = loaded(ours, theirs)
    xs, ys = inputs(*(((2, 5, 8), (2, 3, 8)) if cross else ((2, 5, 8),)))
    agree(ours, theirs, ours(*xs), theirs(*ys), xs, ys)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"num_layers": 2, "bidirectional": True, "batch_first": True}, {"bias": False}],
    ids=["plain", "deep, both ways, batch first", "no bias"],
)
@pytest.mark.parametrize("given", [False, True])
def test_recurrent(name, settings, given):
    """Ground truth: torch.nn.LSTM, GRU and RNN: outputs, last states, every gradient."""
    ours, theirs = loaded(
        getattr(nn, name)(3, 4, **settings), getattr(torch.nn, name)(3, 4, **settings)
    )
    xs, ys = inputs((2, 5, 3))
    layers = settings.get("num_layers", 1) * (2 if "bidirectional" in settings else 1)
    shape = (layers, 2 if "batch_first" in settings else 5, 4)
    first = [RNG.standard_normal(shape) for _ in range(2 if name == "LSTM" else 1)]
    states = [None, None]
    if given:
        both = ([tt.Tensor(x) for x in first], [torch.from_numpy(x) for x in first])
        states = [tuple(s) if name == "LSTM" else s[0] for s in both]
    (a, last_a), (b, last_b) = ours(*xs, states[0]), theirs(*ys, states[1])
    last_a, last_b = (s if isinstance(s, tuple) else (s,) for s in (last_a, last_b))
    for s, t in zip(last_a, last_b, strict=True):
        np.testing.assert_allclose(s.detach().numpy(), t.detach().numpy(), **CLOSE)
    agree(ours, theirs, a, b, xs, ys)


def test_recurrent_without_a_batch():
    """Ground truth: torch.nn.LSTM of (T, C)."""
    ours, theirs = loaded(nn.LSTM(3, 4), torch.nn.LSTM(3, 4))
    (x,), (y,) = inputs((5, 3))
    a, (h, c) = ours(x)
    b, (p, q) = theirs(y)
    for s, t in ((a, b), (h, p), (c, q)):
        np.testing.assert_allclose(s.detach().numpy(), t.detach().numpy(), **CLOSE)


def test_embedding_with_padding():
    """Ground truth: torch.nn.Embedding(padding_idx): that row starts at 0 and gets no gradient."""
    ours, theirs = loaded(
        nn.Embedding(6, 3, padding_idx=1), torch.nn.Embedding(6, 3, padding_idx=1)
    )
    assert not nn.Embedding(6, 3, padding_idx=1).weight[1].detach().numpy().any()
    index = np.array([[0, 1, 5], [1, 0, 5]])
    agree(ours, theirs, ours(tt.Tensor(index)), theirs(torch.from_numpy(index)), [], [])


CLASSES = RNG.uniform(0.1, 2.0, 5)
LOSSES = {
    "MSELoss": ({}, "real", "real"),
    "L1Loss": ({}, "real", "real"),
    "HuberLoss": ({"delta": 0.6}, "real", "real"),
    "SmoothL1Loss": ({"beta": 0.6}, "real", "real"),
    "CrossEntropyLoss": ({}, "real", "labels"),
    "CrossEntropyLoss all": (
        {"weight": CLASSES, "ignore_index": 2, "label_smoothing": 0.3}, "real", "labels"
    ),
    "CrossEntropyLoss shares": ({"weight": CLASSES, "label_smoothing": 0.3}, "real", "shares"),
    "NLLLoss": ({"weight": CLASSES, "ignore_index": 2}, "logs", "labels"),
    "BCEWithLogitsLoss": ({"weight": CLASSES, "pos_weight": CLASSES[::-1]}, "real", "shares"),
    "BCELoss": ({"weight": CLASSES}, "shares", "shares"),
    "KLDivLoss": ({}, "logs", "shares"),
    "KLDivLoss logs": ({"log_target": True}, "logs", "logs"),
}  # fmt: skip
DATA = {
    "real": lambda seed: np.random.default_rng(seed).standard_normal((6, 5)) * 3,
    "labels": lambda seed: np.random.default_rng(seed).integers(0, 5, 6),
    "shares": lambda seed: np.random.default_rng(seed).dirichlet(np.ones(5), 6),
    "logs": lambda seed: np.log(np.random.default_rng(seed).dirichlet(np.ones(5), 6)),
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.filterwarnings("ignore:reduction:UserWarning")  # of torch's kl_div, about its "mean"
@pytest.mark.parametrize("case", LOSSES.items(), ids=LOSSES.keys())
def test_losses(case, reduction):
    """Ground truth: the class of the same name in torch.nn: value and gradient."""
    name, (settings, x, y) = case
    name = name.split()[0]
    x, y = DATA[x](1), DATA[y](2)
    theirs = {
        k: torch.tensor(v.copy()) if isinstance(v, np.ndarray) else v for k, v in settings.items()
    }
    p, q = tt.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    a = getattr(nn, name)(reduction=reduction, **settings)(p, tt.Tensor(y))
    b = getattr(torch.nn, name)(reduction=reduction, **theirs)(q, torch.tensor(y))
    agree(nn.Identity(), torch.nn.Identity(), a, b, [p], [q])


def test_batchmean():
    """Ground truth: torch.nn.KLDivLoss."""
    x, y = DATA["logs"](1), DATA["shares"](2)
    a = nn.KLDivLoss("batchmean")(tt.Tensor(x), tt.Tensor(y)).item()
    b = torch.nn.KLDivLoss(reduction="batchmean")(torch.tensor(x), torch.tensor(y)).item()
    assert a == pytest.approx(b, rel=1e-12)


def test_first_values_have_pytorchs_spread():
    """Ground truth: the bounds of torch.nn.MultiheadAttention's and LSTM's first weights.

    The largest of 3 * 64 * 64 numbers spread evenly in +-b lies within b / 1000 of b.
    """
    tt.manual_seed(0)
    torch.manual_seed(0)
    pairs = [
        (nn.MultiHeadAttention(64, 4), torch.nn.MultiheadAttention(64, 4)),
        (nn.LSTM(64, 64), torch.nn.LSTM(64, 64)),
    ]
    for ours, theirs in pairs:
        for name, value in theirs.state_dict().items():
            a, b = ours.state_dict()[name].numpy(), value.numpy()
            assert np.abs(a).max() == pytest.approx(np.abs(b).max(), rel=0.03), name


@pytest.mark.parametrize("rule", ["SGD", "Adam"])
def test_sparse_updates(rule):
    """Ground truth: torch.nn.Embedding(sparse=True) under SGD and SparseAdam, ten steps.

    SparseAdam adds eps before the correction of the averages, Adam after it: here it is 1e-30.
    """
    ours, theirs = loaded(nn.Embedding(9, 3, sparse=True), torch.nn.Embedding(9, 3, sparse=True))
    if rule == "SGD":
        a = tt.optim.SGD(ours.parameters(), lr=0.1)
        b = torch.optim.SGD(theirs.parameters(), lr=0.1)
    else:
        a = tt.optim.Adam(ours.parameters(), lr=0.1, eps=1e-30)
        b = torch.optim.SparseAdam(list(theirs.parameters()), lr=0.1, eps=1e-30)
    rng = np.random.default_rng(5)
    for _ in range(10):
        tokens, g = rng.integers(0, 9, (2, 4)), rng.standard_normal((2, 4, 3))
        a.zero_grad()
        b.zero_grad()
        (ours(tt.Tensor(tokens)) * tt.Tensor(g)).sum().backward()
        (theirs(torch.from_numpy(tokens)) * torch.from_numpy(g)).sum().backward()
        a.step()
        b.step()
    np.testing.assert_allclose(
        ours.weight.detach().numpy(), theirs.weight.detach().numpy(), **CLOSE
    )
