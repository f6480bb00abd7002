"""containers.py: lists of modules."""

import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import SettingError


def test_a_list_and_arguments_mean_the_same():
    """Ground truth: equal names."""
    parts = [nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)]
    assert list(nn.Sequential(parts).state_dict()) == list(nn.Sequential(*parts).state_dict())


def test_parts_are_called_in_order():
    """Closed form: (1 + 1) * 3."""
    net = nn.Sequential(lambda x: x + 1.0, lambda x: x * 3.0)
    assert net(tt.Tensor([1.0])).item() == 6.0


def test_what_cannot_be_called_is_named():
    """Ground truth: part 1 is a number."""
    with pytest.raises(SettingError, match="part 1 cannot be called"):
        nn.Sequential(nn.ReLU(), 3)


def test_lists_index_slice_and_grow():
    """Ground truth: Python's lists."""
    blocks = nn.ModuleList([nn.Linear(1, 1)])
    blocks.append(nn.ReLU())
    assert len(blocks) == 2 and isinstance(blocks[-1], nn.ReLU)
    assert [type(b).__name__ for b in blocks] == ["Linear", "ReLU"]
    assert isinstance(blocks[:1], nn.ModuleList) and len(blocks[:1]) == 1
