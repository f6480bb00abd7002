"""Checkpoints for a loop of one's own."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.data import ArrayDataset, DataLoader
from tinytorch.training import Checkpoints, ModelCheckpointer

X = np.random.default_rng(0).standard_normal((21, 4)).astype(np.float32)


class PowerFailure(Exception):
    pass


def run(folder, epochs: int, fail_at: int = -1, save_every: int = 0, features: int = 4):
    """A loop of one's own; the numbers it ends with. `fail_at` counts batches of this process."""
    tt.manual_seed(5)
    model = nn.Sequential(nn.Linear(features, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    optimizer = tt.optim.AdamW(model.parameters(), lr=0.01)
    loader = DataLoader(ArrayDataset(X), 4, shuffle=True, seed=2)
    checkpointer = ModelCheckpointer(folder, model=model, optimizer=optimizer, loader=loader)
    batches = 0
    for _ in checkpointer.resume_from_checkpoint(epochs):
        for (x,) in loader:
            optimizer.zero_grad()
            (model(tt.Tensor(x)) ** 2).mean().backward()
            optimizer.step()
            batches += 1
            if batches == fail_at:
                raise PowerFailure
            if save_every and batches % save_every == 0:
                checkpointer.save()
    return [p.numpy().tobytes() for p in model.parameters()], batches


@pytest.mark.parametrize("save_every", [0, 2, 5])
@pytest.mark.parametrize("fail_at", [1, 6, 7, 11, 17])
def test_a_loop_goes_on_bit_for_bit(tmp_path, fail_at, save_every):
    """Ground truth: the same loop without a failure; six batches an epoch, the last smaller."""
    expected, batches = run(tmp_path / "whole", 3)
    assert batches == 18
    with pytest.raises(PowerFailure):
        run(tmp_path / "run", 3, fail_at, save_every)
    found, rest = run(tmp_path / "run", 3, save_every=save_every)
    assert found == expected
    assert rest <= 18 - fail_at + (save_every or 6), "no more than what was not saved is repeated"


def test_a_run_that_is_done_has_nothing_left(tmp_path):
    """Ground truth: no batch more; further epochs go on from there."""
    first, _ = run(tmp_path, 2)
    again, batches = run(tmp_path, 2)
    assert again == first and batches == 0
    longer, batches = run(tmp_path, 3)
    assert batches == 6 and longer == run(tmp_path / "whole", 3)[0]


def test_another_architecture_is_refused(tmp_path):
    """Ground truth: the shape in the message; the checkpoints are still there."""
    run(tmp_path, 1)
    with pytest.raises(ShapeError, match="0.weight"):
        run(tmp_path, 2, features=5)
    assert Checkpoints(tmp_path).steps() == [1]


def test_best_and_settings_are_those_of_checkpoints(tmp_path):
    """Ground truth: the lowest loss by hand."""
    model = nn.Linear(1, 1)
    kept = ModelCheckpointer(Checkpoints(tmp_path, keep=1, best="loss"), model=model)
    assert not kept.restore()
    for loss in (3.0, 1.0, 2.0):
        kept.save({"loss": loss})
    assert kept.checkpoints.steps() == [2, 3] and kept.checkpoints.best_step() == 2


def test_parts_without_state_are_named():
    """Ground truth: a number, and a name the checkpointer uses itself."""
    with pytest.raises(SettingError, match="lr cannot be one of its parts"):
        ModelCheckpointer("c", lr=0.1)
    with pytest.raises(SettingError, match="random cannot be"):
        ModelCheckpointer("c", random=nn.Linear(1, 1))
