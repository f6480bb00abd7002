"""Checkpoints: one, the states in memory, those of a run, and a loop of one's own."""

import errno
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import tinytorch as tt
from tinytorch import compression, models, nn
from tinytorch.base.errors import (
    DTypeError,
    FileFormatError,
    SettingError,
    ShapeError,
    StorageError,
)
from tinytorch.data import ArrayDataset, DataLoader
from tinytorch.storage import FutureVersionError, writing_folder
from tinytorch.storage.folder import checksum_of
from tinytorch.tensor.random import default_generator
from tinytorch.training import (
    Checkpoints,
    ModelCheckpointer,
    gather,
    load_checkpoint,
    load_weights,
    restore,
    save_checkpoint,
    save_weights,
)
from tinytorch.training.checkpoint import KIND, about_checkpoint


def bits(x):
    return x.handle().array.tobytes() if isinstance(x, tt.Tensor) else x.tobytes()


def a_state() -> dict:
    tt.manual_seed(0)
    return {
        "model": {"0.weight": tt.randn(3, 2), "half": tt.randn(4).astype(tt.bfloat16)},
        "optimizer": {"step": tt.Tensor(3.0, dtype=tt.float64), "lr.0": np.float64(0.1)},
        "loader": {"epoch": 2, "position": 7, "words": np.array([2**64 - 1], np.uint64)},
        "history": [{"epoch": 1, "loss": 0.1, "worst": float("nan")}],
        "schedule": None,
    }


@pytest.mark.parametrize(
    ("way", "few_bits"),
    [("weights", False), ("weights", True), ("checkpoint", False), ("checkpoint", True),
     ("folder", False)],
)  # fmt: skip
def test_tied_weights_are_written_once(tmp_path, way, few_bits):
    """Ground truth: the parameters' bytes, which count a table once; both names have it again, and
    still share it. A model of two tables lacks one."""
    config = models.GPTConfig(500, 1, 2, 32, 8, mlp="gelu_tanh", tied=True)

    def new(config=config):
        made = models.GPT(config)
        return compression.quantize(made, "int8") if few_bits else made

    tt.manual_seed(1)
    model, other = new(), new()
    size = compression.bytes_of(model)
    state = {n: x.numpy() for n, x in model.state_dict().items()}
    if way == "folder":
        models.save_folder(model, tmp_path / "x")
        file, other = tmp_path / "x" / "model.safetensors", models.load_folder(tmp_path / "x")
    elif way == "weights":
        file = tmp_path / "x.safetensors"
        save_weights(model, file)
        load_weights(other, file)
    else:
        save_checkpoint(tmp_path / "x", {"model": model.state_dict(), "step": 1})
        file = tmp_path / "x" / "weights.safetensors"
        other.load_state_dict(load_checkpoint(tmp_path / "x")["model"])
    assert size <= file.stat().st_size < size + 8000
    assert other.head.weight is other.tokens.weight
    assert all(np.array_equal(x.numpy(), state[n]) for n, x in other.state_dict().items())
    if way == "weights":
        with pytest.raises(SettingError, match="are not its names") as told:
            load_weights(new(replace(config, tied=False)), file)
        assert "missing: head.weight" in told.value.got


def test_a_state_comes_back_types_included(tmp_path):
    """Ground truth: the state that was saved."""
    state = a_state()
    assert save_checkpoint(tmp_path / "c", state, {"step": 3}) == tmp_path / "c"
    read = load_checkpoint(tmp_path / "c")
    assert list(read) == list(state)
    for name in ("0.weight", "half"):
        assert type(read["model"][name]) is tt.Tensor
        assert read["model"][name].dtype is state["model"][name].dtype
        assert bits(read["model"][name]) == bits(state["model"][name])
    assert read["optimizer"]["step"].dtype is tt.float64 and read["optimizer"]["step"].item() == 3
    assert type(read["optimizer"]["lr.0"]) is np.float64
    assert read["loader"]["words"].dtype == np.uint64 and read["loader"]["words"][0] == 2**64 - 1
    assert read["loader"]["position"] == 7 and read["schedule"] is None
    assert repr(read["history"]) == repr(state["history"])
    assert about_checkpoint(tmp_path / "c") == {"step": 3}


def test_names_that_could_be_mistaken(tmp_path):
    """Ground truth: the numbers 1 to 6, each under its own name."""
    state = {
        "model": {"a": np.array(1), "__metadata__": np.array(2), "model/a": np.array(3)},
        "a": np.array(4), "model/a": np.array(5), "other": {"model": {"a": np.array(6)}},
    }  # fmt: skip
    save_checkpoint(tmp_path / "c", state)
    assert repr(load_checkpoint(tmp_path / "c")) == repr(state)


def test_what_was_read_can_be_written_to(tmp_path):
    """Ground truth: the file is read again and still holds what was saved."""
    save_checkpoint(tmp_path / "c", a_state())
    read = load_checkpoint(tmp_path / "c")
    read["model"]["0.weight"].assign_(tt.zeros(3, 2))
    read["loader"]["words"][:] = 0
    again = load_checkpoint(tmp_path / "c")
    assert bits(again["model"]["0.weight"]) == bits(a_state()["model"]["0.weight"])
    assert again["loader"]["words"][0] == 2**64 - 1


def test_weights_are_a_plain_file_for_everybody(tmp_path):
    """Ground truth: the safetensors library and load_weights, without the rest of the folder."""
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    save_checkpoint(tmp_path / "c", {"model": model.state_dict(), "step": 1})
    theirs = safetensors.numpy.load_file(tmp_path / "c" / "weights.safetensors")
    assert {n: x.tobytes() for n, x in theirs.items()} == {
        n: bits(x) for n, x in model.state_dict().items()
    }
    load_weights(other, tmp_path / "c" / "weights.safetensors")
    assert bits(other.weight) == bits(model.weight)
    other = nn.Linear(3, 2)
    load_weights(other, tmp_path / "c")  # the folder itself, checked against its manifest
    assert bits(other.weight) == bits(model.weight)
    with open(tmp_path / "c" / "weights.safetensors", "ab") as file:
        file.write(b"x")
    with pytest.raises(FileFormatError, match="another length"):
        load_weights(other, tmp_path / "c")


def test_training_goes_on_bit_for_bit(tmp_path):
    """Ground truth: a run that was never interrupted; interrupted here in the middle of an epoch.

    Dropout, shuffling, momentum and running statistics each have state of their own.
    """
    x = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)

    def run():
        tt.manual_seed(3)
        model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 1))
        adam = tt.optim.AdamW(model.parameters(), lr=0.01)
        return model, adam, DataLoader(ArrayDataset(x), 3, shuffle=True, seed=5)

    def go(model, adam, loader, steps):
        while steps:
            for (batch,) in loader:
                adam.zero_grad()
                (model(tt.Tensor(batch)) ** 2).mean().backward()
                adam.step()
                steps -= 1
                if not steps:
                    break

    model, adam, loader = run()
    go(model, adam, loader, 11)
    state = {
        "model": model.state_dict(), "optimizer": adam.state_dict(),
        "loader": loader.state_dict(), "random": default_generator.state,
    }  # fmt: skip
    save_checkpoint(tmp_path / "c", state)
    # The loop left the loader inside a pass; the next one goes on there if it is asked to.
    loader.load_state_dict(loader.state_dict())
    go(model, adam, loader, 10)

    again, adam_again, loader_again = run()
    state = load_checkpoint(tmp_path / "c")
    again.load_state_dict(state["model"])
    adam_again.load_state_dict(state["optimizer"])
    loader_again.load_state_dict(state["loader"])
    default_generator.state.assign_(state["random"])
    go(again, adam_again, loader_again, 10)
    assert [bits(p) for p in again.parameters()] == [bits(p) for p in model.parameters()]


def test_what_cannot_be_saved_changes_nothing(tmp_path):
    """Ground truth: the old checkpoint; the message names the place in the state."""
    save_checkpoint(tmp_path / "c", {"step": 1})
    with pytest.raises(DTypeError, match="state at callbacks/0 cannot be saved"):
        save_checkpoint(tmp_path / "c", {"callbacks": [print]})
    own: dict = {}
    own["own"] = own
    with pytest.raises(DTypeError, match="cannot be saved"):
        save_checkpoint(tmp_path / "c", own)
    with pytest.raises(SettingError, match="about holds an array"):
        save_checkpoint(tmp_path / "c", {}, {"x": np.zeros(2)})
    assert load_checkpoint(tmp_path / "c") == {"step": 1} and os.listdir(tmp_path) == ["c"]


def test_a_checkpoint_of_a_future_version(tmp_path):
    """Ground truth: a folder of version 2, made here; it is told apart from a damaged one."""
    save_checkpoint(tmp_path / "c", {"step": 1})
    path = tmp_path / "c" / "manifest.json"
    table = json.loads(path.read_text())["manifest"] | {"version": 2}
    path.write_text(json.dumps({"manifest": table, "sha256": checksum_of(table)}))
    with pytest.raises(FutureVersionError, match="newer TinyTorch") as told:
        load_checkpoint(tmp_path / "c")
    assert "versions 1 to 1" in told.value.rule and "install" in told.value.fix


def test_what_is_no_checkpoint(tmp_path):
    """Ground truth: nothing, an empty folder, and the folder above one."""
    save_checkpoint(tmp_path / "run" / "c", {"step": 1})
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError, match="no tinytorch checkpoint here") as told:
        load_checkpoint(tmp_path / "missing")
    assert told.value.errno == errno.ENOENT
    with pytest.raises(FileFormatError, match="not whole"):
        load_checkpoint(tmp_path / "empty")
    with pytest.raises(FileFormatError, match="holds checkpoints, and is none itself") as told:
        load_checkpoint(tmp_path / "run")
    assert "with c" in told.value.got and repr(str(tmp_path / "run" / "c")) in told.value.fix


def resign(folder: Path) -> None:
    """Give a folder with changed files a manifest that agrees with them, as an enemy would."""
    table = json.loads((folder / "manifest.json").read_text())["manifest"]
    for name in table["files"]:
        data = (folder / name).read_bytes()
        table["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_bytes(
        json.dumps({"manifest": table, "sha256": checksum_of(table)}).encode()
    )


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        (b"{", "its state is not JSON"),
        (b"[]", "its state is no dictionary"),
        (b'{"a":1,"a":2}', "a key stands twice"),
        (b'{"a":{"$array":"nowhere"}}', "cannot be read"),
        (b'{"a":{"$call":"os.system"}}', "cannot be read"),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", "(cannot be read|is not JSON)"),
    ],
)
def test_a_state_written_by_an_enemy(tmp_path, text, phrase):
    """Ground truth: valid checksums around values that make no sense; nothing but a refusal."""
    save_checkpoint(tmp_path / "c", a_state())
    (tmp_path / "c" / "state.json").write_bytes(text)
    resign(tmp_path / "c")
    with pytest.raises(FileFormatError, match=phrase):
        load_checkpoint(tmp_path / "c")


def test_any_damage_is_seen(tmp_path):
    """Ground truth: 300 folders with one bit, one piece or one file changed: each is refused."""
    save_checkpoint(tmp_path / "c", a_state())
    choose = random.Random(0)
    names = sorted(os.listdir(tmp_path / "c"))
    assert names == ["manifest.json", "state.json", "state.safetensors", "weights.safetensors"]
    for i in range(300):
        shutil.copytree(tmp_path / "c", tmp_path / "d")
        path = tmp_path / "d" / choose.choice(names)
        data = bytearray(path.read_bytes())
        at = choose.randrange(len(data))
        match i % 4:
            case 0:
                data[at] ^= 1 << choose.randrange(8)
            case 1:
                del data[at:]
            case 2:
                data[at:at] = choose.randbytes(3)
            case 3:
                data = None
        if data is None:
            path.unlink()
        else:
            path.write_bytes(data)
        try:
            read = load_checkpoint(tmp_path / "d")
        except FileFormatError:
            pass
        else:  # white space in the manifest became other white space
            assert path.name == "manifest.json" and repr(read) == repr(a_state()), i
        shutil.rmtree(tmp_path / "d")


FULL = """
import resource, sys
import tinytorch as tt
from tinytorch.base.errors import StorageError
from tinytorch.training import save_checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_checkpoint(sys.argv[1], {"model": {"weight": tt.zeros(100_000)}})
except StorageError as error:
    print(error)
"""


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path):
    """Ground truth: the system refuses to let the file grow; the old checkpoint loads."""
    save_checkpoint(tmp_path / "c", {"step": 1})
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "c")],
        capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert "could not be written" in done.stdout and "free some space" in done.stdout, done.stderr
    assert load_checkpoint(tmp_path / "c") == {"step": 1} and os.listdir(tmp_path) == ["c"]


# --- Loading the states of several objects: all or none ---


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


# --- The checkpoints of a run: which stay, which is loaded, and what happens to damaged ones ---


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


# --- Checkpoints for a loop of one's own ---

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
