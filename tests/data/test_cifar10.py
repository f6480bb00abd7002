"""CIFAR-10: the same pictures from every kind of file; damaged ones are refused."""

import hashlib
import io
import pickle
import tarfile

import numpy as np
import pytest

from tinytorch.base.errors import DataError, FileFormatError, SettingError
from tinytorch.data import CIFAR10_MEAN, CIFAR10_STD, cifar10, load_cifar10, official
from tinytorch.data.official import Remote

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
LABELS = np.array([3, 9, 0, 1, 9, 5])
PARTS = {"data_batch_1": slice(0, 2), "data_batch_2": slice(2, 4), "test_batch": slice(4, 6)}


def binary(images, labels):
    return np.column_stack([labels.astype(np.uint8), images.reshape(len(images), -1)]).tobytes()


def pickled(images, labels):
    batch = {b"data": images.reshape(len(images), -1), b"labels": labels.tolist()}
    return pickle.dumps(batch, protocol=2)


CONTENTS = {
    cifar10.BINARY: {f"{n}.bin": binary(IMAGES[s], LABELS[s]) for n, s in PARTS.items()},
    cifar10.PICKLED: {n: pickled(IMAGES[s], LABELS[s]) for n, s in PARTS.items()},
}


def packed(part):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in {"readme.html": b"hello", **CONTENTS[part]}.items():
            info = tarfile.TarInfo(f"{part}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


ARCHIVES = {part: packed(part) for part in CONTENTS}


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The data set replaced by six made pictures; nobody answers its address."""
    for part, contents in CONTENTS.items():
        files = [Remote(n, hashlib.md5(c).hexdigest(), ()) for n, c in contents.items()]
        monkeypatch.setitem(cifar10.FILES, part, {True: files[:2], False: files[2:]})
        name = "BINARY_ARCHIVE" if part == cifar10.BINARY else "PICKLED_ARCHIVE"
        digest = hashlib.md5(ARCHIVES[part]).hexdigest()
        archive = Remote(getattr(cifar10, name).name, digest, ("http://127.0.0.1:9/x",))
        monkeypatch.setattr(cifar10, name, archive)
    monkeypatch.setenv("TINYTORCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(official.VARIABLE, raising=False)


def archive_name(part):
    return (cifar10.BINARY_ARCHIVE if part == cifar10.BINARY else cifar10.PICKLED_ARCHIVE).name


def put(folder, part, how):
    """The files of one archive, unpacked in its folder, unpacked here, or packed."""
    folder.mkdir(parents=True, exist_ok=True)
    if how == "packed":
        (folder / archive_name(part)).write_bytes(ARCHIVES[part])
        return
    inner = folder / part if how == "folder" else folder
    inner.mkdir(exist_ok=True)
    for name, content in CONTENTS[part].items():
        (inner / name).write_bytes(content)


def assert_loaded(folder, **settings):
    train, test = load_cifar10(True, folder, **settings), load_cifar10(False, folder, **settings)
    assert np.array_equal(train.images[:], IMAGES[:4]) and train.labels.tolist() == [3, 9, 0, 1]
    assert np.array_equal(test.images[:], IMAGES[4:]) and test.labels.tolist() == [9, 5]
    images, labels = train.take(np.array([3, 0]))
    assert images.shape == (2, 3, 32, 32) and images.dtype == np.float32
    # the byte times a rounded 1 / 255, rounded
    assert np.abs(images - IMAGES[[3, 0]] / 255).max() <= np.finfo(np.float32).eps
    assert labels.tolist() == [1, 3] and labels.dtype == np.int64
    assert train.classes[3] == "cat"


@pytest.mark.parametrize("how", ["folder", "here", "packed"])
@pytest.mark.parametrize("part", list(CONTENTS))
def test_every_kind_of_file(small, tmp_path, part, how):
    """Ground truth: the made pictures, packed by the standard library's tarfile and pickle."""
    put(tmp_path / "asked", part, how)
    assert_loaded(tmp_path / "asked")


def test_places(small, tmp_path, monkeypatch):
    """Ground truth: the documented places; the folder asked for is the only one."""
    put(tmp_path / "named", cifar10.BINARY, "folder")
    monkeypatch.setenv(official.VARIABLE, str(tmp_path / "named"))
    assert_loaded(None)
    with pytest.raises(DataError, match="not here"):
        load_cifar10(True, tmp_path / "asked")


def test_left_in_the_files(small, tmp_path):
    """Ground truth: the made pictures; the bytes are not in memory."""
    put(tmp_path / "asked", cifar10.BINARY, "folder")
    assert_loaded(tmp_path / "asked", memory_map=True)
    data = load_cifar10(True, tmp_path / "asked", memory_map=True, as_bytes=True)
    assert not isinstance(data.images, np.ndarray)
    assert np.array_equal(data.take(np.array([2]))[0], IMAGES[[2]])


def test_downloaded_and_unpacked(small, tmp_path, monkeypatch):
    """Ground truth: the made archive in place of the network; the second time it is not asked."""

    def download(remote, folder, progress=None):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / remote.name).write_bytes(ARCHIVES[cifar10.BINARY])
        return folder / remote.name

    monkeypatch.setattr(cifar10, "download", download)
    assert_loaded(tmp_path / "empty")
    monkeypatch.setattr(cifar10, "download", None)
    assert_loaded(tmp_path / "empty", memory_map=True)
    assert sorted(p.name for p in (tmp_path / "empty").rglob("*")) == sorted(
        [cifar10.BINARY, *CONTENTS[cifar10.BINARY]]
    )


def test_a_download_without_the_files_is_refused(small, tmp_path, monkeypatch):
    """Ground truth: an archive of the right checksum that holds other files."""
    digest = hashlib.md5(ARCHIVES[cifar10.PICKLED]).hexdigest()
    archive = Remote(archive_name(cifar10.BINARY), digest, ())
    monkeypatch.setattr(cifar10, "BINARY_ARCHIVE", archive)

    def download(remote, folder, progress=None):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / remote.name).write_bytes(ARCHIVES[cifar10.PICKLED])
        return folder / remote.name

    monkeypatch.setattr(cifar10, "download", download)
    with pytest.raises(FileFormatError, match="does not hold the expected files"):
        load_cifar10(True, tmp_path)


def test_without_a_network_the_error_says_what_to_put_where(small, tmp_path):
    """Ground truth: the places looked at, the names of both archives, the cure."""
    with pytest.raises(DataError, match="could not be downloaded") as raised:
        load_cifar10()
    error = raised.value
    assert str(tmp_path / "cache") in error.got and "refused" in error.got
    assert all(archive_name(part) in error.rule for part in CONTENTS)
    assert "--data-dir" in error.fix and "TINYTORCH_DATA" in error.fix


@pytest.mark.parametrize("part", list(CONTENTS))
def test_damaged_files_are_refused(small, tmp_path, part):
    """Ground truth: the checksum of unpacked files and of archives."""
    put(tmp_path / "a", part, "folder")
    path = next((tmp_path / "a" / part).glob("data_batch_2*"))
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DataError, match=r"data_batch_2(\.bin)? is damaged"):
        load_cifar10(True, tmp_path / "a")
    put(tmp_path / "b", part, "packed")
    path = tmp_path / "b" / archive_name(part)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="is damaged"):
        load_cifar10(True, tmp_path / "b")


@pytest.mark.parametrize("cut", [0, 10, 200, -5000])
def test_truncated_archives_are_refused(tmp_path, cut):
    """Ground truth: an archive cut short, its checksum not asked."""
    packed, names = ARCHIVES[cifar10.BINARY][:cut], set(CONTENTS[cifar10.BINARY])
    with pytest.raises(FileFormatError, match="not the whole archive"):
        list(cifar10.members(packed, tmp_path / "x.tar.gz", cifar10.BINARY, names))


def test_an_archive_with_other_members_is_refused(small, tmp_path, monkeypatch):
    """Ground truth: the checksums of the members; links and other folders are not read."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        link = tarfile.TarInfo(f"{cifar10.BINARY}/data_batch_1.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("../data_batch_2.bin"))
        tar.addfile(tarfile.TarInfo("data_batch_2.bin"))
    archive = Remote("cifar-10-binary.tar.gz", hashlib.md5(out.getvalue()).hexdigest(), ())
    monkeypatch.setattr(cifar10, "BINARY_ARCHIVE", archive)
    (tmp_path / archive.name).write_bytes(out.getvalue())
    names = {"data_batch_1.bin", "data_batch_2.bin"}
    assert not list(cifar10.members(out.getvalue(), tmp_path, cifar10.BINARY, names))
    with pytest.raises(FileFormatError, match="not the whole archive"):
        load_cifar10(True, tmp_path)


@pytest.mark.parametrize("content", [b"", b"x" * 3072, b"x" * 3074])
def test_records_that_are_not_whole(content):
    """Ground truth: 3,073 bytes a record."""
    with pytest.raises(FileFormatError, match="not a binary file of CIFAR-10"):
        cifar10.read_records(content, "x.bin")


@pytest.mark.parametrize(
    "batch",
    [
        [1, 2],
        {"labels": [1]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [1]},
        {"data": np.zeros((1, 3071), np.uint8), "labels": [1]},
        {"data": np.zeros((1, 3072)), "labels": [1]},
    ],
)
def test_pickles_of_something_else(batch):
    """Ground truth: plain data that is no batch of pictures."""
    with pytest.raises(FileFormatError, match="not a pickled file of CIFAR-10"):
        cifar10.read_pickled(pickle.dumps(batch), "data_batch_1")


def test_labels_out_of_range_are_refused(small, tmp_path, monkeypatch):
    """Ground truth: ten classes."""
    content = binary(IMAGES[:1], np.array([10]))
    file = Remote("data_batch_1.bin", hashlib.md5(content).hexdigest(), ())
    monkeypatch.setitem(cifar10.FILES, cifar10.BINARY, {True: [file]})
    (tmp_path / file.name).write_bytes(content)
    with pytest.raises(DataError, match="not a class number"):
        load_cifar10(True, tmp_path)


def test_train_is_a_yes_or_no():
    """Ground truth: the documented values; a split's name is none of them."""
    with pytest.raises(SettingError, match="train is a yes or no"):
        load_cifar10("test")


@pytest.mark.data
def test_the_official_files(official_data):
    """Ground truth: the published sizes, 5,000 pictures of each class, the documented averages."""
    train, test = load_cifar10(True, official_data), load_cifar10(False, official_data)
    assert train.images.shape == (50000, 3, 32, 32) and test.images.shape == (10000, 3, 32, 32)
    assert np.bincount(train.labels).tolist() == [5000] * 10
    assert np.bincount(test.labels).tolist() == [1000] * 10
    assert train.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]  # as the pickles have them
    total, square = np.zeros(3), np.zeros(3)
    for chunk in np.split(train.images.reshape(50000, 3, 1024), 50):
        x = chunk.astype(np.float32)
        total += x.sum(axis=(0, 2))
        square += (x * x).sum(axis=(0, 2))
    mean = total / (50000 * 1024 * 255)
    deviation = np.sqrt(square / (50000 * 1024 * 255**2) - mean**2)
    # four digits; float32 sums of 10**6 numbers, added pairwise, are 20 roundings of 6e-8 off
    assert np.abs(mean - CIFAR10_MEAN).max() <= 5.1e-5
    assert np.abs(deviation - CIFAR10_STD).max() <= 5.1e-5


# --- archives and folders of somebody else ---


def test_a_member_of_gigabytes_is_not_unpacked(tmp_path):
    """Ground truth: it is passed over; a name that stands twice is given once."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for size in (cifar10.LARGEST + 1, 3, 3):
            info = tarfile.TarInfo(f"{cifar10.BINARY}/data_batch_1.bin")
            info.size = size
            tar.addfile(info, io.BytesIO(bytes(size)))
    found = list(
        cifar10.members(out.getvalue(), tmp_path / "x", cifar10.BINARY, {"data_batch_1.bin"})
    )
    assert found == [("data_batch_1.bin", bytes(3))]


def test_labels_that_are_nested_without_end():
    """Ground truth: time: 2 ** 60 numbers, if anybody went through them."""
    import time

    labels: object = 1
    for _ in range(60):
        labels = (labels, labels)
    batch = {"data": np.zeros((2, 3072), np.uint8), "labels": labels}
    began = time.process_time()
    with pytest.raises(FileFormatError, match="not a pickled file of CIFAR-10"):
        cifar10.read_pickled(pickle.dumps(batch), "data_batch_1")
    assert time.process_time() - began < 2


def test_unpacking_follows_no_link(small, tmp_path, monkeypatch):
    """Ground truth: the folder it points to, and a file of the user's under one of the names."""
    mine, asked = tmp_path / "mine", tmp_path / "asked"
    mine.mkdir()
    asked.mkdir()
    (mine / "thesis").write_text("years of work")

    def download(remote, folder, progress=None):
        (folder / remote.name).write_bytes(ARCHIVES[cifar10.BINARY])
        return folder / remote.name

    monkeypatch.setattr(cifar10, "download", download)
    (asked / cifar10.BINARY).symlink_to(mine)
    with pytest.raises(DataError, match="could not be downloaded"):
        load_cifar10(True, asked)
    assert [p.name for p in mine.iterdir()] == ["thesis"]
    for path in asked.iterdir():
        path.unlink()
    (asked / cifar10.BINARY).mkdir()
    for name in ("data_batch_1.bin", "data_batch_1.bin.part"):
        (asked / cifar10.BINARY / name).symlink_to(mine / "thesis")
    with pytest.raises(DataError, match="could not be downloaded"):
        load_cifar10(True, asked)
    assert (mine / "thesis").read_text() == "years of work"


def test_mapped_files_are_the_ones_whose_checksum_was_taken(small, tmp_path, monkeypatch):
    """Ground truth: the made pictures, although the names hold others right after the checksum; a
    damaged file is refused."""
    put(tmp_path / "asked", cifar10.BINARY, "folder")
    real = cifar10.content_digest

    def then_exchange(content, remote):
        digest = real(content, remote)
        evil = tmp_path / "evil"
        evil.write_bytes(bytes(2 * cifar10.RECORD))
        evil.replace(tmp_path / "asked" / cifar10.BINARY / remote.name)
        return digest

    monkeypatch.setattr(cifar10, "content_digest", then_exchange)
    data = load_cifar10(True, tmp_path / "asked", memory_map=True, as_bytes=True)
    assert np.array_equal(data.images[:], IMAGES[:4])
    with pytest.raises(DataError, match="is damaged"):
        load_cifar10(True, tmp_path / "asked", memory_map=True)
