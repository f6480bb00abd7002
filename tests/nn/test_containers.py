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


def test_lists_insert_replace_and_extend_and_programs_notice():
    """Closed form: what the parts compute in their new order."""
    net = nn.Sequential(lambda x: x + 1.0)
    compiled = tt.compile(lambda x: net(x))
    x = tt.Tensor([1.0])
    assert compiled(x).item() == 2.0
    assert net.extend([lambda x: x * 3.0]) is net
    assert compiled(x).item() == 6.0
    net.insert(0, lambda x: x * 10.0)
    assert compiled(x).item() == 33.0
    net[0] = lambda x: x * 0.0
    assert compiled(x).item() == 3.0


def test_modules_by_name():
    """Ground truth: Python's dict; names of weights as in PyTorch."""
    heads = nn.ModuleDict({"mean": nn.Linear(2, 1, bias=False)})
    heads["spread"] = nn.ReLU()
    assert list(heads) == list(heads.keys()) == ["mean", "spread"] and len(heads) == 2
    assert "mean" in heads and [m for _, m in heads.items()] == list(heads.values())
    assert list(heads.state_dict()) == ["mean.weight"]
    assert [name for name, _ in heads.named_children()] == ["mean", "spread"]
    del heads["mean"]
    assert list(heads) == ["spread"]
    with pytest.raises(KeyError):
        del heads["mean"]
    with pytest.raises(SettingError, match="this cannot be a part"):
        heads["a.b"] = nn.ReLU()
