"""Pruned weights: which ones, that they stay so, the schedule, and their bytes."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import compression, nn, storage
from tinytorch.base.errors import ArgumentTypeError, SettingError
from tinytorch.compression.prune import Pruning, scheduled_sparsity
from tinytorch.models import BERT, CNN, GPT, BERTConfig, CifarResNet, GPTConfig, VisionTransformer
from tinytorch.nn.weight_forms import MaskedWeight, SparseWeight
from tinytorch.training import Trainer
from tinytorch.training.history import Silent


def tokens():
    return tt.Tensor(np.random.default_rng(0).integers(0, 65, (2, 7)))


def images(*shape):
    return tt.Tensor(np.random.default_rng(0).standard_normal(shape, np.float32))


MODELS = {
    "mlp": (lambda: nn.MLP([20, 40, 10]), lambda: images(3, 20)),
    "cnn": (lambda: CNN(8, 3, widths=(8, 16)), lambda: images(2, 3, 8, 8)),
    "resnet": (lambda: CifarResNet(1, width=8), lambda: images(2, 3, 8, 8)),
    "vit": (lambda: VisionTransformer(8, 4, 32, depth=1, heads=4), lambda: images(2, 3, 8, 8)),
    "gpt": (lambda: GPT(GPTConfig(65, layers=1, heads=4, size=32, length=8, tied=True)), tokens),
    "bert": (lambda: BERT(BERTConfig(65, layers=1, heads=4, size=32, length=8)), tokens),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("scope", ["adaptive", "layer"])
def test_the_smallest_numbers_are_zeros(name, scope):
    """Closed form: exactly so many, in a weight none larger than one that is left; the model of
    plain Parameters with these zeros answers alike, and so does the one stored in few bytes."""
    tt.manual_seed(0)
    make, example = MODELS[name]
    model, x = make().eval(), example()
    small = compression.prune(model, 0.9, scope=scope)
    assert compression.sparsity_of(small) == pytest.approx(0.9, abs=0.01)
    assert compression.sparsity_of(model) == 0.0
    pairs = [
        (before.detach().numpy(), after.mask.numpy())
        for before, after in zip(_weights(model), _weights(small), strict=True)
    ]
    for w, m in pairs:
        assert np.abs(w[m]).min() >= np.abs(w[~m]).max(initial=0.0)
        assert scope != "layer" or (~m).sum() == round(0.9 * m.size)
    stored, plain = compression.store_sparse(small), compression.dense(small)
    with tt.no_grad():
        compiled = [tt.compile(stored)] if (name, scope) == ("cnn", "layer") else []
        found = [first(m(x)) for m in (small, stored, plain, *compiled)]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-4, atol=1e-4 * np.abs(found[0]).max())
    assert list(plain.state_dict()) == list(model.state_dict())
    sizes = [sum(w.size * 4 for w in _weights(model)), sum(w.nbytes for w in _weights(stored))]
    assert sizes[1] <= 0.15 * sizes[0] + 32 * len(pairs)  # 32: the sizes that each one says


def first(answer):
    return (answer[0] if isinstance(answer, tuple) else answer).numpy()


def _weights(model):
    return [weight for _, _, weight in compression.replaced.weights_of(model)]


def test_of_all_weights_together_the_smallest():
    """Closed form: magnitudes of two layers in one order; adaptive, each weight's square over the
    squares of its layer that are not smaller (Lee et al., equation 1)."""
    model = nn.Sequential(nn.Linear(3, 1, bias=False), nn.Linear(1, 3, bias=False))
    model[0].weight.data = tt.Tensor([[1.0, 2.0, 3.0]])  # 1/14, 4/13, 1
    model[1].weight.data = tt.Tensor([[10.0], [40.0], [20.0]])  # 1/21, 1, 4/20
    masks = [
        [layer.weight.mask.numpy().ravel().tolist() for layer in compression.prune(
            model, 0.34, scope=scope)] for scope in ("global", "adaptive", "layer")
    ]  # fmt: skip
    assert masks[0] == [[False, False, True], [True, True, True]]
    assert masks[1] == masks[2] == [[False, True, True], [False, True, True]]
    more = compression.prune(model, 0.5, scope="adaptive")
    assert more[1].weight.mask.numpy().ravel().tolist() == [False, True, False]


def test_stored_size_on_disk(tmp_path):
    """Closed form: 90 % zeros take at most 15 % of float32's bytes, in memory and in a file."""
    tt.manual_seed(0)
    model = nn.MLP([784, 256, 128, 10], bias=False)
    small = compression.store_sparse(compression.prune(model, 0.9))
    sizes = []
    for name, m in (("model", model), ("small", small)):
        storage.save(tmp_path / name, m.state_dict())
        sizes.append((compression.bytes_of(m), (tmp_path / name).stat().st_size))
    for before, after in zip(*sizes, strict=True):
        assert after <= 0.15 * before
    assert all(isinstance(layer.weight, SparseWeight) for layer in small.layers)


def test_shared_weights_stay_shared():
    """Ground truth: a tied model: head and table are one weight still, and its mask one."""
    small = compression.prune(MODELS["gpt"][0](), 0.5)
    assert small.head.weight is small.tokens.weight
    assert isinstance(small.head.weight, MaskedWeight)
    stored = compression.store_sparse(compression.prune(small, 0.95))
    assert stored.head.weight is stored.tokens.weight


def test_pruned_more():
    """Invariant: what was zero stays zero; the first model keeps its own masks."""
    first_time = compression.prune(nn.Linear(30, 20), 0.5)
    more = compression.prune(first_time, 0.8)
    gone = ~first_time.weight.mask.numpy()
    assert not more.weight.mask.numpy()[gone].any()
    assert compression.sparsity_of(first_time) == 0.5 and compression.sparsity_of(more) == 0.8


def test_parts_can_be_left_out():
    """Ground truth: by hand."""
    small = compression.prune(nn.MLP([20, 10, 5]), 0.9, skip="layers.1")
    assert isinstance(small.layers[1].weight, nn.Parameter)
    assert compression.sparsity_of(small, skip=["layers.1"]) == 0.9


def test_the_cubic_schedule():
    """Closed form: Zhu and Gupta's equation 1, at its ends and by hand at the middle: an eighth of
    the way is left."""
    at = [scheduled_sparsity(t, 0.8, 10, 30, 0.4) for t in (0, 10, 20, 30, 99)]
    assert at == pytest.approx([0.4, 0.4, 0.8 - 0.4 / 8, 0.8, 0.8])


@pytest.mark.parametrize("compiled", [False, True])
def test_a_trainer_prunes_by_schedule(compiled):
    """Ground truth: the schedule: sparsity after each mask; nothing is compiled again; a moving
    optimizer revives nothing."""
    tt.manual_seed(0)
    model = compression.prune(nn.MLP([8, 32, 3]), 0.0)
    draw = np.random.default_rng(0)
    data = [(draw.standard_normal((16, 8), np.float32), draw.integers(0, 3, 16)) for _ in range(10)]
    seen = {}

    class Look(tt.training.Callback):
        def after_batch(self, trainer, values):
            seen[trainer.steps] = compression.sparsity_of(model)

    optimizer = tt.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    trainer = Trainer(
        model, optimizer, compile=compiled, progress=Silent(),
        callbacks=[Pruning(0.9, begin=5, end=20, every=5), Look()],
    )  # fmt: skip
    trainer.train(data, 3)
    for step in range(5, 31):
        wanted = scheduled_sparsity(min(20, step - step % 5), 0.9, 5, 20)
        assert seen[step] == pytest.approx(wanted, abs=2 / 352)
    assert seen[4] == 0.0


def test_bad_input_is_named():
    """Ground truth: what cannot be done is said."""
    model = nn.MLP([4, 3, 2])
    for sparsity in (1.0, -0.1, 1.5, float("nan"), None):
        with pytest.raises(SettingError, match="sparsity is outside its range"):
            compression.prune(model, sparsity)
    with pytest.raises(SettingError, match="scope"):
        compression.prune(model, 0.5, scope="row")
    with pytest.raises(SettingError, match="no weight of this model"):
        compression.prune(nn.ReLU(), 0.5)
    with pytest.raises(SettingError, match="no such part"):
        compression.prune(model, 0.5, skip=["layers.9"])
    with pytest.raises(ArgumentTypeError, match="this is no model"):
        compression.prune(None, 0.5)
    uneven = nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 2))
    uneven[1].weight.data = uneven[1].weight.detach() * 1e-6
    with pytest.raises(SettingError, match="of a layer nothing would remain"):
        compression.prune(uneven, 0.5, scope="global")
    assert compression.sparsity_of(compression.prune(uneven, 0.5)) == 0.5
    with pytest.raises(SettingError, match="no weight of this model"):
        compression.store_sparse(model)
    with pytest.raises(SettingError, match="end"):
        Pruning(0.9, begin=5, end=5)
    trainer = Trainer(model, tt.optim.SGD(model.parameters(), lr=0.1), progress=Silent(),
                      callbacks=[Pruning(0.9, end=5)])  # fmt: skip
    with pytest.raises(SettingError, match="the model has no masks"):
        trainer.train([(np.zeros((2, 4), np.float32), np.array([0, 1]))], 1)
