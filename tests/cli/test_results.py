"""What a saved model says. The verbs themselves: tests/test_cli.py and test_main.py."""

import json

import numpy as np
import pytest
from PIL import Image

import tinytorch as tt
from tests.test_cli import tito
from tinytorch import models
from tinytorch.cli.recipes import build
from tinytorch.cli.results import logits_of, softmax
from tinytorch.cli.runs import SavedModel
from tinytorch.data import load_image, load_mnist


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


def test_own_pictures_get_the_answers_of_the_network_that_ships(tmp_path, capsys):
    """Ground truth: the network called by hand on what `load_image` gives; the likeliest first."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    path = tmp_path / "own.png"
    Image.fromarray(pixels).save(path)
    code, out, err = tito(capsys, "predict", "cifar10", path, "--eager", "--json")
    assert code == 0, err
    found = json.loads(out)
    image = load_image(path, (3, 32, 32))
    logits = models.pretrained("cifar10")(tt.Tensor(image.pixels[None])).detach().numpy()
    shares = softmax(logits)[0]
    assert found["done"] == image.done and found["answer"] == shares.argmax()
    best = list(found["probabilities"].values())
    assert best == pytest.approx(sorted(shares)[:-4:-1], rel=1e-6)
    code, out, _ = tito(capsys, "predict", "cifar10", path, path, "--eager")
    assert code == 0 and out.count(f"{path}: {image.done}") == 2 and "--invert" not in out


@pytest.mark.parametrize("picture", ["none.png", "text.png"])
def test_what_is_no_picture_is_said(tmp_path, capsys, picture):
    """Ground truth: files that are not there, or no picture: an error of four parts."""
    (tmp_path / "text.png").write_text("text")
    code, _, err = tito(capsys, "predict", "mnist", tmp_path / picture, "--eager")
    assert code == 2 and "rule:" in err and picture in err


@pytest.mark.data
def test_a_digit_on_paper_is_read(tmp_path, capsys, official_data):
    """Ground truth: the labels of five test digits, as ink on a page twice as large."""
    images, labels = load_mnist("test", official_data).take(np.arange(5))
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for image, path in zip(images, paths, strict=True):
        ink = np.rint(255 * (1 - image[0])).astype(np.uint8).repeat(2, 0).repeat(2, 1)
        Image.fromarray(np.stack([ink] * 3, -1)).save(path)
    code, out, _ = tito(capsys, "predict", "mnist", *paths, "--eager", "--json", "--invert")
    assert code == 0
    assert [json.loads(line)["answer"] for line in out.splitlines()] == labels.tolist()
    assert "edge is light: --invert" in tito(capsys, "predict", "mnist", paths[0], "--eager")[1]
