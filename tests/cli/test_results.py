"""What a saved model says. The verbs themselves: tests/test_cli.py and test_main.py."""

import numpy as np

import tinytorch as tt
from tinytorch.cli.recipes import build
from tinytorch.cli.results import logits_of, softmax
from tinytorch.cli.runs import SavedModel


def test_logits_are_the_networks(tmp_path):
    """Ground truth: the network called by hand; compiled within rounding of a few products."""
    tt.manual_seed(1)
    network = build("mlp", (1, 8, 8)).eval()
    saved = SavedModel(tmp_path, network, "digits", "mlp", {})
    images = np.random.default_rng(0).random((5, 1, 8, 8)).astype(np.float32)
    wanted = network(tt.Tensor(images)).numpy()
    assert np.array_equal(logits_of(saved, images, eager=True), wanted)
    # three sums of at most 256 products of size 1, float32
    assert np.allclose(logits_of(saved, images), wanted, rtol=0, atol=3 * 256 * 2**-24)


def test_probabilities():
    """Ground truth: closed form: rows add to 1, a shift changes nothing, no overflow."""
    logits = np.array([[0.0, np.log(3.0)], [1e4, -1e4]])
    assert np.allclose(softmax(logits), [[0.25, 0.75], [1, 0]], rtol=1e-15)
    assert np.allclose(softmax(logits + 5), softmax(logits), rtol=1e-12)
