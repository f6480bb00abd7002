"""shipped.py: the shipped networks do what their files say."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import models
from tinytorch.base.errors import SettingError
from tinytorch.data import load_cifar10, load_mnist
from tinytorch.models.shipped import FILES, NETWORKS, pretrained, pretrained_facts

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
