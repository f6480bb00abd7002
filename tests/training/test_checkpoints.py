"""The checkpoints of a run: which stay, which is loaded, and what happens to damaged ones."""

import os
import shutil
import warnings

import pytest

from tinytorch.base.errors import FileFormatError, SettingError, StorageError
from tinytorch.storage import FutureVersionError, writing_folder
from tinytorch.training import Checkpoints, load_checkpoint, save_checkpoint
from tinytorch.training.checkpoint import KIND


def saved(folder, steps, **settings) -> Checkpoints:
    kept = Checkpoints(folder, **settings)
    for step in steps:
        kept.save({"step": step}, step)
    return kept


def damage(path) -> None:
    data = bytearray((path / "state.json").read_bytes())
    data[-3] ^= 1
    (path / "state.json").write_bytes(data)


def test_the_newest_stay(tmp_path):
    """Ground truth: the last three of five; the folder holds nothing else."""
    kept = saved(tmp_path / "c", [1, 2, 30, 400, 5_000_000])
    assert kept.steps() == [30, 400, 5_000_000]
    assert sorted(os.listdir(tmp_path / "c")) == ["step-000030", "step-000400", "step-5000000"]
    assert kept.load() == {"step": 5_000_000}
    assert Checkpoints(tmp_path / "c").load() == {"step": 5_000_000}


@pytest.mark.parametrize(
    ("best", "highest", "values", "expected"),
    [
        ("val_loss", None, [0.5, 0.2, 0.3, 0.4, 0.2], 2),
        ("accuracy", None, [0.5, 0.9, 0.3, 0.4, 0.9], 2),
        ("bleu", True, [1, 5, 2, 2, 2], 2),
        ("distance", False, [9, 5, 7, 7, 7], 2),
        ("val_loss", None, [float("nan"), 0.5, float("nan"), 0.6, 0.6], 2),
    ],
)
def test_the_best_stays_too(tmp_path, best, highest, values, expected):
    """Ground truth: the best value by hand; the earlier of equals; nan is never best."""
    kept = Checkpoints(tmp_path, keep=2, best=best, highest=highest)
    for step, value in enumerate(values, 1):
        kept.save({"step": step}, step, {best: value})
    assert kept.steps() == [expected, 4, 5]
    assert kept.best_step() == expected and kept.load_best() == {"step": expected}


def test_without_its_metric_nothing_is_best(tmp_path):
    """Ground truth: no checkpoint has the metric."""
    kept = Checkpoints(tmp_path, keep=1, best="val_loss")
    kept.save({"step": 1}, 1, {"loss": 0.5})
    kept.save({"step": 2}, 2)
    assert kept.steps() == [2] and kept.best_step() is None and kept.load_best() is None


@pytest.mark.parametrize("about", [{}, {"metrics": 3}, {"metrics": {"val_loss": "low"}}])
def test_what_was_said_about_a_checkpoint_may_be_anything(tmp_path, about):
    """Ground truth: nothing that is a number under that name, so nothing is best."""
    save_checkpoint(tmp_path / "step-000001", {"step": 1}, about)
    kept = Checkpoints(tmp_path, best="val_loss")
    assert kept.steps() == [1] and kept.best_step() is None


def test_whether_high_is_good_has_to_be_known():
    """Ground truth: names of which nobody knows; out-of-range settings."""
    with pytest.raises(SettingError, match="is a high 'bleu' good or bad"):
        Checkpoints("c", best="bleu")
    for settings, name in [
        ({"keep": 0}, "keep"),
        ({"every_steps": 0}, "every_steps"),
        ({"every_seconds": 0}, "every_seconds"),
    ]:
        with pytest.raises(SettingError, match=f"Checkpoints: {name}"):
            Checkpoints("c", **settings)


def test_damaged_ones_are_passed_over_and_named(tmp_path):
    """Ground truth: the newest whole one; a warning with the names of the others."""
    kept = saved(tmp_path, [1, 2, 3])
    assert kept.load() == {"step": 3}
    damage(kept.path(3))
    (kept.path(2) / "manifest.json").unlink()
    with pytest.warns(RuntimeWarning, match=r"step-000003 .*step-000002 .*Going on from step 1"):
        assert kept.load() == {"step": 1}
    damage(kept.path(1))
    with pytest.raises(FileFormatError, match="no checkpoint in .* is whole"):
        kept.load()


def test_nothing_was_ever_saved(tmp_path):
    """Ground truth: no folder, and an empty one: nothing to go on from, and no folder made."""
    assert Checkpoints(tmp_path / "c").load() is None and not (tmp_path / "c").exists()
    (tmp_path / "c").mkdir()
    kept = Checkpoints(tmp_path / "c")
    assert kept.load() is None and not kept.exists() and kept.steps() == []


def test_a_future_version_is_not_passed_over(tmp_path):
    """Ground truth: an error: an older checkpoint would lose what the newest holds."""
    kept = saved(tmp_path, [1])
    with writing_folder(kept.path(2), KIND, version=2):
        pass
    with pytest.raises(FutureVersionError, match="newer TinyTorch"):
        kept.load()


def test_saving_over_what_is_not_whole(tmp_path):
    """Ground truth: the new state loads; the remains lie beside it, for whoever wants them."""
    kept = saved(tmp_path, [1, 2])
    (kept.path(2) / "manifest.json").unlink()
    kept.save({"step": "two again"}, 2)
    assert kept.load() == {"step": "two again"}
    assert sorted(os.listdir(tmp_path))[0].startswith("damaged-step-000002-")
    kept.save({"step": "and again"}, 2)
    assert kept.load() == {"step": "and again"} and kept.steps() == [1, 2]


def test_damaged_ones_do_not_push_out_whole_ones(tmp_path):
    """Ground truth: keep=2 whole ones, with two incomplete ones between them."""
    kept = saved(tmp_path, [1, 2, 3, 4], keep=4)
    for step in (3, 4):
        (kept.path(step) / "weights.safetensors").unlink()
    again = saved(tmp_path, [5], keep=2)
    assert again.steps() == [2, 5]


def test_later_steps_are_left_alone(tmp_path):
    """Ground truth: going back to step 2 and on removes nothing that lies ahead."""
    kept = saved(tmp_path, [10, 20, 30])
    saved(tmp_path, [11, 12, 13, 14])
    assert kept.steps() == [12, 13, 14, 20, 30]


def test_what_a_killed_save_left_is_cleared(tmp_path):
    """Ground truth: the names a kill leaves: half written, half removed, renamed."""
    kept = saved(tmp_path / "one", [2])
    os.rename(kept.path(2), tmp_path / "one" / ".step-000002.before")
    assert kept.exists() and kept.load() == {"step": 2}
    kept = saved(tmp_path, [1, 2])
    shutil.rmtree(tmp_path / "one")
    shutil.copytree(kept.path(1), tmp_path / ".step-000003.0123abcd.new")
    shutil.copytree(kept.path(1), tmp_path / ".step-000000.0123abcd.gone")
    os.rename(kept.path(2), tmp_path / ".step-000002.before")
    assert Checkpoints(tmp_path).load() == {"step": 2}
    assert sorted(os.listdir(tmp_path)) == ["step-000001", "step-000002"]


def test_loading_writes_nothing_where_nothing_may_be_written(tmp_path, monkeypatch):
    """Ground truth: the state, although every rename is refused as on a read-only disk."""
    kept = saved(tmp_path, [1, 2])
    os.rename(kept.path(2), tmp_path / ".step-000002.before")

    def refused(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tinytorch.storage.folder.os.rename", refused)
    assert kept.load() == {"step": 2} and kept.steps() == [1, 2]
    assert sorted(os.listdir(tmp_path)) == [".step-000002.before", "step-000001"]


def test_when_one_is_due(tmp_path, monkeypatch):
    """Ground truth: counting steps and seconds by hand."""
    kept = Checkpoints(tmp_path, every_steps=3)
    assert [step for step in range(1, 8) if kept.due(step)] == [3, 6]
    kept.save({}, 6)
    assert not kept.due(6)
    assert not Checkpoints(tmp_path).due(5)
    now = [100.0]
    monkeypatch.setattr("tinytorch.training.checkpoint.time.monotonic", lambda: now[0])
    kept = Checkpoints(tmp_path, every_seconds=60)
    now[0] = 159.0
    assert not kept.due(7)
    now[0] = 160.0
    assert kept.due(7)
    kept.save({}, 7)
    assert not kept.due(8)


def test_a_save_that_fails_removes_nothing(tmp_path, monkeypatch):
    """Ground truth: the three checkpoints that were there, and no other name."""
    kept = saved(tmp_path, [1, 2, 3])

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tinytorch.storage.folder.os.fsync", full)
    with pytest.raises(StorageError, match="could not be written"):
        kept.save({"step": 4}, 4)
    assert sorted(os.listdir(tmp_path)) == ["step-000001", "step-000002", "step-000003"]
    assert kept.load() == {"step": 3}


def test_an_old_one_that_cannot_be_removed_ends_nothing(tmp_path, monkeypatch):
    """Ground truth: the new one is there, the old one too."""
    kept = saved(tmp_path, [1], keep=1)

    def refused(path, kind):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tinytorch.training.checkpoint.remove_folder", refused)
    kept.save({"step": 2}, 2)
    assert kept.steps() == [1, 2]


def test_other_names_in_the_folder_are_left_alone(tmp_path):
    """Ground truth: a user's files, and a checkpoint with a name of its own."""
    (tmp_path / "notes.txt").write_text("mine")
    save_checkpoint(tmp_path / "before-surgery", {"step": 0})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = saved(tmp_path, [1, 2, 3, 4], keep=1)
        assert kept.load() == {"step": 4}
    assert sorted(os.listdir(tmp_path)) == ["before-surgery", "notes.txt", "step-000004"]
    assert load_checkpoint(tmp_path / "before-surgery") == {"step": 0}
