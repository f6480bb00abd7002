"""figures.py: which pictures `tito evaluate --figures` writes, and of what."""

import json

import numpy as np
import pytest

import tinytorch as tt
from tests.test_cli import tito
from tinytorch.cli.figures import write_answers, write_learning
from tinytorch.cli.recipes import build
from tinytorch.cli.runs import SavedModel
from tinytorch.data import load_digits


@pytest.mark.parametrize(("model", "wanted"), [
    ("mlp", ["confusion", "mistakes"]), ("lenet", ["confusion", "filters", "maps", "mistakes"]),
])  # fmt: skip
def test_pictures_of_a_network(tmp_path, model, wanted):
    """Ground truth: the names; networks without convolutions have no filters."""
    tt.manual_seed(0)
    saved = SavedModel(tmp_path, build(model, (1, 8, 8)).eval(), "digits", model, {})
    part, shares = load_digits("test"), np.full((355, 10), 0.1)
    written = write_answers(tmp_path / "new", saved, part, part.labels, shares)
    assert sorted(p.stem for p in written) == wanted
    assert sorted(written) == sorted((tmp_path / "new").iterdir())


def test_who_makes_no_mistake_has_no_picture_of_them(tmp_path):
    """Closed form: probability 1 for each label."""
    saved = SavedModel(tmp_path, build("mlp", (1, 8, 8)).eval(), "digits", "mlp", {})
    part = load_digits("test")
    written = write_answers(tmp_path, saved, part, part.labels, np.eye(10)[part.labels])
    assert [p.stem for p in written] == ["confusion"]


def test_without_a_history_there_are_no_curves(tmp_path):
    """Ground truth: no file, an empty file; then one epoch."""
    file = tmp_path / "history.jsonl"
    assert write_learning(tmp_path, file) == []
    file.write_text("")
    assert write_learning(tmp_path, file) == []
    file.write_text('{"epoch": 1, "loss": 0.5}\n')
    assert write_learning(tmp_path, file) == [tmp_path / "curves.png"]


def test_the_command_writes_them(tmp_path, capsys):
    """Ground truth: the files; sentences and JSON name them."""
    run, seen = tmp_path / "run", tmp_path / "seen"
    words = ("train", "digits", "--eager", "--model", "mlp", "--epochs", 1, "--run", run)
    assert tito(capsys, *words)[0] == 0
    code, out, _ = tito(capsys, "evaluate", run, "--eager", "--json", "--figures", seen)
    event = json.loads(out.splitlines()[-1])
    assert code == 0 and event["event"] == "written"
    assert {p.name for p in seen.iterdir()} == {"confusion.png", "mistakes.png", "curves.png"}
    assert all(str(p) in str(event["figures"]) for p in seen.iterdir())
