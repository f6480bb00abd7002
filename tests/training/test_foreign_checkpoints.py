"""A checkpoint of somebody else is data: nothing outside its folder is written, removed or trusted.

Each test makes what an attacker would hand over, does what a user would do with it, and looks at
what the attacker wanted.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import tinytorch as tt
from tests.training.test_bad_storage import bits, loader, trainer
from tinytorch.base.dtypes import float32
from tinytorch.base.errors import (
    DTypeError,
    FileFormatError,
    SettingError,
    StorageError,
    TinyTorchError,
)
from tinytorch.storage import safetensors
from tinytorch.storage.folder import checksum_of
from tinytorch.tensor.memory import Buffer
from tinytorch.training import (
    Checkpoints,
    History,
    load_checkpoint,
    load_weights,
    save_checkpoint,
)
from tinytorch.training import checkpoint as module
from tinytorch.training.callbacks import HistoryFile
from tinytorch.training.checkpoint import about_checkpoint


def sealed(folder: Path, change=None) -> None:
    """The manifest written again for the files as they are now: an attacker can do that."""
    path = folder / "manifest.json"
    table = json.loads(path.read_text())["manifest"]
    for name in table["files"]:
        content = (folder / name).read_bytes()
        table["files"][name] = {
            "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(),
        }  # fmt: skip
    if change is not None:
        change(table)
    path.write_text(json.dumps({"manifest": table, "sha256": checksum_of(table)}))


def forged(folder: Path, state: dict, arrays=None) -> Path:
    """A checkpoint whose state.json says this."""
    save_checkpoint(folder, {"x": np.zeros(2, np.uint8), "t": tt.Tensor([1.0, 2.0])})
    (folder / "state.json").write_text(json.dumps(state))
    if arrays is not None:
        safetensors.save(folder / "state.safetensors", arrays)
    sealed(folder)
    return folder


def everything(folder: Path) -> dict:
    """Names, kinds and bytes below a folder."""
    found = {}
    for p in sorted(folder.rglob("*")):
        what = os.readlink(p) if p.is_symlink() else p.is_file() and p.read_bytes()
        found[str(p.relative_to(folder))] = what
    return found


# --- folders that are not what they seem ---


def extension(place: Path) -> Path:
    """A folder of the user's that has a manifest.json, as web applications have."""
    place.mkdir(parents=True)
    (place / "manifest.json").write_text('{"name": "my extension", "manifest_version": 3}')
    (place / "background.js").write_text("years of work")
    return place


def test_a_web_application_is_not_replaced(tmp_path):
    """Ground truth: its files. Any folder with a manifest.json was taken for ours."""
    mine = extension(tmp_path / "my-extension")
    before = everything(mine)
    with pytest.raises(SettingError, match="not a folder that can be replaced"):
        save_checkpoint(mine, {"step": 1})
    assert everything(mine) == before


def test_a_checkpoint_with_notes_of_the_user_is_not_replaced(tmp_path):
    """Ground truth: the notes; without them it is replaced."""
    folder = save_checkpoint(tmp_path / "c", {"step": 1})
    (folder / "notes.txt").write_text("what I found out")
    with pytest.raises(SettingError, match="not a folder that can be replaced"):
        save_checkpoint(folder, {"step": 2})
    assert (folder / "notes.txt").read_text() == "what I found out"
    (folder / "notes.txt").unlink()
    save_checkpoint(folder, {"step": 2})
    assert load_checkpoint(folder) == {"step": 2}


@pytest.mark.parametrize("kind", ["extension", "checkpoint of mine"])
def test_a_step_that_is_a_link_is_passed_over_and_never_removed(tmp_path, kind):
    """Ground truth: the folder it points to, after a resumed run that saved over it and removed old
    steps."""
    mine = tmp_path / "mine"
    if kind == "extension":
        extension(mine)
    else:
        save_checkpoint(mine, {"step": 99}, {"step": 99, "metrics": {}})
    before, run = everything(mine), tmp_path / "run"
    trainer().train(loader(), 1, checkpoint=run)
    for step in ("000001", "000002", "000006", "000009"):
        (run / f"step-{step}").symlink_to(mine)
    (run / ".step-000004.before").symlink_to(mine)
    resumed = trainer()
    with pytest.warns(RuntimeWarning, match="step-000009 .* Going on from step 3"):
        resumed.train(loader(), 3, checkpoint=Checkpoints(run, keep=1), resume=True)
    assert everything(mine) == before
    assert Checkpoints(run).steps()[-1] == 9 and not Checkpoints(run).path(9).is_symlink()
    whole = trainer()
    whole.train(loader(), 3)
    assert bits(resumed) == bits(whole)


def test_a_damaged_step_with_files_of_the_user_is_moved_aside(tmp_path):
    """Ground truth: the user's file; the run ends, and its newest step is whole."""
    kept = Checkpoints(tmp_path, keep=1)
    kept.save({"step": 1}, 1)
    (kept.path(1) / "notes.txt").write_text("what I found out")
    kept.save({"step": 1, "again": True}, 1)
    kept.save({"step": 2}, 2)
    (aside,) = tmp_path.glob("damaged-step-000001-*")
    assert (aside / "notes.txt").read_text() == "what I found out"
    assert kept.steps() == [2]


def test_hidden_links_and_folders_are_not_emptied(tmp_path):
    """Ground truth: what the leftovers' names point to, and folders inside such a name."""
    mine = extension(tmp_path / "mine")
    run = tmp_path / "run"
    kept = Checkpoints(run)
    kept.save({"step": 1}, 1)
    (run / ".step-000001.before").symlink_to(mine)
    (run / ".step-000002.0123456789ab.new").symlink_to(mine)
    shutil.copytree(mine, run / ".step-000003.0123456789ab.gone" / "inside")
    before = everything(mine), everything(run / ".step-000003.0123456789ab.gone" / "inside")
    kept.load()
    kept.save({"step": 2}, 2)
    kept.save({"step": 1}, 1)
    after = everything(mine), everything(run / ".step-000003.0123456789ab.gone" / "inside")
    assert after == before


# --- files that are not what they seem ---


@pytest.mark.parametrize("name", ["manifest.json", "state.json", "weights.safetensors"])
@pytest.mark.parametrize("what", ["link", "pipe", "folder", "device"])
def test_files_that_are_none_are_refused(tmp_path, name, what):
    """Ground truth: four parts, at once: opened without care, a pipe waits for ever."""
    folder = save_checkpoint(tmp_path / "c", {"step": 1, "model": {"w": tt.Tensor([1.0])}})
    path = folder / name
    path.rename(tmp_path / "moved")
    if what == "link":
        path.symlink_to(tmp_path / "moved")
    elif what == "device":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(path) if what == "pipe" else path.mkdir()
    with pytest.raises(FileFormatError, match="not a regular file") as told:
        load_checkpoint(folder)
    assert str(folder) in told.value.what


def test_a_sparse_manifest_is_not_read(tmp_path):
    """Ground truth: 20 GB that take no room on the disk."""
    folder = save_checkpoint(tmp_path / "c", {"step": 1})
    os.truncate(folder / "manifest.json", 20 << 30)
    with pytest.raises(FileFormatError, match="too long"):
        load_checkpoint(folder)
    os.truncate(folder / "manifest.json", 0)
    save_checkpoint(tmp_path / "d", {"step": 1})
    os.truncate(tmp_path / "d" / "state.json", 20 << 30)
    with pytest.raises(FileFormatError, match="another length"):
        load_checkpoint(tmp_path / "d")


def test_a_sparse_array_of_terabytes_is_not_read(tmp_path):
    """Ground truth: 8 TB that take no room on the disk, with a manifest that says so."""
    folder = save_checkpoint(tmp_path / "c", {"step": 1})
    os.truncate(folder / "weights.safetensors", 8 << 40)
    path = folder / "manifest.json"
    table = json.loads(path.read_text())["manifest"]
    table["files"]["weights.safetensors"]["bytes"] = 8 << 40
    path.write_text(json.dumps({"manifest": table, "sha256": checksum_of(table)}))
    with pytest.raises(FileFormatError, match="too large"):
        load_checkpoint(folder)
    assert Checkpoints(tmp_path).steps() == []


@pytest.mark.parametrize(
    "name",
    ["../thesis", "/etc/passwd", "a/b", "..", "", "nul\0", "a\\b", "x\x1b[2J", "manifest.json"],
)
def test_a_manifest_names_files_of_its_folder_alone(tmp_path, name):
    """Ground truth: names with a path, with NUL and with control characters are refused."""
    folder = save_checkpoint(tmp_path / "c", {"step": 1})
    (tmp_path / "thesis").write_bytes(b"")
    record = {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    sealed(folder, lambda table: table["files"].update({name: record}))
    with pytest.raises(FileFormatError, match="outside the folder") as told:
        load_checkpoint(folder)
    assert str(told.value).replace("\n", "").isprintable()


def test_a_manifest_of_many_files_and_one_of_long_names(tmp_path):
    """Ground truth: more descriptors than a process has; names that no file system takes."""
    folder = save_checkpoint(tmp_path / "c", {"step": 1})
    record = {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    many = {f"f{i}": record for i in range(3000)}
    with pytest.raises(FileFormatError, match="lists no files"):
        sealed(folder, lambda table: table["files"].update(many))
        load_checkpoint(folder)
    save_checkpoint(tmp_path / "d", {"step": 1})
    sealed(tmp_path / "d", lambda table: table["files"].update({"x" * 5000: record}))
    with pytest.raises(TinyTorchError) as told:
        load_checkpoint(tmp_path / "d")
    assert len(str(told.value)) < 30_000


def test_a_file_exchanged_after_its_checksum_was_taken(tmp_path, monkeypatch):
    """Ground truth: the contents whose checksum was right, although the name holds others by the
    time they are read."""
    folder = save_checkpoint(tmp_path / "c", {"model": {"w": tt.Tensor([1.0])}, "step": 1})
    save_checkpoint(tmp_path / "evil", {"model": {"w": tt.Tensor([666.0])}, "step": 666})
    opened = module.open_checkpoint

    def then_exchange(*args, **kwargs):
        found = opened(*args, **kwargs)
        for name in ("weights.safetensors", "state.json"):
            os.replace(tmp_path / "evil" / name, folder / name)
        return found

    monkeypatch.setattr(module, "open_checkpoint", then_exchange)
    state = load_checkpoint(folder)
    assert state["step"] == 1 and state["model"]["w"].tolist() == [1.0]


# --- what the state says ---


def test_a_tensor_cannot_claim_another_type_than_its_numbers(tmp_path):
    """Ground truth: refused. It was read as float32 over one byte each: compiled code read and
    wrote three bytes beside each."""
    for extra in ({"dtype": "|u1"}, {"shape": [2]}, {"dtype": "|u1", "shape": [2]}):
        folder = forged(tmp_path / "c", {"t": {"$typed": "t", **extra}})
        with pytest.raises(FileFormatError, match="cannot be read"):
            load_checkpoint(folder)
    with pytest.raises(DTypeError, match="not of the type they are said to be"):
        Buffer.of_outside(np.zeros(4, np.uint8), float32)
    with pytest.raises(DTypeError, match="not of the type they are said to be"):
        Buffer.of_outside(np.zeros(4, ">f4"), float32)
    with pytest.raises(DTypeError, match="not of the type they are said to be"):
        tt.nn.Linear(1, 1, bias=False).load_state_dict(
            {"weight": (np.zeros((1, 1), "u1"), float32)}
        )


def test_one_array_a_million_times(tmp_path):
    """Ground truth: refused. A checkpoint of 1.3 MB became 8 GB."""
    for mark in ("$array", "$typed", "$scalar"):
        folder = forged(tmp_path / "c", {"x": [{mark: "x"}] * 1000})
        with pytest.raises(FileFormatError, match="cannot be read"):
            load_checkpoint(folder)


@pytest.mark.parametrize(
    "value",
    [
        {"$array": "x", "dtype": "(1,", "shape": [2]},
        {"$array": "x", "dtype": "O", "shape": [2]},
        {"$array": "x", "dtype": "|V2", "shape": [1]},
        {"$array": "x", "dtype": "|u1", "shape": [1] * 65 + [2]},
        {"$array": "x", "dtype": "|u1", "shape": [-1]},
        {"$array": "x", "dtype": "|u1", "shape": 2},
        {"$array": "x", "dtype": "|u1", "shape": [True, 2]},
        {"$array": "x", "dtype": "|u1", "shape": [2**70]},
        {"$array": "x", "dtype": "<U999999999", "shape": []},
        {"$array": "x", "dtype": 3, "shape": [2]},
        {"$array": "x", "dtype": "|u1"},
        {"$array": "x", "shape": [2]},
        {"$array": ["x"]},
        {"$array": {"x": 1}},
        {"$array": "not there"},
        {"$tuple": [], "dtype": "|u1"},
        {"$tuple": {"a": 1}},
        {"$dict": [1]},
        {"$float": "1e5"},
        {"$bytes": "xyz"},
        {"$unknown\x1b[2J": 1},
    ],
)
def test_marks_that_mean_nothing(tmp_path, value):
    """Ground truth: four parts, without control characters, in the state and beside it."""
    with pytest.raises(FileFormatError, match="cannot be read") as told:
        load_checkpoint(forged(tmp_path / "c", {"x": value}))
    assert str(told.value).replace("\n", "").isprintable()
    sealed(tmp_path / "c", lambda table: table.update(about={"metrics": value}))
    with pytest.raises(FileFormatError):
        about_checkpoint(tmp_path / "c")


def test_a_state_that_is_no_dictionary_after_all(tmp_path):
    """Ground truth: JSON objects that stand for a number or a tuple."""
    for value in ({"$float": "nan"}, {"$tuple": []}):
        with pytest.raises(FileFormatError, match="no dictionary"):
            load_checkpoint(forged(tmp_path / "c", value))
        sealed(tmp_path / "c", lambda table, v=value: table.update(about=v))
        with pytest.raises(FileFormatError):
            about_checkpoint(tmp_path / "c")


def test_nesting_has_an_end(tmp_path):
    """Ground truth: Python's stack has 1000 levels; what is saved has at most 100."""
    for text in ('{"x":' + "[" * n + "]" * n + "}" for n in (150, 400, 900, 100_000)):
        folder = forged(tmp_path / "c", {})
        (folder / "state.json").write_text(text)
        sealed(folder)
        with pytest.raises(FileFormatError):
            load_checkpoint(folder)


def test_a_metric_that_is_no_value_ends_no_run(tmp_path):
    """Ground truth: the run goes on and saves; the best is found among the others."""
    kept = Checkpoints(tmp_path, best="loss")
    for step in (1, 2):
        kept.save({"step": step}, step, {"loss": 1.0 / step})
    sealed(kept.path(2), lambda table: table.update(about={"metrics": {"$unknown": 1}}))
    kept.save({"step": 3}, 3, {"loss": 0.9})
    assert kept.best_step() == 3


# --- the history ---


def test_a_history_that_is_a_link_writes_nothing_else(tmp_path):
    """Ground truth: the user's file: it was overwritten with names that the other chose."""
    mine = tmp_path / "authorized_keys"
    mine.write_text("ssh-ed25519 mine")
    (tmp_path / "history.jsonl").symlink_to(mine)
    history = History()
    history.add({"epoch": 1, "\nssh-ed25519 theirs\n": 2.0, "loss": 1.0})
    for act in (history.save, history.save_plot):
        with pytest.raises(StorageError, match="not a file that can be replaced"):
            act(tmp_path / "history.jsonl")
    with pytest.raises(StorageError, match="not a file that can be replaced"):
        trainer(callbacks=[HistoryFile(tmp_path / "history.jsonl")]).train(loader(), 1)
    assert mine.read_text() == "ssh-ed25519 mine"


def test_names_in_a_history_do_not_reach_the_terminal(tmp_path):
    """Ground truth: str.isprintable of the table, the plot and the picture."""
    history = History()
    history.add({"epoch": 1, "\x1b]0;mine\x07loss": 2.0})
    history.add({"epoch": 2, "\x1b]0;mine\x07loss": 1.0})
    history.save(tmp_path / "h")
    again = History.load(tmp_path / "h")
    assert again.names() == history.names()
    again.save_plot(tmp_path / "h.svg")
    for text in (str(again), again.plot(), (tmp_path / "h.svg").read_text()):
        assert text.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "line",
    ['{"loss": true}', '{"loss": "1"}', '{"loss": [1]}', '{"loss": 1, "loss": 2}', "[1]", "1",
     '{"loss": NaN}', "{" * 5000, '{"loss": {"a": 1}}', "\x1b[2J"],
)  # fmt: skip
def test_rows_of_other_types_are_refused(tmp_path, line):
    """Ground truth: four parts, without control characters."""
    (tmp_path / "h").write_text(line + "\n")
    with pytest.raises(FileFormatError, match="not a history") as told:
        History.load(tmp_path / "h")
    assert str(told.value).replace("\n", "").isprintable() and len(str(told.value)) < 1000


def test_weights_of_a_link_the_user_named(tmp_path):
    """Ground truth: the numbers: hubs keep their files as links."""
    model = tt.nn.Linear(2, 1)
    safetensors.save(tmp_path / "blob", {n: t.numpy() for n, t in model.state_dict().items()})
    (tmp_path / "model.safetensors").symlink_to("blob")
    other = tt.nn.Linear(2, 1)
    load_weights(other, tmp_path / "model.safetensors")
    assert other.weight.tolist() == model.weight.tolist()
