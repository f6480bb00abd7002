"""What `tito` knows by name: data sets, networks, and the settings that learn them."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import SettingError
from tinytorch.cli.recipes import DATA_SETS, NETWORKS, RECIPES, build, data_set, recipe_for


def test_ten_classes_each():
    """Ground truth: ten different names for labels 0..9."""
    assert all(len(set(known.classes)) == 10 for known in DATA_SETS.values())


def test_digits_are_as_described():
    """Ground truth: the shipped files."""
    known = DATA_SETS["digits"]
    test = known.load("test", None, None)
    images, labels = test.take(np.arange(3))
    assert images.shape == (3, *known.shape) and len(test) == known.test_batch
    assert labels.max() < len(known.classes) and known.transform() is None


@pytest.mark.data
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_official_files_are_as_described(name, official_data):
    """Ground truth: the official files: sizes, shapes, numbers in [0, 1]."""
    known = DATA_SETS[name]
    for split, size in (("train", {"mnist": 60_000, "cifar10": 50_000}[name]), ("test", 10_000)):
        data = known.load(split, official_data, None)
        images, labels = data.take(np.arange(4))
        assert len(data) == size and images.shape == (4, *known.shape)
        assert images.dtype == np.float32 and 0 <= images.min() and images.max() <= 1
        assert labels.dtype == np.int64


def test_pictures_in_colour_are_cropped_and_mirrored():
    """Ground truth: the same shape and type; a picture is found again, shifted by at most four
    pixels, mirrored or not."""
    from tinytorch.data import Stream

    transform = DATA_SETS["cifar10"].transform()
    rng = np.random.default_rng(0)
    images = rng.random((8, 3, 32, 32)).astype(np.float32) + 1  # never 0, as the padding is
    changed, labels = transform((images, np.arange(8)), Stream(seed=1))
    assert changed.shape == images.shape and changed.dtype == images.dtype
    assert labels.tolist() == list(range(8))
    padded = np.pad(images, ((0, 0), (0, 0), (4, 4), (4, 4)))
    for i in range(8):
        windows = [padded[i, :, a : a + 32, b : b + 32] for a in range(9) for b in range(9)]
        assert any(
            np.array_equal(changed[i], w) or np.array_equal(changed[i], w[:, :, ::-1])
            for w in windows
        )


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("cifar", "cifar10"), ("CIFAR-10", "cifar10"), ("fashions", "fashion"), ("mnst", "mnist")],
)
def test_the_nearest_name_is_proposed(typed, meant):
    """Ground truth: what was meant (training.md: "cifar" was answered with digits)."""
    with pytest.raises(SettingError, match=f"fix:  tito train {meant}$"):
        data_set(typed)
    with pytest.raises(SettingError, match="--model resnet20"):
        recipe_for("digits", "resnet")


# --- Networks for pictures of every data set's shape ---

SHAPES = sorted({known.shape for known in DATA_SETS.values()})


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_fits_every_data_set(name, shape):
    """Ground truth: ten finite numbers for each of two pictures."""
    tt.manual_seed(0)
    network = build(name, shape).eval()
    found = network(tt.Tensor(np.full((2, *shape), 0.5, np.float32))).numpy()
    assert found.shape == (2, 10) and np.isfinite(found).all()


# --- Recipes: what `tito` knows of each data set and network ---


def test_every_data_set_has_a_recipe_for_every_network():
    """Ground truth: the two tables; no recipe is for something else."""
    assert set(RECIPES) == {(data, model) for data in DATA_SETS for model in NETWORKS}
    assert recipe_for("mnist", "cnn") is RECIPES["mnist", "cnn"]


def test_the_test_batches_divide_the_test_parts():
    """Ground truth: 355 and 10,000 images; so that measuring needs one compiled program."""
    sizes = {"digits": 355, "mnist": 10_000, "fashion": 10_000, "cifar10": 10_000}
    assert all(sizes[name] % known.test_batch == 0 for name, known in DATA_SETS.items())


def test_unknown_names_are_refused():
    """Ground truth: names that are in no table; the message lists those that are."""
    with pytest.raises(SettingError, match="no data set of that name"):
        recipe_for("cats", "cnn")
    with pytest.raises(SettingError, match="no network of that name"):
        recipe_for("mnist", "cats")
    with pytest.raises(SettingError, match="no network of that name"):
        build("cats", (1, 8, 8))
    with pytest.raises(SettingError, match="no data set of that name"):
        data_set("cats")
