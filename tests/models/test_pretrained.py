"""pretrained.py: shipped networks do what is said of them; logs say how they were made."""

import hashlib
import json

import numpy as np
import pytest

import tinytorch as tt
from benchmarks import RESULTS
from tinytorch import compression, models, nn, storage, text
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.data import TextWindows, load_cifar10, load_mnist, load_tiny_shakespeare
from tinytorch.models import next_token_loss
from tinytorch.models.pretrained import (
    FILES,
    NETWORKS,
    packed,
    pretrained,
    pretrained_facts,
    unpacked,
)

LARGEST = 3_000_000  # bytes of a shipped file
# Shares of test data that are right, at least.
ASKED = {"xor": 1.0, "mnist": 0.993, "cifar10": 0.84}
LOSS = 1.6  # of a character of Shakespeare's last tenth, at most
# Trained before logs were kept.
WITHOUT_LOG = {"cifar10"}


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
    """Ground truth: what the training script writes; the accuracy that is asked."""
    facts = pretrained_facts(name)
    assert facts["made by"] == f"python scripts/train_pretrained {name}"
    assert float(facts.get("accuracy", 1)) >= ASKED.get(name, 1)
    assert float(facts.get("loss", 0)) <= LOSS and ("loss" in facts) != ("accuracy" in facts)
    assert (FILES / f"{name}.safetensors").stat().st_size < LARGEST
    network = pretrained(name)
    assert not network.training and all(p.dtype is tt.float32 for p in network.parameters())


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - WITHOUT_LOG))
def test_the_log_is_that_of_the_file(name):
    """Ground truth: the file's SHA-256 and its facts; another can do the command again."""
    log = json.loads((RESULTS / f"pretrained-{name}.json").read_text())
    file = FILES / f"{name}.safetensors"
    *epochs, last = log["rows"]
    assert last["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert last["bytes"] == file.stat().st_size
    assert pretrained_facts(name).items() <= last.items()
    assert log["command"] == last["made by"] and log["machine"]["commit"]
    losses = [row["loss"] for row in epochs if "loss" in row]
    assert losses[-1] < losses[0]


def test_the_docstring_states_what_the_files_say():
    """Ground truth: the files."""
    for name in ("mnist", "cifar10"):
        said = 100 * float(pretrained_facts(name)["accuracy"])
        assert f"{said:.2f} %" in str(pretrained.__doc__)

    assert pretrained_facts("shakespeare")["loss"] in str(pretrained.__doc__)


def test_every_shipped_file_has_a_network():
    """Ground truth: the folder."""
    assert {path.stem for path in FILES.glob("*.safetensors")} == set(NETWORKS)


def test_a_name_that_is_not_there():
    """Ground truth: the docstring."""
    with pytest.raises(SettingError, match="no trained network of that name"):
        models.pretrained("imagenet")


# --- how weights lie in a file ---


def made() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 8), nn.Linear(8, 2)
    )


def test_halves_come_back():
    """Closed form: float16 of each weight; whole numbers as they are; nothing of bytes."""
    tt.manual_seed(0)
    network = made()
    network[1].num_batches_tracked.fill_(70_000)  # no float16
    found = unpacked(made(), packed(network)).state_dict()
    for name, before in network.state_dict().items():
        wanted = before.numpy()
        if wanted.dtype.kind == "f":
            wanted = wanted.astype(np.float16).astype(np.float32)
        assert np.array_equal(found[name].numpy(), wanted), name


@pytest.mark.parametrize("in_bytes", [True, False])
def test_bytes_come_back(tmp_path, in_bytes):
    """Ground truth: the quantized model itself, through a file, or the floats for which its bytes
    stand: bit for bit, since its biases and norms are halves already."""
    tt.manual_seed(0)
    small = compression.quantize(unpacked(made(), packed(made())))
    storage.save(tmp_path / "x", packed(small), {})
    arrays = {name: x for name, (x, _) in storage.load(tmp_path / "x").items()}
    assert arrays["3.weight.numbers"].dtype == np.int8
    assert arrays["3.weight.scale"].dtype == np.float32 and arrays["3.bias"].dtype == np.float16
    again = unpacked(made(), arrays, in_bytes)
    assert not again.training and all(p.requires_grad != in_bytes for p in again.parameters())
    wanted = small if in_bytes else compression.dense(small)
    assert isinstance(again[3].weight, nn.QuantizedWeight) == in_bytes
    for (name, x), (other, y) in zip(
        again.state_dict().items(), wanted.state_dict().items(), strict=True
    ):
        assert name == other and np.array_equal(x.numpy(), y.numpy()), name
    x = tt.randn(2, 1, 8, 8, generator=tt.Generator(1))
    with tt.no_grad():
        assert np.array_equal(again(x).numpy(), wanted(x).numpy())


def test_arrays_of_another_network_are_refused():
    """Ground truth: a missing layer, another width."""
    with pytest.raises(SettingError):
        unpacked(made(), packed(nn.Sequential(*made()[:4])))
    small = packed(compression.quantize(nn.Sequential(nn.Linear(4, 3))))
    with pytest.raises(ShapeError):
        unpacked(nn.Sequential(nn.Linear(4, 2)), small)


# --- on official data ---


@pytest.mark.data
def test_digits_are_read_as_often_as_said(official_data):
    """Ground truth: the accuracy in the file; another order of sums may turn one case in 10,000."""
    images, labels = load_mnist("test", official_data).take(np.arange(10_000))
    said = float(pretrained_facts("mnist")["accuracy"])
    found = right("mnist", images, labels)
    assert found == pytest.approx(said, abs=2e-4) and found >= ASKED["mnist"]


@pytest.mark.data
def test_things_are_named_as_often_as_said(official_data):
    """Ground truth: the accuracy in the file; another order of sums may turn one case in 10,000."""
    images, labels = load_cifar10(False, official_data).take(np.arange(10_000))
    said = float(pretrained_facts("cifar10")["accuracy"])
    assert right("cifar10", images, labels) == pytest.approx(said, abs=3e-4)


@pytest.mark.data
def test_shakespeare_is_foreseen_as_well_as_said(official_data):
    """Ground truth: the loss in the file, over the last tenth of the text; another order of sums
    turns bytes here and there."""
    facts, model = pretrained_facts("shakespeare"), pretrained("shakespeare")
    tokens = text.CharacterTokenizer(facts["characters"]).encode(
        load_tiny_shakespeare(official_data)
    )
    windows = TextWindows(tokens[int(0.9 * len(tokens)) :], model.config.length, vocab=65)

    @tt.compile
    def loss_of(x, y):
        with tt.no_grad():
            return next_token_loss(model(x), y)

    parts = np.split(np.arange(len(windows)), range(128, len(windows), 128))
    losses = [loss_of(*map(tt.Tensor, windows.take(part))).item() for part in parts]
    mean = np.average(losses, weights=[len(part) for part in parts])
    assert mean == pytest.approx(float(facts["loss"]), abs=1e-3)
