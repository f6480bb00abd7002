"""Compressed models from their states."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import compression, nn, storage
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.models import CNN, GPT, CifarResNet, GPTConfig

X = {
    "cnn": tt.Tensor(np.random.default_rng(0).standard_normal((2, 3, 8, 8), np.float32)),
    "gpt": tt.Tensor(np.random.default_rng(0).integers(0, 65, (2, 7))),
}
MAKE = {
    "cnn": lambda: CNN(8, 3, widths=(8, 16)).eval(),
    "gpt": lambda: GPT(GPTConfig(65, layers=1, heads=4, size=32, length=8, kv_heads=2)).eval(),
}


def thinned(model, x):
    return compression.prune_channels(model, x, 0.5)


WAYS = {
    "pruned": [lambda m, x: compression.prune(m, 0.7)],
    "sparse": [lambda m, x: compression.store_sparse(compression.prune(m, 0.9))],
    "channels": [thinned],
    "low rank": [lambda m, x: compression.factorize(m, energy=0.6)],
    "shared": [lambda m, x: compression.share_weights(m, 8)],
    "channels, then sparse": [
        thinned, lambda m, x: compression.store_sparse(compression.prune(m, 0.8))
    ],
    "channels, then shared": [thinned, lambda m, x: compression.share_weights(m, 8)],
}  # fmt: skip


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("way", WAYS)
def test_what_was_saved_is_what_is_loaded(name, way, tmp_path):
    """Ground truth: the compressed model, to the last bit; nothing but its file is needed."""
    tt.manual_seed(0)
    small, x = MAKE[name](), X[name]
    for step in WAYS[way]:
        small = step(small, x)
    storage.save(tmp_path / "small.safetensors", small.state_dict())
    again = compression.load_compressed(MAKE[name](), storage.load(tmp_path / "small.safetensors"))
    assert repr(again) == repr(small)
    np.testing.assert_array_equal(again(x).detach().numpy(), small(x).detach().numpy())


def test_grouped_sizes_and_what_does_not_fit():
    """Ground truth: the pruned model; one that is larger, or lacks a weight, is refused."""
    x = tt.ones(1, 3, 8, 8)
    model = CifarResNet(1, width=8)
    small = compression.prune_channels(model, x, 0.5)
    assert repr(compression.load_compressed(model, small.state_dict())) == repr(small)
    with pytest.raises(ShapeError, match="not of a smaller model"):
        compression.load_compressed(small, model.state_dict())
    state = small.state_dict()
    del state["conv1.weight"]
    with pytest.raises(SettingError, match="conv1.weight"):
        compression.load_compressed(model, state)
    state = compression.share_weights(nn.Linear(64, 64), 4).state_dict()
    state["weight.codes"] = state["weight.codes"][1:]
    with pytest.raises(ShapeError, match="codes are not those"):
        compression.load_compressed(nn.Linear(64, 64), state)
