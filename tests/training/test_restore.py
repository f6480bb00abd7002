"""Loading the states of several objects: all or none."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.data import ArrayDataset, DataLoader
from tinytorch.training import gather, load_checkpoint, restore, save_checkpoint


def parts(features: int = 3) -> dict:
    model = nn.Linear(features, 2)
    return {
        "model": model,
        "optimizer": tt.optim.AdamW(model.parameters(), lr=0.1),
        "loader": DataLoader(ArrayDataset(np.arange(8)), 2, shuffle=True, seed=4),
        "schedule": None,
    }


def moved(parts: dict) -> dict:
    x = tt.randn(4, parts["model"].weight.shape[1])
    (parts["model"](x) ** 2).mean().backward()
    parts["optimizer"].step()
    next(iter(parts["loader"]))
    return parts


def seen(parts: dict) -> str:
    """Everything in the state, to the last bit."""
    return repr(
        {
            name: {k: x.numpy().tobytes() if isinstance(x, tt.Tensor) else x for k, x in s.items()}
            for name, s in gather(parts).items()
            if s is not None
        }
    )


def test_what_was_gathered_is_restored(tmp_path):
    """Ground truth: the states of other objects, after a trip through a folder."""
    source, target = moved(parts()), parts()
    save_checkpoint(tmp_path / "c", gather(source))
    restore(target, load_checkpoint(tmp_path / "c"))
    assert seen(target) == seen(source)


def test_another_architecture_changes_nothing():
    """Ground truth: every bit of the run, before and after; the message names the weight."""
    target = moved(parts(features=3))
    before = seen(target)
    with pytest.raises(ShapeError, match="'weight' has another shape"):
        restore(target, gather(moved(parts(features=4))))
    assert seen(target) == before
    deeper = {**parts(), "model": nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))}
    with pytest.raises(SettingError, match="names in this state are not its names"):
        restore(target, gather(deeper))
    assert seen(target) == before


def test_a_late_refusal_takes_back_what_was_loaded():
    """Ground truth: the loader refuses last; model and optimizer are as before."""
    target = moved(parts())
    before = seen(target)
    state = gather(moved(moved(parts())))
    state["loader"] = {"seed": 0, "epoch": 0, "position": 99}
    with pytest.raises(SettingError, match="position is outside its range"):
        restore(target, state)
    assert seen(target) == before


def test_parts_that_only_one_side_has():
    """Ground truth: a missing state; a schedule that only the run, or only the state, has."""
    state = gather(parts())
    with pytest.raises(SettingError, match="there is no state for loader"):
        restore(parts(), {k: v for k, v in state.items() if k != "loader"})
    with pytest.raises(SettingError, match="the state has schedule, the run has not"):
        restore(parts(), {**state, "schedule": {"step": 1}})
    with pytest.raises(SettingError, match="the run has optimizer, the state has not"):
        restore(parts(), {**state, "optimizer": None})
