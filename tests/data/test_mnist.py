"""MNIST: found where it may lie, refused when damaged, and a helpful error without a network."""

import gzip
import hashlib
import struct

import numpy as np
import pytest

from tinytorch.base.errors import DataError, SettingError
from tinytorch.data import load_mnist, mnist, official
from tinytorch.data.official import Remote

IMAGES = np.arange(3 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(3, 28, 28)
LABELS = np.array([7, 0, 9], np.uint8)


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(head + array.tobytes())


CONTENTS = {
    "t10k-images-idx3-ubyte.gz": idx(IMAGES),
    "t10k-labels-idx1-ubyte.gz": idx(LABELS),
}


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The data set's test part, replaced by three made images; nobody answers its addresses."""
    files = tuple(
        Remote(name, hashlib.md5(content).hexdigest(), (f"http://127.0.0.1:9/{name}",))
        for name, content in CONTENTS.items()
    )
    monkeypatch.setitem(mnist.FILES, "test", files)
    monkeypatch.setenv("TINYTORCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(official.VARIABLE, raising=False)


def put(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)


def assert_loaded(data):
    assert np.array_equal(data.images, IMAGES)
    images, labels = data.take(np.array([2]))
    assert images.shape == (1, 1, 28, 28) and labels.tolist() == [9]


@pytest.mark.parametrize("part", ["", "mnist"])
def test_found_in_every_place(small, tmp_path, monkeypatch, part):
    """Ground truth: the made images, from the folder asked for, the variable's, and the cache."""
    put(tmp_path / "asked" / part)
    assert_loaded(load_mnist("test", tmp_path / "asked"))
    with pytest.raises(DataError):
        load_mnist("test")
    put(tmp_path / "named" / part)
    monkeypatch.setenv(official.VARIABLE, str(tmp_path / "named"))
    assert_loaded(load_mnist("test"))
    monkeypatch.delenv(official.VARIABLE)
    put(tmp_path / "cache" / "data" / part)
    assert_loaded(load_mnist("test"))


def test_the_folder_asked_for_is_the_only_one(small, tmp_path, monkeypatch):
    """Ground truth: an empty folder that the user names is an error, not a reason to look on."""
    put(tmp_path / "named")
    monkeypatch.setenv(official.VARIABLE, str(tmp_path / "named"))
    with pytest.raises(DataError, match="not here"):
        load_mnist("test", tmp_path / "asked")


def test_without_a_network_the_error_says_what_to_put_where(small, tmp_path, monkeypatch):
    """Ground truth: the four parts: the file missed, the places looked at, all names, the cure."""
    monkeypatch.setenv(official.VARIABLE, str(tmp_path / "named"))
    with pytest.raises(DataError, match="could not be downloaded") as raised:
        load_mnist("test")
    error = raised.value
    assert "t10k-images-idx3-ubyte.gz" in error.what
    assert str(tmp_path / "named") in error.got and str(tmp_path / "cache") in error.got
    assert "refused" in error.got
    assert all(f.name in error.rule for files in mnist.FILES.values() for f in files)
    assert str(tmp_path / "cache" / "data" / "mnist") in error.fix
    assert "--data-dir" in error.fix and "TINYTORCH_DATA" in error.fix


def test_a_folder_that_cannot_be_made_is_the_same_error(small, tmp_path):
    """Ground truth: a file in the folder's place; the message still says what to put where."""
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="could not be downloaded"):
        load_mnist("test", tmp_path / "file")


def test_damaged_files_are_refused(small, tmp_path):
    """Ground truth: the checksum; the damaged file is named and left for the user to see."""
    put(tmp_path / "asked")
    path = tmp_path / "asked" / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz is damaged"):
        load_mnist("test", tmp_path / "asked")
    assert path.exists()


def test_no_such_split():
    """Ground truth: the documented splits."""
    with pytest.raises(SettingError, match="no such split"):
        load_mnist("valid")


@pytest.mark.data
@pytest.mark.parametrize(("split", "n", "first"), [("train", 60000, 5), ("test", 10000, 7)])
def test_the_official_files(official_data, split, n, first):
    """Ground truth: the published sizes and the first label of each part."""
    data = load_mnist(split, official_data)
    assert data.images.shape == (n, 28, 28)
    assert data.labels[0] == first
    assert np.bincount(data.labels, minlength=10).min() > n // 12
