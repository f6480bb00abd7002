"""Channels really removed: what belongs together, the same answers, fewer numbers."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import compression, nn
from tinytorch.base.errors import GradientError, SettingError, ShapeError
from tinytorch.compression.channels import _Weights
from tinytorch.compression.recorded import inputs_of
from tinytorch.models import (
    BERT,
    CNN,
    GPT,
    MLP,
    BERTConfig,
    CifarResNet,
    GPTConfig,
    LeNet,
    ResNet,
    VisionTransformer,
)
from tinytorch.nn import functional as F


def numbers(*shape, seed=0):
    return tt.Tensor(np.random.default_rng(seed).standard_normal(shape, np.float32))


def tokens(b=2, t=7):
    return tt.Tensor(np.random.default_rng(0).integers(0, 65, (b, t)))


class Odd(nn.Module):
    """Depthwise and grouped convolutions, a concatenation, a transposed one, a gate, GroupNorm."""

    def __init__(self):
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 16, 3, padding=1, groups=8, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.beside = nn.Conv2d(8, 6, 1)
        self.joined = nn.Conv2d(22, 12, 1)
        self.groups = nn.GroupNorm(4, 12)
        self.grouped = nn.Conv2d(12, 8, 3, groups=4)
        self.up = nn.ConvTranspose2d(8, 10, 2, stride=2)
        self.pool = nn.AvgPool2d(2)
        self.last = nn.Linear(10 * 36, 5)
        self.gate = nn.Linear(5, 20)
        self.out = nn.Linear(10, 2)

    def forward(self, x):
        x = F.relu(self.first(x))
        y = tt.cat([F.relu(self.norm(self.depthwise(x))), self.beside(x)], 1)
        z = self.grouped(F.relu(self.groups(self.joined(y))))
        z = self.pool(tt.flip(self.up(z), 1))
        gate = self.gate(F.tanh(self.last(z.flatten(1))))
        half = gate.shape[1] // 2
        return self.out(gate[:, :half] * F.sigmoid(gate[:, half:]))


def llama(**settings):
    return GPT(
        GPTConfig(
            65, layers=2, heads=4, size=32, length=16, kv_heads=2, positions="rotary", norm="rms",
            mlp="swiglu", bias=False, **settings,
        )
    )  # fmt: skip


MODELS = {
    "mlp": (lambda: MLP([20, 16, 8, 4]), lambda: numbers(3, 4, 5)),
    "lenet": (LeNet, lambda: numbers(2, 1, 28, 28)),
    "cnn": (lambda: CNN(8, 3, widths=(8, 8)), lambda: numbers(2, 3, 8, 8)),
    "cifar resnet": (lambda: CifarResNet(2, width=8), lambda: numbers(2, 3, 8, 8)),
    "resnet": (lambda: ResNet([1, 1, 1, 1], width=4, classes=5), lambda: numbers(2, 3, 32, 32)),
    "bottlenecks": (
        lambda: ResNet([1, 2, 1, 1], True, width=4, classes=5), lambda: numbers(1, 3, 32, 32),
    ),
    "vit": (
        lambda: VisionTransformer(8, 4, 16, depth=2, heads=4), lambda: numbers(2, 3, 8, 8),
    ),
    "gpt": (lambda: GPT(GPTConfig(65, layers=2, heads=4, size=32, length=8)), tokens),
    "llama": (llama, tokens),
    "tied": (
        lambda: GPT(GPTConfig(65, layers=1, heads=4, size=32, length=8, tied=True)), tokens,
    ),
    "bert": (lambda: BERT(BERTConfig(65, layers=1, heads=4, size=32, length=8)), tokens),
    "odd": (Odd, lambda: numbers(2, 3, 8, 8)),
}  # fmt: skip

COMPILED = ("mlp", "llama", "odd")  # a program takes a second to make


def made(name):
    tt.manual_seed(2)
    make, example = MODELS[name]
    model, draw = make().eval(), np.random.default_rng(1)
    for p in model.parameters():  # numbers that tell: first weights of 0.02 and biases of 0 do not
        scale = 1.0 if len(p.shape) == 1 else (2.0 / p.shape[-1]) ** 0.5
        p.data = tt.Tensor((draw.standard_normal(p.shape) * scale).astype(np.float32))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            shape = module.running_mean.shape
            module.running_mean.assign_(tt.Tensor(draw.normal(0, 1, shape).astype(np.float32)))
    return model, example()


@pytest.mark.parametrize("name", MODELS)
def test_answers_without_channels_are_those_with_zeros(name):
    """Invariant: channels whose weights are zero add nothing, so the smaller model answers alike
    (`prune_channels` checks itself too, against zeros put there; here the model has them before).
    It really is smaller, in weights, bytes and operations, compiled too."""
    model, x = made(name)
    weights = _Weights(model, inputs_of("test", x))
    removed = weights.removed({"": 0.5}, "l1")
    for (n, axis), places in removed.items():
        if weights.made(n, axis):
            array = weights.tensors[n].numpy().copy()
            array[(slice(None),) * axis + (list(places),)] = 0.0
            weights.tensors[n].data = tt.Tensor(array)
    small = compression.prune_channels(model, x, 0.5)
    with tt.no_grad():
        right = model(x)
        found = [small(x)]
        if name in COMPILED:
            found.append(tt.compile(small)(x))
    right, *found = ((t[0] if isinstance(t, tuple) else t).numpy() for t in (right, *found))
    size = np.abs(right).max()
    for answer, error in zip(found, (1e-5, 1e-4), strict=False):
        np.testing.assert_allclose(answer, right, rtol=0, atol=error * size)
    assert compression.bytes_of(small) < 0.9 * compression.bytes_of(model)
    assert compression.flops_of(small, x) < 0.9 * compression.flops_of(model, x)
    assert sum(p.size for p in small.parameters()) < sum(p.size for p in model.parameters())


def test_what_is_coupled_in_a_residual_network():
    """Ground truth: by hand. Channels of a stage go with those of every block's second layer; those
    between a block's two layers alone; what a shortcut pads stays."""
    model = CifarResNet(2, width=8)
    kinds = {
        frozenset(w.names[n] for n, _ in kind): len(several)
        for w in [_Weights(model, (numbers(1, 3, 8, 8),))]
        for kind, several in w.kinds.items()
    }
    inner = [f"layer{s}.{b}" for s in (1, 2, 3) for b in (0, 1)]
    for name in inner:
        kind = next(k for k in kinds if f"{name}.bn1.weight" in k)
        assert kind == {
            f"{name}.conv1.weight", f"{name}.conv2.weight",
            *(f"{name}.bn1.{x}" for x in ("weight", "bias", "running_mean", "running_var")),
        }  # fmt: skip
    stream = next(k for k in kinds if "bn1.weight" in k)
    assert {"conv1.weight", "layer1.1.bn2.weight", "layer2.0.bn2.weight", "linear.weight"} <= stream
    assert kinds[stream] == 8 and len(kinds) >= len(inner) + 1


def test_heads_go_whole_with_the_queries_that_share_them():
    """Ground truth: by hand: of 4 heads that share 2, one shared pair goes, with 2 of queries."""
    model, x = made("llama")
    small = compression.prune_channels(model, x, {"blocks.1.self_attn": 0.5})
    layer, whole = small.blocks[1].self_attn, small.blocks[0].self_attn
    assert (layer.num_heads, layer.kv_heads, layer.head_size) == (2, 1, 8)
    assert layer.in_proj_weight.shape == (32, 32) and layer.out_proj.weight.shape == (32, 16)
    assert (whole.num_heads, whole.kv_heads) == (4, 2)
    assert small.blocks[1].linear1.weight.shape == model.blocks[1].linear1.weight.shape
    cache = small.new_cache(batch=2, length=16)
    with tt.no_grad():
        right = small(x).numpy()
        parts = [small(x[:, i : i + 1], cache).numpy() for i in range(x.shape[1])]
    np.testing.assert_allclose(np.concatenate(parts, 1), right, rtol=0, atol=1e-4)


def test_grouped_sizes_follow():
    """Ground truth: by hand: of 8 channels 4 go, each with 2 depthwise ones; of 4 groups 2."""
    model, x = made("odd")
    small = compression.prune_channels(model, x, 0.5)
    assert (small.depthwise.groups, small.depthwise.out_channels) == (4, 8)
    assert (small.grouped.groups, small.grouped.in_channels, small.grouped.out_channels) == (
        2,
        6,
        4,
    )
    assert (small.groups.num_groups, small.groups.num_channels) == (2, 6)
    assert (small.up.in_channels, small.up.out_channels) == (4, 5)
    assert small.joined.weight.shape == (6, 11, 1, 1) and small.gate.weight.shape == (10, 3)
    assert small.out.weight.shape == (2, 5)


def scores(importance, ratio, **settings):
    model = nn.Sequential(nn.Conv2d(1, 3, 1, bias=False), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1))
    model[0].weight.data = tt.Tensor(np.array([3.0, -1.0, 2.0], np.float32).reshape(3, 1, 1, 1))
    model[1].weight.data = tt.Tensor([1.0, 2.0, 0.5])
    if importance == "taylor":
        for p in model.parameters():
            p.grad = tt.ones(*p.shape) * 0.0
        model[0].weight.grad = tt.Tensor(np.array([0.1, 5.0, 5.0], np.float32).reshape(3, 1, 1, 1))
    small = compression.prune_channels(model.eval(), numbers(1, 1, 4, 4), ratio,
                                       importance=importance)  # fmt: skip
    return small[0].weight.numpy().ravel().tolist()


def test_the_least_important_go():
    """Closed form: |w| 3, 1, 2; w^2 9, 1, 4; scales 1, 2, 0.5; (w g)^2 0.09, 25, 100."""
    assert scores("l1", 0.34) == [3.0, 2.0]
    assert scores("l2", 0.67) == [3.0]
    assert scores("bn_scale", 0.34) == [3.0, -1.0]
    assert scores("taylor", 0.34) == [-1.0, 2.0]


@pytest.mark.parametrize("name", ["cifar resnet", "llama", "odd"])
def test_saved_and_loaded(name):
    """Ground truth: the pruned model, to the last bit; its sizes, from the shapes alone."""
    model, x = made(name)
    small = compression.prune_channels(model, x, 0.5)
    again = compression.load_compressed(MODELS[name][0]().eval(), small.state_dict())
    assert repr(again) == repr(small)
    with tt.no_grad():
        np.testing.assert_array_equal(again(x).numpy(), small(x).numpy())


def test_a_pruned_model_is_trained_on():
    """Invariant: a step lowers the loss; the model that is given has not changed."""
    model, x = made("cnn")
    before = {name: t.numpy().copy() for name, t in model.state_dict().items()}
    small = compression.prune_channels(model, x, 0.25).train()
    optimizer, target = tt.optim.SGD(small.parameters(), lr=1e-3), tt.Tensor(np.array([1, 2]))
    losses = []
    for _ in range(3):
        loss = F.cross_entropy(small(x), target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[2] < losses[0]
    for name, t in model.state_dict().items():
        np.testing.assert_array_equal(t.numpy(), before[name])


class Stubborn(nn.Module):
    """Reads the first 3 of 8 features, whatever they are."""

    def __init__(self):
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)
        self.beside = nn.Linear(3, 2)

    def forward(self, x):
        y = self.first(x)
        return self.last(y) + self.beside(y[:, :3])


def test_what_the_example_does_not_reach_stays():
    """Ground truth: places of a longer text, and the other kind of segment, are not channels."""
    for name in ("gpt", "bert"):
        model, x = made(name)
        small = compression.prune_channels(model, x[:, :3], 0.5)
        assert small.positions.weight.shape == model.positions.weight.shape
        with tt.no_grad():
            assert len(small(x).shape) == 3
    assert small.segments.weight.shape == (2, 32)


def test_bad_input_is_named():
    """Ground truth: what cannot be done is said, and never done halfway."""
    model, x = nn.MLP([4, 6, 2]), numbers(3, 4)
    for ratio in (1.0, -0.1, float("nan"), "half"):
        with pytest.raises(SettingError, match="ratio is outside its range"):
            compression.prune_channels(model, x, ratio)
    with pytest.raises(SettingError, match="nothing in this model that can be removed"):
        compression.prune_channels(nn.Linear(4, 2), x, 0.5)
    with pytest.raises(SettingError, match="nothing in this model that can be removed"):
        compression.prune_channels(nn.ReLU(), x, 0.5)
    with pytest.raises(SettingError, match="no such part"):
        compression.prune_channels(model, x, {"layers.7": 0.5})
    with pytest.raises(SettingError, match="makes nothing that can be removed"):
        compression.prune_channels(model, x, {"layers.1": 0.5})
    with pytest.raises(SettingError, match="no batch norm says"):
        compression.prune_channels(model, x, 0.5, importance="bn_scale")
    with pytest.raises(GradientError, match="no gradient that says"):
        compression.prune_channels(model, x, 0.5, importance="taylor")
    with pytest.raises(SettingError, match="importance"):
        compression.prune_channels(model, x, 0.5, importance="size")
    tt.manual_seed(0)
    with pytest.raises(ShapeError, match="cannot do without its channels"):
        compression.prune_channels(Stubborn(), numbers(3, 4), 0.75)


def test_of_nothing_the_last_part_goes():
    """Invariant: at 0.99 every layer keeps a channel."""
    small = compression.prune_channels(nn.MLP([4, 6, 5, 2]), numbers(3, 4), 0.99)
    assert [layer.weight.shape for layer in small.layers] == [(1, 4), (1, 1), (2, 1)]
