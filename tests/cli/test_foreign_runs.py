"""Runs of somebody else, resumed and shown by `tito`: they are data.

Each test is what an attacker would hand over; what he wanted to change, or to have executed, is
looked at afterwards.
"""

import json
import os
import shutil

import pytest

from tests.test_cli import stopped_after_an_epoch, tito
from tests.training.test_foreign_checkpoints import everything, extension
from tinytorch.base.errors import FileFormatError
from tinytorch.cli.runs import RunFolder, Settings
from tinytorch.storage import read, save

ASKED = Settings("digits", "mlp", 3, 500, 1e-3)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run of one epoch of three, as Ctrl-C leaves it, with a model file."""
    from tinytorch.cli.learning import Pictures
    from tinytorch.cli.runs import save_model
    from tinytorch.training.history import Silent

    run = RunFolder.begin(ASKED, tmp_path_factory.mktemp("runs") / "theirs")
    learning = Pictures(Settings("digits", "mlp", 3, 500, 1e-3, eager=True), Silent())
    with stopped_after_an_epoch():
        learning.learn(run, resume=False)
    save_model(learning.model, "digits", "mlp", run.weights, {"test accuracy": "0.5"})
    settings = json.loads((run.path / "settings.json").read_text())
    (run.path / "settings.json").write_text(json.dumps(settings | {"eager": True}))
    return run.path


@pytest.fixture
def theirs(stopped, tmp_path):
    """A copy of it."""
    return shutil.copytree(stopped, tmp_path / "theirs")


def test_an_honest_run_goes_on(theirs, capsys):
    """Ground truth: three epochs in its history."""
    code, _, err = tito(capsys, "train", "--resume", "--run", theirs)
    assert code == 0, err
    assert len((theirs / "history.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("name", ["history.jsonl", "model.safetensors", "settings.json"])
@pytest.mark.parametrize("verb", ["train", "curve", "predict", "evaluate"])
def test_a_link_in_a_run_is_neither_written_nor_read(theirs, tmp_path, capsys, name, verb):
    """Ground truth: the user's file: resuming wrote over whatever history.jsonl pointed to."""
    mine = tmp_path / "authorized_keys"
    mine.write_text("ssh-ed25519 mine")
    (theirs / name).unlink()
    (theirs / name).symlink_to(mine)
    words = ("train", "--resume", "--run", theirs) if verb == "train" else (verb, theirs)
    code, out, err = tito(capsys, *words)
    assert code == 2 and "fix:" in err and "ssh-ed25519" not in out + err
    assert mine.read_text() == "ssh-ed25519 mine"


def test_checkpoints_that_lie_elsewhere(theirs, tmp_path, capsys):
    """Ground truth: the user's own run: resuming the other would have saved into it, and removed
    its old steps."""
    mine = shutil.copytree(theirs, tmp_path / "mine")
    before = everything(mine)
    shutil.rmtree(theirs / "checkpoints")
    (theirs / "checkpoints").symlink_to(mine / "checkpoints")
    code, _, err = tito(capsys, "train", "--resume", "--run", theirs)
    assert code == 2 and "checkpoints of this run is elsewhere" in err
    assert everything(mine) == before


def test_a_step_that_is_a_link_to_a_web_application(theirs, tmp_path, capsys):
    """Ground truth: its files: resuming deleted them."""
    mine = extension(tmp_path / "my-extension")
    before = everything(mine)
    (step,) = (theirs / "checkpoints").glob("step-*")
    for number in (step.name[5:], "000004", "000006", "000009"):
        if number != step.name[5:]:
            (theirs / "checkpoints" / f"step-{number}").symlink_to(mine)
    with pytest.warns(RuntimeWarning, match="damaged"):
        code, _, err = tito(capsys, "train", "--resume", "--run", theirs)
    assert code == 0, err
    assert everything(mine) == before


def test_a_folder_of_data_is_used_only_when_given_again(theirs, tmp_path, capsys, monkeypatch):
    """Ground truth: the folder that the other's settings name: a download emptied what NAME.part
    pointed to there."""
    evil, mine = tmp_path / "evil; touch x", tmp_path / "thesis"
    (evil / "mnist").mkdir(parents=True)
    mine.write_text("years of work")
    for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"):
        (evil / "mnist" / f"{name}.part").symlink_to(mine)
    settings = json.loads((theirs / "settings.json").read_text())
    settings |= {"data": "mnist", "data_dir": str(evil)}
    (theirs / "settings.json").write_text(json.dumps(settings))
    before = everything(evil)
    code, _, err = tito(capsys, "train", "--resume", "--run", theirs)
    assert code == 2 and "has to be named again" in err
    assert f"--run {theirs} --data-dir '{evil}'" in err
    monkeypatch.setattr("tinytorch.data.mnist.FILES", _unreachable())
    code, _, err = tito(capsys, "train", "--resume", "--run", theirs, "--data-dir", evil)
    assert code == 2 and "MNIST is not here" in err
    assert everything(evil) == before and mine.read_text() == "years of work"


def _unreachable():
    from dataclasses import replace

    from tinytorch.data import mnist

    nobody = ("http://127.0.0.1:9/x",)
    return {split: tuple(replace(f, addresses=nobody) for f in files)
            for split, files in mnist.FILES.items()}  # fmt: skip


SETTINGS = {"format": 1, "data": "digits", "model": "mlp", "epochs": 1, "batch_size": 5, "lr": 0.1}


@pytest.mark.parametrize(
    "change",
    [
        {"format": True}, {"format": 1.0}, {"format": "1"}, {"data": 3}, {"data": ["digits"]},
        {"model": None}, {"epochs": "3"}, {"epochs": True}, {"epochs": -1}, {"epochs": 0},
        {"epochs": 1.5}, {"epochs": 10**400}, {"batch_size": 0}, {"batch_size": [64]},
        {"lr": "0.1"}, {"lr": -1.0}, {"lr": None}, {"lr": True}, {"seed": "7"},
        {"seed": -1}, {"seed": 10**30}, {"precision": "float8"}, {"precision": 16}, {"eager": 1},
        {"eager": "no"}, {"data_dir": 3}, {"data_dir": ["/"]}, {"data": "\x1b[2J", "lr": -1},
    ],
    ids=str,
)  # fmt: skip
def test_settings_of_other_types_are_refused(tmp_path, change):
    """Ground truth: what `tito train` writes; four parts without control characters."""
    (tmp_path / "settings.json").write_text(json.dumps(SETTINGS | change))
    with pytest.raises(FileFormatError, match="settings of this run cannot be read") as told:
        RunFolder.open(tmp_path)
    assert str(told.value).replace("\n", "").isprintable() and len(str(told.value)) < 2000


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(SETTINGS)[:-1] + ', "epochs": 100}',
        json.dumps(SETTINGS).replace("0.1", "NaN"),
        json.dumps(SETTINGS).replace("0.1", "1e999"),
        "[" * 50_000,
        "\xff",
    ],
)
def test_settings_that_are_ambiguous_are_refused(tmp_path, text):
    """Ground truth: RFC 8259 and one value for each name."""
    (tmp_path / "settings.json").write_text(text, encoding="latin1")
    with pytest.raises(FileFormatError, match="settings of this run cannot be read"):
        RunFolder.open(tmp_path)


def test_settings_that_are_no_file(tmp_path, capsys):
    """Ground truth: refused at once: a pipe is not waited for, 20 GB are not read."""
    os.mkfifo(tmp_path / "settings.json")
    assert tito(capsys, "train", "--resume", "--run", tmp_path)[0] == 2
    (tmp_path / "settings.json").unlink()
    with (tmp_path / "settings.json").open("wb") as file:
        file.truncate(20 << 30)
    assert tito(capsys, "curve", tmp_path)[0] == 2


def test_notes_and_names_do_not_reach_the_terminal(theirs, capsys):
    """Ground truth: str.isprintable of every line: titles, colours and cursors were set by names in
    a history and notes in a model file."""
    evil = "\x1b]0;mine\x07\x1b[2J\x9b2J\u202e"
    found = read(theirs / "model.safetensors")
    notes = found.metadata | {"test accuracy": evil, evil: evil}
    arrays = {name: (array.copy(), dtype) for name, (array, dtype) in found.arrays.items()}
    save(theirs / "model.safetensors", arrays, notes)
    rows = [{"epoch": i, f"{evil}loss": 1.0 / i, f"{evil}accuracy": 0.5} for i in (1, 2)]
    (theirs / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for words in (
        ("curve", theirs), ("curve", theirs, "--svg", theirs / "x.svg"),
        ("curve", theirs, "--json"), ("predict", theirs),
        ("predict", theirs, "--json"), ("evaluate", theirs),
    ):  # fmt: skip
        code, out, err = tito(capsys, *words)
        assert code == 0, err
        assert (out + err).replace("\n", "").isprintable(), words
    assert (theirs / "x.svg").read_text().replace("\n", "").isprintable()
    save(theirs / "model.safetensors", arrays, {"data": evil, "model": evil})
    code, out, err = tito(capsys, "predict", theirs)
    assert code == 2 and (out + err).replace("\n", "").isprintable()


def test_a_picture_is_written_through_no_link(theirs, tmp_path, capsys):
    """Ground truth: the user's file."""
    mine = tmp_path / "thesis"
    mine.write_text("years of work")
    (tmp_path / "x.svg").symlink_to(mine)
    rows = [{"epoch": i, "loss": 1.0 / i} for i in (1, 2)]
    (theirs / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, err = tito(capsys, "curve", theirs, "--svg", tmp_path / "x.svg")
    assert code == 2 and "not a file that can be replaced" in err
    assert mine.read_text() == "years of work"


def test_paths_in_advice_are_one_word_of_a_shell(tmp_path, capsys):
    """Ground truth: shlex.split of what follows "fix:"."""
    import shlex

    run = tmp_path / "run; touch ran"
    RunFolder.begin(ASKED, run)
    for words in (("curve", run), ("predict", run), ("train", "digits", "--run", run)):
        code, _, err = tito(capsys, *words)
        assert code == 2
        advice = shlex.split(err.split("fix:")[1])
        assert str(run) in advice or f"{run}," in advice, err


def test_tensors_of_a_model_file_are_of_their_type(theirs, capsys):
    """Ground truth: arrays of another shape or kind are refused; nothing is computed with them."""
    import numpy as np

    found = read(theirs / "model.safetensors")
    name = next(iter(found.arrays))
    for wrong in (np.zeros(3, np.float32), np.zeros(found.arrays[name][0].shape, np.int64)):
        arrays = {n: (a.copy(), d) for n, (a, d) in found.arrays.items()} | {name: wrong}
        save(theirs / "model.safetensors", arrays, found.metadata)
        code, _, err = tito(capsys, "predict", theirs)
        assert code == 2 and "fix:" in err
