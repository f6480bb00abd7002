"""Saved models: weights, and the notes that say what they are."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import FileFormatError
from tinytorch.cli.recipes import build
from tinytorch.cli.runs import RunFolder, Settings, load_model, save_model
from tinytorch.storage import save


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
