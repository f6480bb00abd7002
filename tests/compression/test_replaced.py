"""Which weights may have another form, and the way back to plain ones."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import compression, nn
from tinytorch.base.errors import SettingError
from tinytorch.compression.replaced import numbers_of, replaced, weights_of


def test_each_weight_once_and_none_that_is_skipped():
    """Ground truth: by hand: a weight of two layers, one of them skipped, is left out."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Conv1d(3, 3, 1), nn.Linear(3, 3), nn.LayerNorm(3))
    model[2].weight = model[0].weight
    assert [name for name, _, _ in weights_of(model)] == ["0.weight", "1.weight"]
    assert [name for name, _, _ in weights_of(model, "2")] == ["1.weight"]
    with pytest.raises(SettingError, match="no such part"):
        list(weights_of(model, "7"))


def test_numbers_of_every_form():
    """Ground truth: the numbers for which they stand; int8 to half a step."""
    w = np.array([[1.0, 0.0], [0.0, -2.0]], np.float32)
    for form in (nn.Parameter(w), nn.SparseWeight(w), nn.MaskedWeight(tt.Tensor(w))):
        np.testing.assert_array_equal(numbers_of(form), w)
    np.testing.assert_allclose(numbers_of(nn.QuantizedWeight(w)), w, atol=1 / 127)


def test_back_to_plain_weights():
    """Invariant: names, sizes and answers of the model that was never compressed but for its
    zeros; other parts stay as they are; what is shared stays shared."""
    tt.manual_seed(0)
    model = nn.MLP([6, 6, 2])
    model.layers.append(nn.Linear(2, 6))
    model.layers[1].weight = nn.Parameter(tt.randn(2, 6))
    pruned = compression.prune(model, 0.5)
    plain = compression.dense(compression.share_weights(pruned, 4, skip="layers.1"))
    assert list(plain.state_dict()) == list(model.state_dict())
    assert len(np.unique(plain.layers[0].weight.detach().numpy())) <= 4


def test_nothing_replaced_is_said():
    """Ground truth: a maker that leaves all as it is."""
    with pytest.raises(SettingError, match="test: no weight of this model"):
        replaced("test", nn.Linear(2, 2), lambda name, layer, weight: None)
