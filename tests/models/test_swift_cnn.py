"""swift_cnn.py: sizes; a pruned ResNet-20 loads, and says what it said."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import compression, models
from tinytorch.base.errors import SettingError


def test_sizes():
    """By hand: filters of a 3x3 convolution are 9 C K; a norm has 2 K, the last layer 650."""
    filters = 27 * 16 + 6 * 9 * 16 * 8
    filters += 9 * (16 * 16 + 5 * 16 * 32) + 9 * (32 * 20 + 5 * 20 * 64)
    norms = 2 * (16 + 3 * (8 + 16) + 3 * (16 + 32) + 3 * (20 + 64))
    assert sum(p.size for p in models.SwiftCNN().parameters()) == filters + norms + 650
    wide = models.SwiftCNN(inner=(16, 32, 64)), models.resnet20()
    shapes = [{n: t.shape for n, t in net.state_dict().items()} for net in wide]
    assert shapes[0] == shapes[1]


def test_a_pruned_resnet_loads_and_is_a_tenth_as_bytes():
    """Ground truth: the pruned network itself, to the last bit; bytes counted by `bytes_of`."""
    tt.manual_seed(0)
    teacher, x = models.resnet20().eval(), tt.randn(2, 3, 8, 8)
    ratios = {
        f"layer{stage}.{block}.conv1": ratio
        for stage, ratio in ((1, 0.5), (2, 0.5), (3, 0.6875)) for block in range(3)
    }  # fmt: skip
    pruned = compression.prune_channels(teacher, x, ratios)
    swift = models.SwiftCNN().eval()
    swift.load_state_dict(pruned.state_dict())
    assert np.array_equal(swift(x).numpy(), pruned(x).numpy())
    small = compression.quantize(compression.fold_batch_norm(swift, x), calibration=[x])
    assert compression.bytes_of(small) < compression.bytes_of(teacher) / 10


@pytest.mark.parametrize(
    ("settings", "phrase"), [({"inner": (8, 16)}, "three stages"), ({"width": 0}, "width")]
)
def test_bad_settings_are_named(settings, phrase):
    """Ground truth: the ranges in the docstring."""
    with pytest.raises(SettingError, match=phrase):
        models.SwiftCNN(**settings)
