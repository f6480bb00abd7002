"""classifiers.py: MLP, LeNet, CNN: settings, errors, counts; trained ones do what is said.

The vision transformer: tests/test_every_model.py.
"""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import models
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.data import load_cifar10, load_mnist
from tinytorch.models import CNN, MLP, LeNet
from tinytorch.models.classifiers import FILES, NETWORKS, pretrained, pretrained_facts


def weights(model) -> int:
    return sum(p.size for p in model.parameters())


def test_parameter_counts():
    """Closed form, layer by layer."""
    assert weights(MLP([784, 256, 128, 10])) == 785 * 256 + 257 * 128 + 129 * 10
    conv = 9 * (32 + 32 * 32 + 32 * 64 + 64 * 64)
    assert weights(CNN(28)) == conv + 2 * (2 * 32 + 2 * 64) + 64 * 49 * 10 + 10


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
        (lambda: MLP([10]), "sizes name the features"),
        (lambda: MLP([10, 0]), r"sizes\[1\] is not a whole number"),
        (lambda: CNN(3, widths=(4, 4)), "image is too small for so many stages"),
        (lambda: CNN(8, widths=(4, -1)), "widths is not a whole number"),
    ],
)
def test_bad_sizes_are_named(make, phrase):
    """Ground truth: the ranges in the docstrings."""
    with pytest.raises(SettingError, match=phrase):
        make()


def test_numbers_of_weights():
    """Closed form, layer by layer: the paper's 32 x 32, and MNIST's 28 padded to it, agree."""
    count = 6 * 26 + 16 * 151 + 120 * 401 + 84 * 121 + 10 * 85
    for size in (28, 32):
        assert sum(p.size for p in LeNet(size).parameters()) == count


@pytest.mark.parametrize("size", [4, 8, 15, 16, 31, 33])
def test_any_size_from_four_on(size):
    """Ground truth: its docstring."""
    assert LeNet(size, channels=2, classes=3)(tt.zeros(2, 2, size, size)).shape == (2, 3)


def test_pictures_that_do_not_fit_are_named():
    """Ground truth: the ranges in the docstring."""
    with pytest.raises(SettingError, match="the image is too small"):
        LeNet(2)
    with pytest.raises(SettingError, match="classes is not a whole number"):
        LeNet(classes=0)
    with pytest.raises(ShapeError, match="the pictures do not fit"):
        LeNet(28)(tt.zeros(2, 1, 32, 32))


LARGEST = 200_000  # bytes of a shipped file


def right(name: str, images: np.ndarray, labels: np.ndarray) -> float:
    network = pretrained(name)

    @tt.compile
    def predict(x):
        with tt.no_grad():
            return network(x).argmax(1)

    batches = (images[i : i + 250] for i in range(0, len(images), 250))
    return float((np.concatenate([predict(x).numpy() for x in batches]) == labels).mean())


def test_xor_is_right_four_times():
    """Closed form: exclusive or."""
    bits = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    said = pretrained("xor")(tt.Tensor(bits)).detach().numpy()[:, 0] > 0
    assert said.tolist() == [False, True, True, False]


@pytest.mark.parametrize("name", NETWORKS)
def test_files_are_small_and_say_what_they_are(name):
    """Ground truth: what the training script writes; an accuracy a course would be content with."""
    facts = pretrained_facts(name)
    assert facts["made by"] == f"python scripts/train_pretrained {name}"
    assert float(facts["accuracy"]) >= {"xor": 1.0, "mnist": 0.97, "cifar10": 0.75}[name]
    assert (FILES / f"{name}.safetensors").stat().st_size < LARGEST
    network = pretrained(name)
    assert not network.training and all(p.dtype is tt.float32 for p in network.parameters())


def test_the_docstring_states_what_the_files_say():
    """Ground truth: the files."""
    for name in ("mnist", "cifar10"):
        said = 100 * float(pretrained_facts(name)["accuracy"])
        assert f"{said:.2f} %" in str(pretrained.__doc__)


def test_every_shipped_file_has_a_network():
    """Ground truth: the folder."""
    assert {path.stem for path in FILES.glob("*.safetensors")} == set(NETWORKS)


def test_a_name_that_is_not_there():
    """Ground truth: the docstring."""
    with pytest.raises(SettingError, match="no trained network of that name"):
        models.pretrained("imagenet")


@pytest.mark.data
def test_digits_are_read_as_often_as_said(official_data):
    """Ground truth: the accuracy in the file; another order of sums may turn one case in 10,000."""
    images, labels = load_mnist("test", official_data).take(np.arange(10_000))
    said = float(pretrained_facts("mnist")["accuracy"])
    assert right("mnist", images, labels) == pytest.approx(said, abs=2e-4)


@pytest.mark.data
def test_things_are_named_as_often_as_said(official_data):
    """Ground truth: the accuracy in the file; another order of sums may turn one case in 10,000."""
    images, labels = load_cifar10(False, official_data).take(np.arange(10_000))
    said = float(pretrained_facts("cifar10")["accuracy"])
    assert right("cifar10", images, labels) == pytest.approx(said, abs=3e-4)
