"""MNIST, Fashion-MNIST and the shipped digits, and the idx format they come in."""

import gzip
import hashlib
import struct

import numpy as np
import pytest

from tinytorch.base.errors import DataError, FileFormatError, SettingError
from tinytorch.data import load_digits, load_fashion_mnist, load_mnist, mnist, official
from tinytorch.data.mnist import SHIPPED, read_idx
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


# --- The idx format, read strictly ---


def idx_file(shape, data, kind=8):
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + data


def test_read_idx(tmp_path):
    """Ground truth: a file written by hand, by the published layout."""
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(idx_file((2, 3), bytes([1, 2, 3, 4, 5, 255]))))
    assert np.array_equal(read_idx(path), np.array([[1, 2, 3], [4, 5, 255]], np.uint8))


BAD = {
    "not gzip": b"plain text",
    "cut off": gzip.compress(idx_file((4,), b"abcd"))[:-9],
    "flipped": gzip.compress(idx_file((4,), b"abcd"))[:-8] + b"\0" * 8,
    "empty": gzip.compress(b""),
    "floats": gzip.compress(idx_file((1,), b"abcd", kind=13)),
    "axes cut off": gzip.compress(bytes([0, 0, 8, 3, 0])),
    "too short": gzip.compress(idx_file((5,), b"abcd")),
    "too long": gzip.compress(idx_file((3,), b"abcd")),
    "65 axes": gzip.compress(bytes([0, 0, 8, 65]) + struct.pack(">65I", *[1] * 65) + b"a"),
    "255 axes": gzip.compress(bytes([0, 0, 8, 255]) + struct.pack(">255I", *[1] * 255) + b"a"),
    "shape beyond memory": gzip.compress(idx_file((2**32 - 1,) * 3, b"abcd")),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(case, tmp_path):
    """Ground truth: the published layout and gzip's own checksum."""
    path = tmp_path / "x.gz"
    path.write_bytes(BAD[case])
    with pytest.raises(FileFormatError, match=r"x\.gz is not a valid idx file"):
        read_idx(path)


def test_a_small_file_of_gigabytes_is_not_unpacked(tmp_path):
    """Ground truth: memory of the process: 2 GiB of zeros take some megabytes as gzip."""
    import resource
    import zlib

    path = tmp_path / "x.gz"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for said in (2 << 30, 10):  # bytes that follow, as the head says; there are 2 GiB
        packer = zlib.compressobj(1, wbits=31)
        head = packer.compress(idx_file((said,), b"")) + packer.flush(zlib.Z_FULL_FLUSH)
        block = packer.compress(bytes(1 << 26)) + packer.flush(zlib.Z_FULL_FLUSH)
        path.write_bytes(head + 32 * block)
        with pytest.raises(FileFormatError, match="not a valid idx file") as told:
            read_idx(path)
        assert "bytes" in told.value.rule
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB
    assert grown < 256 << 10


def test_links_pipes_and_missing_files(tmp_path):
    """Ground truth: a link that the user named is read; a pipe is refused at once."""
    import os

    from tinytorch.base.errors import NotFoundError

    (tmp_path / "real.gz").write_bytes(gzip.compress(idx_file((1,), b"a")))
    (tmp_path / "link.gz").symlink_to("real.gz")
    assert read_idx(tmp_path / "link.gz").tolist() == [97]
    os.mkfifo(tmp_path / "pipe.gz")
    with pytest.raises(FileFormatError, match="not a regular file"):
        read_idx(tmp_path / "pipe.gz")
    with pytest.raises(NotFoundError, match="cannot be read"):
        read_idx(tmp_path / "none.gz")


# --- Fashion-MNIST: MNIST's format and rules under another name ---


def test_loaded_from_made_files(tmp_path, monkeypatch):
    """Ground truth: two made images; a damaged file is refused; without one the error helps."""
    contents = {}
    for remote, array in zip(
        mnist.FASHION_FILES["test"],
        [np.full((2, 28, 28), 51, np.uint8), np.array([9, 0], np.uint8)],
        strict=True,
    ):
        head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
        contents[remote.name] = gzip.compress(head + array.tobytes())
    files = [
        Remote(n, hashlib.md5(c).hexdigest(), ("http://127.0.0.1:9/x",))
        for n, c in contents.items()
    ]
    monkeypatch.setitem(mnist.FASHION_FILES, "test", files)
    folder = tmp_path / "fashion-mnist"
    with pytest.raises(DataError, match="Fashion-MNIST is not here") as raised:
        load_fashion_mnist("test", tmp_path)
    assert str(folder) in raised.value.fix and official.VARIABLE in raised.value.fix
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    data = load_fashion_mnist("test", tmp_path)
    images, labels = data.take(np.arange(2))
    assert images.shape == (2, 1, 28, 28) and labels.tolist() == [9, 0]
    assert images[0, 0, 0, 0] == pytest.approx(0.2, rel=1e-6) and data.classes[9] == "ankle boot"
    (folder / files[1].name).write_bytes(b"x")
    with pytest.raises(DataError, match="is damaged"):
        load_fashion_mnist("test", tmp_path)


def test_as_many_files_as_mnist_and_none_the_same():
    """Ground truth: the checksums: no file of one data set is taken for one of the other."""
    ours, theirs = ({f.digest for files in found.values() for f in files}
                    for found in (mnist.FASHION_FILES, mnist.FILES))  # fmt: skip
    assert len(ours) == len(theirs) == 4 and not ours & theirs


def test_no_such_split_of_fashion():
    """Ground truth: the documented splits."""
    with pytest.raises(SettingError, match="no such split"):
        load_fashion_mnist("valid")


# --- The digits that come with the package ---

SHA256 = "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"  # of its 115,008 pixels


def test_the_published_numbers():
    """Ground truth: the data set's page (1,797 images, pixels 0..16) and its class counts."""
    data = load_digits("all")
    assert len(data) == 1797 and data.images.shape == (1797, 8, 8)
    assert (data.images.min(), data.images.max()) == (0, 16)
    counts = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # UCI's optdigits.names, test part
    assert np.bincount(data.labels).tolist() == counts


def test_the_pixels_are_the_published_ones():
    """Ground truth: the sum over scikit-learn's copy, and its first image's first row."""
    images = read_idx(SHIPPED / "digits-images-idx3-ubyte.gz")
    assert images[0, 0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
    assert int(images.sum()) == 561718
    assert hashlib.sha256(images.tobytes()).hexdigest() == SHA256


def test_the_split_is_fixed_stratified_and_complete():
    """Ground truth: counting: a fifth of each class, no image twice, none lost."""
    train, test, everything = (load_digits(s) for s in ("train", "test", "all"))
    whole = np.bincount(everything.labels)
    assert np.bincount(test.labels).tolist() == (whole // 5).tolist()
    assert (np.bincount(train.labels) + np.bincount(test.labels)).tolist() == whole.tolist()
    assert train.images.sum() + test.images.sum() == everything.images.sum()
    assert np.array_equal(test.images, load_digits("test").images)
    with pytest.raises(SettingError, match="no such split"):
        load_digits("validation")


def test_the_attribution_ships_beside_the_files():
    """Ground truth: CC BY 4.0 asks for creator, licence, and the changes made."""
    text = (SHIPPED / "ATTRIBUTION.txt").read_text()
    for needed in ("E. Alpaydin", "C. Kaynak", "CC BY 4.0", "Changes made"):
        assert needed in text
