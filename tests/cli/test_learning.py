"""A run in the making: what it is made of, and what it says of itself."""

import pytest

from tinytorch.cli.learning import Pictures
from tinytorch.cli.runs import RunFolder, Settings, load_model
from tinytorch.training.history import Silent

ASKED = Settings("digits", "mlp", 1, 500, 3e-3, eager=True)


def test_pictures_say_what_they_are():
    """Ground truth: the shipped data set, 1,797 images, and the sums of 64-256-128-10."""
    learning = Pictures(ASKED, Silent())
    decided = learning.decided()
    assert decided["images"] == "1442 to train, 355 to test, 8x8"
    weights = 64 * 256 + 256 + 256 * 128 + 128 + 128 * 10 + 10
    assert learning.weights() == weights and str(weights) in str(decided["model"])
    assert set(learning.verbs) == {"evaluate", "predict", "curve"}
    assert learning.found({"accuracy": 0.5}, as_json=False)["test accuracy"].startswith("50.00 %")
    assert learning.found({"accuracy": 0.5}, as_json=True) == {"test accuracy": 0.5}


def test_the_rate_rises_and_falls(tmp_path):
    """Ground truth: a tenth of the steps up a line to the highest rate, then half a cosine to 0;
    two steps an epoch here. What is saved is what was trained."""
    learning = Pictures(Settings("digits", "mlp", 5, 500, 3e-3, eager=True), Silent())
    assert learning.trainer.optimizer.param_groups[0]["lr"] == pytest.approx(3e-3)
    folder = RunFolder.begin(learning.settings, tmp_path / "run")
    learning.learn(folder, resume=False)
    assert learning.trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)
    found = learning.evaluate()
    learning.save(folder, found)
    assert load_model(folder.path).facts["test accuracy"] == f"{found['accuracy']:.4f}"
    assert folder.history.is_file()
