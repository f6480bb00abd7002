"""Run folders and saved models."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import models
from tinytorch.base.errors import FileFormatError, SettingError
from tinytorch.cli.recipes import build
from tinytorch.cli.runs import RunFolder, Settings, load_model, save_model, shipped
from tinytorch.storage import save

ASKED = Settings("digits", "mlp", 3, 64, 1e-3, seed=7)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_settings_come_back():
    """Ground truth: what was asked; the file is JSON that says which version wrote it."""
    made = RunFolder.begin(ASKED)
    assert str(made.path) == os.path.join("runs", "digits-mlp")
    assert RunFolder.open(made.path).settings == ASKED
    assert json.loads((made.path / "settings.json").read_text())["format"] == 1


def test_nothing_is_overwritten(here):
    """Ground truth: a number is added where there is a run; a place of one's own is refused."""
    names = [RunFolder.begin(ASKED).path.name for _ in range(3)]
    assert names == ["digits-mlp", "digits-mlp-2", "digits-mlp-3"]
    with pytest.raises(SettingError, match="something in this place already") as refused:
        RunFolder.begin(ASKED, here / "runs" / "digits-mlp")
    assert "digits-mlp-4" in refused.value.fix
    (here / "empty").mkdir()
    assert RunFolder.begin(ASKED, here / "empty").path == here / "empty"


def test_the_newest_is_found(here):
    """Ground truth: times of the files, set by hand; data set and network narrow the choice."""
    for i, (data, model) in enumerate((("digits", "mlp"), ("digits", "cnn"), ("mnist", "mlp"))):
        made = RunFolder.begin(Settings(data, model, 1, 1, 1.0))
        for path in (made.path / "settings.json", made.path):
            os.utime(path, (1000 + i, 1000 + i))
    assert RunFolder.newest().path.name == "mnist-mlp"
    assert RunFolder.newest("digits").path.name == "digits-cnn"
    assert RunFolder.newest(model="mlp").path.name == "mnist-mlp"
    (here / "runs" / "digits-mlp" / "history.jsonl").touch()  # worked on now
    assert RunFolder.newest("digits").path.name == "digits-mlp"
    with pytest.raises(FileFormatError, match="no such run to go on with"):
        RunFolder.newest("cifar10")


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        (None, "not the folder of a run"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"format": 2}', "cannot be read"),
        ('{"format": 1, "data": "digits"}', "cannot be read"),
    ],
)
def test_other_folders_are_refused(text, phrase, here):
    """Ground truth: no file, no JSON, another kind, a later format, missing settings."""
    if text is not None:
        (here / "settings.json").write_text(text)
    with pytest.raises(FileFormatError, match=phrase):
        RunFolder.open(here)


# --- Saved models: weights, and the notes that say what they are ---


def test_a_saved_model_comes_back(tmp_path):
    """Ground truth: the weights and notes that were saved, from the file and from its run."""
    tt.manual_seed(3)
    network = build("mlp", (1, 8, 8))
    run = RunFolder.begin(Settings("digits", "mlp", 1, 1, 1.0), tmp_path / "run")
    save_model(network, "digits", "mlp", run.weights, {"seed": "3"})
    for place in (run.weights, run.path):
        again = load_model(place)
        assert (again.data, again.model, again.facts["seed"]) == ("digits", "mlp", "3")
        assert not again.network.training
        wanted, got = network.state_dict(), again.network.state_dict()
        assert wanted.keys() == got.keys()
        assert all(np.array_equal(wanted[n].numpy(), got[n].numpy()) for n in wanted)


def test_a_file_of_someone_else_is_named(tmp_path):
    """Ground truth: a file without the notes of tito."""
    save(tmp_path / "m", {"weight": np.zeros(3, np.float32)})
    with pytest.raises(FileFormatError, match="does not say which model"):
        load_model(tmp_path / "m")


def test_a_run_without_weights_says_how_to_get_them(tmp_path):
    """Ground truth: a run that was killed before its end."""
    run = RunFolder.begin(Settings("digits", "mlp", 1, 1, 1.0), tmp_path / "run")
    with pytest.raises(FileFormatError, match="no such model file") as refused:
        load_model(run.path)
    assert "--resume" in refused.value.fix


def test_what_ships_has_a_name(here):
    """Ground truth: the shipped weights and facts; what lies in the folder comes first."""
    saved = load_model(Path("mnist"))
    assert saved.data == "mnist" and saved.path.name == "mnist.safetensors"
    assert saved.facts["test accuracy"] == models.pretrained_facts("mnist")["accuracy"]
    wanted = models.pretrained("mnist").state_dict()
    assert all(np.array_equal(x.numpy(), wanted[n]) for n, x in saved.network.state_dict().items())
    assert shipped(Path("xor")) == "xor" and shipped(Path("imagenet")) == ""
    with pytest.raises(FileFormatError, match="no such model file"):
        load_model(Path("xor"))  # knows no pictures
    (here / "mnist").mkdir()
    assert shipped(Path("mnist")) == ""
