"""Run folders: what belongs to a training, and how it is found again."""

import json
import os

import pytest

from tinytorch.base.errors import FileFormatError, SettingError
from tinytorch.cli.runs import RunFolder, Settings

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
