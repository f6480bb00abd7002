"""Layers, losses and models against PyTorch with copied weights, forward and gradient, float64.

Both sides sum in other orders: a few hundred terms of order 1 leave errors near 300 * 1e-16; 1e-10
is far below what any wrong formula would give.
"""

import inspect

import numpy as np
import pytest
import torch

import tinytorch as tt
from tinytorch import models, nn

pytestmark = pytest.mark.peer
CLOSE = {"rtol": 1e-10, "atol": 1e-10}
RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((3, 4, 7, 6))
WIDE = RNG.standard_normal((3, 5))
SIGNALS = RNG.standard_normal((3, 4, 9))
EVEN = RNG.standard_normal((3, 6))

PAIRS = {
    "Linear": (lambda: nn.Linear(5, 3), lambda: torch.nn.Linear(5, 3), WIDE),
    "Conv2d": (
        lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(2, 1), dilation=(1, 2), groups=2),
        lambda: torch.nn.Conv2d(4, 6, (3, 2), (2, 1), (2, 1), (1, 2), 2),
        IMAGES,
    ),
    "Conv2d same": (
        lambda: nn.Conv2d(4, 3, (2, 3), padding="same", dilation=2),
        lambda: torch.nn.Conv2d(4, 3, (2, 3), padding="same", dilation=2),
        IMAGES,
    ),
    "Conv1d": (
        lambda: nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2),
        lambda: torch.nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2),
        SIGNALS,
    ),
    "ConvTranspose2d": (
        lambda: nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 0), (1, 2), 2, dilation=(1, 2)),
        lambda: torch.nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), (1, 0), (1, 2), 2, dilation=(1, 2)),
        IMAGES,
    ),
    "MaxPool1d": (lambda: nn.MaxPool1d(3, 2, 1), lambda: torch.nn.MaxPool1d(3, 2, 1), SIGNALS),
    "AvgPool1d": (lambda: nn.AvgPool1d(3, 2, 1), lambda: torch.nn.AvgPool1d(3, 2, 1), SIGNALS),
    "AvgPool2d": (lambda: nn.AvgPool2d(3, 2, 1), lambda: torch.nn.AvgPool2d(3, 2, 1), IMAGES),
    "AvgPool2d side by side": (lambda: nn.AvgPool2d(2), lambda: torch.nn.AvgPool2d(2), IMAGES),
    "AvgPool2d own cells": (
        lambda: nn.AvgPool2d((3, 2), (2, 1), (1, 1), count_include_pad=False),
        lambda: torch.nn.AvgPool2d((3, 2), (2, 1), (1, 1), count_include_pad=False),
        IMAGES,
    ),
    "AdaptiveAvgPool2d": (
        lambda: nn.AdaptiveAvgPool2d((4, 3)), lambda: torch.nn.AdaptiveAvgPool2d((4, 3)), IMAGES,
    ),
    "AdaptiveAvgPool2d uneven": (
        lambda: nn.AdaptiveAvgPool2d((5, None)),
        lambda: torch.nn.AdaptiveAvgPool2d((5, None)),
        IMAGES,
    ),
    "MaxPool2d": (lambda: nn.MaxPool2d(3, 2, 1), lambda: torch.nn.MaxPool2d(3, 2, 1), IMAGES),
    "LayerNorm": (lambda: nn.LayerNorm((7, 6)), lambda: torch.nn.LayerNorm((7, 6)), IMAGES),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4), lambda: torch.nn.BatchNorm2d(4), IMAGES),
    "BatchNorm2d plain mean": (
        lambda: nn.BatchNorm2d(4, momentum=None),
        lambda: torch.nn.BatchNorm2d(4, momentum=None),
        IMAGES,
    ),
    "BatchNorm2d no statistics": (
        lambda: nn.BatchNorm2d(4, track_running_stats=False),
        lambda: torch.nn.BatchNorm2d(4, track_running_stats=False),
        IMAGES,
    ),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(5), lambda: torch.nn.BatchNorm1d(5), WIDE),
    "BatchNorm1d signals": (lambda: nn.BatchNorm1d(4), lambda: torch.nn.BatchNorm1d(4), SIGNALS),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), lambda: torch.nn.GroupNorm(2, 4), IMAGES),
    "RMSNorm": (lambda: nn.RMSNorm((7, 6)), lambda: torch.nn.RMSNorm((7, 6)), IMAGES),
    "GELU": (lambda: nn.GELU(), lambda: torch.nn.GELU(), WIDE),
    "GELU tanh": (lambda: nn.GELU("tanh"), lambda: torch.nn.GELU("tanh"), WIDE),
    "ReLU": (lambda: nn.ReLU(), lambda: torch.nn.ReLU(), WIDE),
    "Tanh": (lambda: nn.Tanh(), lambda: torch.nn.Tanh(), WIDE),
    "Sigmoid": (lambda: nn.Sigmoid(), lambda: torch.nn.Sigmoid(), WIDE),
    "Softmax": (lambda: nn.Softmax(1), lambda: torch.nn.Softmax(1), IMAGES),
    "Flatten": (lambda: nn.Flatten(), lambda: torch.nn.Flatten(), IMAGES),
    "Upsample": (
        lambda: nn.Upsample((2, 3)), lambda: torch.nn.Upsample(scale_factor=(2, 3)), IMAGES
    ),
    "Flatten two axes": (lambda: nn.Flatten(0, 1), lambda: torch.nn.Flatten(0, 1), IMAGES),
    "Unflatten": (
        lambda: nn.Unflatten(1, (2, 2)), lambda: torch.nn.Unflatten(1, (2, 2)), IMAGES
    ),
    "LogSoftmax": (lambda: nn.LogSoftmax(1), lambda: torch.nn.LogSoftmax(1), IMAGES),
    "LeakyReLU": (lambda: nn.LeakyReLU(0.1), lambda: torch.nn.LeakyReLU(0.1), WIDE),
    "PReLU": (lambda: nn.PReLU(4), lambda: torch.nn.PReLU(4), IMAGES),
    "ELU": (lambda: nn.ELU(0.5), lambda: torch.nn.ELU(0.5), WIDE),
    "Softplus": (lambda: nn.Softplus(2.0), lambda: torch.nn.Softplus(2.0), WIDE),
    "Hardtanh": (lambda: nn.Hardtanh(-0.5, 0.7), lambda: torch.nn.Hardtanh(-0.5, 0.7), WIDE),
    "GLU": (lambda: nn.GLU(), lambda: torch.nn.GLU(), EVEN),
} | {
    name: (getattr(nn, name), getattr(torch.nn, name), WIDE)
    for name in (
        "SiLU", "Mish", "LogSigmoid", "Softsign", "ReLU6", "Hardswish", "SELU", "Identity",
    )
}  # fmt: skip


def copied(ours, theirs) -> None:
    """Random weights into both, by PyTorch's names."""
    theirs.double()
    rng = np.random.default_rng(1)
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.from_numpy(rng.standard_normal(tuple(p.shape))))
    ours.to(tt.float64).load_state_dict({n: v.numpy() for n, v in theirs.state_dict().items()})


def weights_of(shape) -> np.ndarray:
    return np.random.default_rng(2).standard_normal(shape)


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
@pytest.mark.parametrize("training", [True, False])
def test_layer(pair, training):
    """Ground truth: PyTorch's layer of the same name: output, gradients, state afterwards."""
    make_ours, make_theirs, data = pair
    ours, theirs = make_ours(), make_theirs()
    copied(ours, theirs)
    ours.train(training)
    theirs.train(training)
    x, y = tt.Tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    for _ in range(2):  # twice: running statistics move
        a, b = ours(x), theirs(y)
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), **CLOSE)
    g = weights_of(a.shape)
    (a * tt.Tensor(g)).sum().backward()
    (b * torch.from_numpy(g)).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), **CLOSE)
    gradients = {n: p.grad for n, p in ours.named_parameters()}
    for name, p in theirs.named_parameters():
        np.testing.assert_allclose(gradients[name].numpy(), p.grad.numpy(), **CLOSE)
    for name, state in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[name].numpy(), state.numpy(), **CLOSE)


EDGES = np.array([-1e4, -6.0, -3.0, -1.0, -0.0, 0.0, 1.0, 3.0, 6.0, 1e4])


@pytest.mark.parametrize(
    "name",
    ["relu", "elu", "selu", "silu", "mish", "softplus", "logsigmoid", "softsign", "relu6", "gelu",
     "leaky_relu", "hardswish", "hardsigmoid", "hardtanh"],
)  # fmt: skip
def test_activation_at_its_edges(name):
    """Ground truth: PyTorch's function of the same name, at its corners and far from zero."""
    x, y = tt.Tensor(EDGES, requires_grad=True), torch.tensor(EDGES, requires_grad=True)
    a, b = getattr(nn.functional, name)(x), getattr(torch.nn.functional, name)(y)
    a.sum().backward()
    b.sum().backward()
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), **CLOSE)
    # PyTorch keeps the slope 1/6 in float32 even here
    close = {"rtol": 6e-8, "atol": 0} if name == "hardsigmoid" else CLOSE
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), **close)


@pytest.mark.parametrize(("p", "dim"), [(2.0, 1), (1.0, 0), (3.0, -1)])
def test_normalize(p, dim):
    """Ground truth: torch.nn.functional.normalize."""
    x, y = tt.Tensor(WIDE, requires_grad=True), torch.tensor(WIDE, requires_grad=True)
    a, b = nn.functional.normalize(x, p, dim), torch.nn.functional.normalize(y, p, dim)
    g = weights_of(WIDE.shape)
    (a * tt.Tensor(g)).sum().backward()
    (b * torch.from_numpy(g)).sum().backward()
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), **CLOSE)
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), **CLOSE)


# Tensor's own functions call their first argument x; interpolate's docstring says what differs.
OTHER_ARGUMENTS = {"relu", "sigmoid", "tanh", "softmax", "log_softmax", "max_pool1d", "max_pool2d",
                   "interpolate"}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(nn.functional.__all__) - OTHER_ARGUMENTS))
def test_functions_have_pytorchs_arguments_in_its_order(name):
    """Ground truth: the signature of torch.nn.functional's function of the same name, where Python
    can read it; what may be given by place stands at its place."""
    try:
        theirs = list(inspect.signature(getattr(torch.nn.functional, name)).parameters)
    except (AttributeError, ValueError):  # not PyTorch's, or written in C
        return
    ours = inspect.signature(getattr(nn.functional, name)).parameters
    by_place = [n for n, p in ours.items() if p.kind is not p.KEYWORD_ONLY]
    assert theirs[: len(by_place)] == by_place
    assert set(ours) <= set(theirs)


def test_embedding():
    """Ground truth: torch.nn.Embedding; an index twice adds its gradients up."""
    ours, theirs = nn.Embedding(6, 3), torch.nn.Embedding(6, 3)
    copied(ours, theirs)
    index = np.array([[0, 5, 5], [2, 0, 1]])
    a, b = ours(tt.Tensor(index)), theirs(torch.from_numpy(index))
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy())
    g = weights_of(a.shape)
    (a * tt.Tensor(g)).sum().backward()
    (b * torch.from_numpy(g)).sum().backward()
    np.testing.assert_allclose(ours.weight.grad.numpy(), theirs.weight.grad.numpy(), **CLOSE)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("ignore", [None, 2])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(6, 5), (3, 5, 2)])
def test_cross_entropy(smoothing, ignore, reduction, shape):
    """Ground truth: torch.nn.functional.cross_entropy, value and gradient."""
    logits = np.random.default_rng(3).standard_normal(shape) * 3
    labels = np.random.default_rng(4).integers(0, 5, (shape[0], *shape[2:]))
    x, y = tt.Tensor(logits, requires_grad=True), torch.tensor(logits, requires_grad=True)
    settings = {"reduction": reduction, "label_smoothing": smoothing}
    a = nn.functional.cross_entropy(x, tt.Tensor(labels), ignore_index=ignore, **settings)
    b = torch.nn.functional.cross_entropy(
        y, torch.from_numpy(labels), ignore_index=-100 if ignore is None else ignore, **settings
    )
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), **CLOSE)
    g = weights_of(a.shape)
    (a * tt.Tensor(g)).sum().backward()
    (b * torch.from_numpy(np.asarray(g))).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), **CLOSE)


def test_cross_entropy_against_probabilities():
    """Ground truth: torch.nn.functional.cross_entropy with class probabilities."""
    logits, target = weights_of((4, 5, 3)), np.random.default_rng(5).dirichlet(np.ones(5), (4, 3))
    target = np.moveaxis(target, -1, 1)
    a = nn.functional.cross_entropy(tt.Tensor(logits), tt.Tensor(target), label_smoothing=0.1)
    b = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits), torch.from_numpy(target), label_smoothing=0.1
    )
    assert a.item() == pytest.approx(b.item(), rel=1e-12)


@pytest.mark.parametrize("kind", ["plain", "causal", "bool mask", "float mask"])
def test_scaled_dot_product_attention(kind):
    """Ground truth: torch.nn.functional.scaled_dot_product_attention, T = S."""
    rng = np.random.default_rng(6)
    arrays = [rng.standard_normal((2, 3, 5, 4)) for _ in range(3)]
    mask = {"bool mask": rng.random((5, 5)) > 0.3, "float mask": rng.standard_normal((5, 5))}.get(
        kind
    )
    if kind == "bool mask":
        mask[:, 0] = True
    ours = [tt.Tensor(x, requires_grad=True) for x in arrays]
    theirs = [torch.tensor(x, requires_grad=True) for x in arrays]
    a = nn.functional.scaled_dot_product_attention(
        *ours, attn_mask=None if mask is None else tt.Tensor(mask), is_causal=kind == "causal"
    )
    b = torch.nn.functional.scaled_dot_product_attention(
        *theirs,
        attn_mask=None if mask is None else torch.from_numpy(mask),
        is_causal=kind == "causal",
    )
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), **CLOSE)
    g = weights_of(a.shape)
    (a * tt.Tensor(g)).sum().backward()
    (b * torch.from_numpy(g)).sum().backward()
    for x, y in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), **CLOSE)


class TorchBlock(torch.nn.Module):
    """A block of our GPT in PyTorch's layers, under our names."""

    def __init__(self, size, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = torch.nn.LayerNorm(size), torch.nn.LayerNorm(size)
        self.self_attn = torch.nn.Module()
        # Our names: those of torch.nn.MultiheadAttention.
        inward = torch.nn.Linear(size, 3 * size)
        self.self_attn.in_proj_weight, self.self_attn.in_proj_bias = inward.weight, inward.bias
        self.self_attn.out_proj = torch.nn.Linear(size, size)
        self.linear1, self.linear2 = (
            torch.nn.Linear(size, 4 * size),
            torch.nn.Linear(4 * size, size),
        )

    def forward(self, x):
        b, t, c = x.shape
        joint = torch.nn.functional.linear(
            self.norm1(x), self.self_attn.in_proj_weight, self.self_attn.in_proj_bias
        )
        q, k, v = joint.split(c, -1)
        q, k, v = (z.reshape(b, t, self.heads, -1).transpose(1, 2) for z in (q, k, v))
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.self_attn.out_proj(y.transpose(1, 2).reshape(b, t, c))
        return x + self.linear2(torch.nn.functional.gelu(self.linear1(self.norm2(x))))


class TorchGPT(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.tokens = torch.nn.Embedding(config.vocab, config.size)
        self.positions = torch.nn.Embedding(config.length, config.size)
        self.blocks = torch.nn.ModuleList(
            TorchBlock(config.size, config.heads) for _ in range(config.layers)
        )
        self.norm = torch.nn.LayerNorm(config.size)
        self.head = torch.nn.Linear(config.size, config.vocab, bias=False)

    def forward(self, tokens):
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def torch_cnn(widths, classes):
    layers, channels = [], 1
    for width in widths:
        for c in (channels, width):
            layers += [torch.nn.Conv2d(c, width, 3, padding=1, bias=False),
                       torch.nn.BatchNorm2d(width), torch.nn.ReLU()]  # fmt: skip
        layers.append(torch.nn.MaxPool2d(2))
        channels = width
    return torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(channels * 4, classes))


CONFIG = models.GPTConfig(vocab=11, layers=2, heads=2, size=8, length=6)
MODELS = {
    "MLP": (
        lambda: models.MLP([64, 9, 5]),
        lambda: torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(64, 9), torch.nn.ReLU(), torch.nn.Linear(9, 5)
        ),
        RNG.standard_normal((4, 1, 8, 8)),
    ),
    "CNN": (
        lambda: models.CNN(8, classes=5, widths=(3, 4)),
        lambda: torch_cnn((3, 4), 5),
        RNG.standard_normal((4, 1, 8, 8)),
    ),
    "GPT": (lambda: models.GPT(CONFIG), lambda: TorchGPT(CONFIG), RNG.integers(0, 11, (3, 5))),
}


@pytest.mark.parametrize("case", MODELS.values(), ids=MODELS.keys())
def test_model_with_copied_weights(case):
    """Ground truth: the same network in PyTorch's layers; logits and every gradient."""
    make_ours, make_theirs, data = case
    ours, theirs = make_ours().to(tt.float64), make_theirs().double()
    ours.load_state_dict({n: v.numpy() for n, v in by_our_names(ours, theirs.state_dict()).items()})
    a, b = ours(tt.Tensor(data)), theirs(torch.from_numpy(data))
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), **CLOSE)
    g = weights_of(a.shape)
    (a * tt.Tensor(g)).sum().backward()
    (b * torch.from_numpy(g)).sum().backward()
    found = {n: p.grad.numpy() for n, p in ours.named_parameters()}
    gradients = {n: p.grad for n, p in theirs.named_parameters()}
    for name, gradient in by_our_names(ours, gradients, buffers=False).items():
        np.testing.assert_allclose(found[name], gradient.numpy(), **CLOSE)


def by_our_names(ours, tensors: dict, buffers: bool = True) -> dict:
    """As they are if the names are ours; else renamed in order (Sequential numbers its parts)."""
    names = list(ours.state_dict()) if buffers else [n for n, _ in ours.named_parameters()]
    return (
        tensors if set(names) == set(tensors) else dict(zip(names, tensors.values(), strict=True))
    )
