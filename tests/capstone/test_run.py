"""A whole capstone in one folder: what lies there, going on, and what is refused."""

import json

import pytest

from tests.capstone.made import SMALL
from tinytorch import capstone, export
from tinytorch.base.errors import FileFormatError, SettingError
from tinytorch.capstone import demo, run
from tinytorch.capstone import measurement as measuring
from tinytorch.capstone.findings import FILE
from tinytorch.capstone.run import read_settings
from tinytorch.training import Trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a run of the small challenge, what it said, and what it found."""
    place, said = tmp_path_factory.mktemp("run") / "new", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "SECONDS", 0.0)
        patch.setattr(run, "draw_figures", lambda *given: {})  # see test_figures.py
        found = capstone.run_challenge(SMALL, place, say=said.append)
    return place, said, found


def test_everything_is_there_and_agrees(folder):
    """Ground truth: the findings in the folder: targets met, each step's row; the package gives the
    accuracy of the model that it is of."""
    place, said, found = folder
    assert json.loads((place / FILE).read_text())["challenge"] == SMALL.settings()
    assert all(found.final.met(capstone.targets_of(capstone.METRICS)).values())
    assert found.final.bytes < found.baseline.bytes / 4 and found.final.flops < found.baseline.flops
    assert len(found.journey) == 6 and len(found.ablation) == 12
    assert found.ablation[-1].found.weights == found.final.weights
    package = found.package
    assert package["pictures"] == len(SMALL.part(False)) == 200
    assert package["accuracy"] == pytest.approx(found.final.accuracy)
    assert package["process_bytes"] is None or 1e6 < package["process_bytes"] < 100e6
    assert export.load_package(place / "package").facts["tolerance"] == 0.01
    assert any("x faster" in line for line in said)
    text = (place / "capstone_report.md").read_text()
    assert "Small Digits" in text and "Not measured" not in text


def test_the_same_command_goes_on(folder, monkeypatch):
    """Ground truth: a Trainer that refuses to train; the weights are the same, bit for bit."""
    place, _, before = folder
    monkeypatch.setattr(measuring, "SECONDS", 0.0)
    monkeypatch.setattr(run, "draw_figures", lambda *given: {})
    monkeypatch.setattr(Trainer, "train", None)
    again = capstone.run_challenge(SMALL, place, say=lambda text: None)
    for old, new in zip(before.ablation, again.ablation, strict=True):
        assert (old.found.weights, old.found.accuracy) == (new.found.weights, new.found.accuracy)


def test_the_demonstration_shows_both(folder, capsys):
    """Ground truth: the findings' accuracies, on all of the test pictures of the part."""
    place, _, found = folder
    shown = demo.show(place, SMALL)
    assert shown["baseline_right"] == pytest.approx(found.baseline.accuracy)
    assert shown["optimised_right"] == pytest.approx(found.final.accuracy)
    out = capsys.readouterr().out
    assert "it is" in out and "x faster" in out and "right, of 200" in out
    assert "show(Path(__file__).parent)" in (place / "demo.py").read_text()


def test_other_settings_are_refused(folder):
    """Ground truth: the message names the first that differs."""
    place, _, _ = folder
    with pytest.raises(SettingError, match="run with other settings") as caught:
        capstone.run_challenge(SMALL, place, seed=1)
    assert "seed = 1, then 0" in caught.value.got
    with pytest.raises(SettingError, match="seed is not a whole number"):
        capstone.run_challenge(SMALL, place, seed=-1)


def test_a_folder_with_something_else_is_refused(tmp_path):
    """Ground truth: the folder stays as it was."""
    (tmp_path / "mine.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(SettingError, match="something in this place already"):
            capstone.run_challenge(SMALL, place)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("content", [None, "", "[1]", "{}", '{"seed": NaN}'])
def test_what_is_no_run(tmp_path, content):
    """Ground truth: the message, of four parts."""
    if content is not None:
        (tmp_path / "settings.json").write_text(content)
    with pytest.raises(FileFormatError, match="not the folder of a capstone") as caught:
        read_settings(tmp_path)
    assert caught.value.got and caught.value.rule and caught.value.fix


def test_a_changed_byte_of_the_package_is_seen(folder, tmp_path):
    """Ground truth: a copy with one bit turned."""
    place, _, _ = folder
    for name in ("settings.json", "baseline.safetensors"):
        (tmp_path / name).write_bytes((place / name).read_bytes())
    (tmp_path / "package").mkdir()
    for file in (place / "package").iterdir():
        content = bytearray(file.read_bytes())
        if file.name == "model.o":
            content[len(content) // 2] ^= 1
        (tmp_path / "package" / file.name).write_bytes(content)
    with pytest.raises(FileFormatError):
        demo.show(tmp_path, SMALL)
