"""CIFAR-10: 50,000 + 10,000 colour pictures of ten kinds of things, 32x32, from official files.

Knows the files' names and checksums and how a file becomes arrays; never a training loop.
"""

from __future__ import annotations

import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

import numpy as np

from tinytorch.base import files
from tinytorch.base.errors import DataError, FileFormatError, SettingError, short
from tinytorch.data import official
from tinytorch.data.dataset import ImageDataset
from tinytorch.data.mapped import MappedArray
from tinytorch.data.official import (
    Progress,
    Remote,
    content_digest,
    damaged,
    download,
    read_intact,
)
from tinytorch.data.pickled_arrays import read_pickled_arrays

CLASSES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
SHAPE = (3, 32, 32)
# A record: the label, then the rows of red, of green and of blue (the data set's page).
RECORDS = np.dtype([("label", np.uint8), ("image", np.uint8, SHAPE)])
RECORD = RECORDS.itemsize
# Mean and deviation of each channel over the 50,000 training pictures, held by a test.
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

BINARY, PICKLED = "cifar-10-batches-bin", "cifar-10-batches-py"
LARGEST = 1 << 25  # bytes of a file in the archives; each has 10,000 pictures, 31 MB


def _archive(name: str, digest: str, size: int) -> Remote:
    return Remote(name, digest, (f"https://www.cs.toronto.edu/~kriz/{name}",), size=size)


# md5 of the archives as the data set's page gives them, and their bytes.
BINARY_ARCHIVE = _archive("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", 170_052_171)
PICKLED_ARCHIVE = _archive(
    "cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", 170_498_071
)


def _files(ending: str, algorithm: str, size: int, *digests: str) -> dict[bool, tuple[Remote, ...]]:
    """The files of an archive, in the order of their names: five to train with, one for testing."""
    names = (*(f"data_batch_{i}{ending}" for i in range(1, 6)), f"test_batch{ending}")
    found = [Remote(name, digest, (), algorithm, size)
             for name, digest in zip(names, digests, strict=True)]  # fmt: skip
    return {True: tuple(found[:5]), False: tuple(found[5:])}


# sha256 of the files in the official binary archive; md5 of those in the pickled one, as
# torchvision checks them.
FILES = {
    BINARY: _files(
        ".bin", "sha256", 10_000 * RECORD,
        "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    ),
    PICKLED: _files(
        "", "md5", LARGEST,
        "c99cafc152244af753f735de768cd75f",
        "d4bba439e000b95fd0a9bffe97cbabec",
        "54ebc095f3ab1f0389bbae665268c751",
        "634d18415352ddfa80567beed471001a",
        "482c414d41f54cd18b22e5b47cb7c3cb",
        "40351d587109b95175f43aff81a1287e",
    ),
}  # fmt: skip


def load_cifar10(
    train: bool = True, folder: str | os.PathLike[str] | None = None, *, as_bytes: bool = False,
    memory_map: bool = False, progress: Progress | None = None,
) -> ImageDataset:  # fmt: skip
    """The CIFAR-10 data set.

    Looked for in `folder` if given, else in `TINYTORCH_DATA` and the user's cache, in this order:
    the unpacked binary files, the unpacked pickled files, the binary archive, the pickled archive
    (pickles are read without executing them). What is nowhere is downloaded into the cache (into
    `folder`, if given) and unpacked.

    Args:
        train: the 50,000 training pictures, or the 10,000 for testing.
        folder: where the files are or shall be, with or without the archives' own subfolder.
        as_bytes: hand the pictures out as bytes, for a transform that ends with `Normalize`.
        memory_map: leave the pictures in the unpacked binary files, which must be there or are
            downloaded; worker processes then share them.
        progress: called as progress(name, bytes so far, bytes in all) while downloading.

    Returns:
        images (N, 3, 32, 32) float32 in [0, 1], labels (N,) int64 in 0..9, and `classes`, the ten
        names.

    Raises:
        DataError: a file is damaged, or missing and cannot be downloaded; the message says which
            file to put where.
        FileFormatError: a file is not what its name says.
        SettingError: `train` is neither True nor False.

    Cost: 154 MB for training, 31 MB for testing; 0.3 s from unpacked binary files.

    Source: A. Krizhevsky (2009), Learning multiple layers of features from tiny images.
    """
    if not isinstance(train, bool):
        raise SettingError(
            "load_cifar10: train is a yes or no",
            got=f"train={train!r}",
            rule="True for the 50,000 training pictures, False for the 10,000 test pictures",
            fix="load_cifar10(train=False)",
        )
    looked = official.folders(folder)
    if memory_map:
        records = _mapped(_found(BINARY, train, looked) or _fetched(train, looked, progress))
        images, labels = records.field("image"), records.field("label")[:]
        return ImageDataset(images, labels, classes=CLASSES, as_bytes=as_bytes)
    parts = (
        _unpacked(train, looked)
        or _packed(train, looked)
        or _contents(BINARY, _fetched(train, looked, progress))
    )
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return ImageDataset(images, labels, classes=CLASSES, as_bytes=as_bytes)


_Found = list[tuple[Path, Remote]]


def _fetched(train: bool, looked: list[Path], progress: Progress | None) -> _Found:
    folder = fetch(looked, progress)
    found = _found(BINARY, train, looked[-1:])
    if found is None:
        raise FileFormatError(
            f"{BINARY_ARCHIVE.name} does not hold the expected files",
            got=f"unpacked in {folder}",
            rule=", ".join(f.name for f in FILES[BINARY][train]),
            fix=f"rm -r {quote(str(folder))}, and run this again",
        )
    return found


def _found(part: str, train: bool, looked: list[Path]) -> _Found | None:
    """Where the unpacked files are, if all are there; not yet whether they are intact."""
    found = [(official.find(file.name, part, looked), file) for file in FILES[part][train]]
    there = [(path, file) for path, file in found if path is not None]
    return there if len(there) == len(found) else None


def _mapped(found: _Found) -> MappedArray:
    """The records in these files; the checksum is of the very bytes that are mapped."""
    records = MappedArray([path for path, _ in found], RECORDS)
    for i, (path, file) in enumerate(found):
        content = records.contents(i)
        if content_digest(content, file) != file.digest:
            raise damaged(path, len(content), file)
    return records


def _contents(part: str, found: _Found) -> list[tuple[np.ndarray, np.ndarray]]:
    return [read(part, path.name, read_intact(path, file)) for path, file in found]


def _unpacked(train: bool, looked: list[Path]) -> list[tuple[np.ndarray, np.ndarray]] | None:
    for part in (BINARY, PICKLED):
        found = _found(part, train, looked)
        if found is not None:
            return _contents(part, found)
    return None


def _packed(train: bool, looked: list[Path]) -> list[tuple[np.ndarray, np.ndarray]] | None:
    for part, archive in ((BINARY, BINARY_ARCHIVE), (PICKLED, PICKLED_ARCHIVE)):
        path = official.find(archive.name, part, looked)
        if path is not None:
            wanted = {f.name: f for f in FILES[part][train]}
            contents = dict(members(read_intact(path, archive), path, part, set(wanted)))
            for name, file in wanted.items():
                if content_digest(contents.get(name, b""), file) != file.digest:
                    raise _not_the_archive(path, f"{name} is missing or another")
            return [read(part, name, contents[name]) for name in wanted]
    return None


def members(packed: bytes, path: Path, part: str, names: set[str]) -> Iterator[tuple[str, bytes]]:
    """Name and content of these regular files of a .tar.gz; nothing is written.

    Args:
        packed: the archive.
        path: where it is, for messages.
        part: the folder in it.
        names: of the files; each is given once, and none of more than LARGEST bytes.

    Raises:
        FileFormatError: the archive is truncated or damaged.
    """
    wanted = set(names)
    try:
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                fits = member.isreg() and 0 <= member.size <= LARGEST
                if fits and folder == part and name in wanted:
                    wanted.remove(name)
                    file = tar.extractfile(member) or io.BytesIO()
                    yield name, file.read(LARGEST)
                if not wanted:  # what follows, however much, is not unpacked
                    return
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError, OverflowError) as error:
        raise _not_the_archive(path, error) from None


def _not_the_archive(path: Path, got: object) -> FileFormatError:
    return FileFormatError(
        f"{path.name} is not the whole archive",
        got=got,
        rule="the official archive of CIFAR-10, unchanged",
        fix=f"rm {quote(str(path))}; it is fetched again by the next run",
    )


def fetch(looked: list[Path], progress: Progress | None = None) -> Path:
    """Download the binary archive into the last place and unpack it there; the files' folder."""
    target = looked[-1]
    names = {f.name for found in FILES[BINARY].values() for f in found}
    try:
        archive = download(BINARY_ARCHIVE, target, progress)
        files.make_folder(target / BINARY)
        with files.open_folder(target / BINARY, links=False) as folder:
            packed = read_intact(archive, BINARY_ARCHIVE)
            for name, content in members(packed, archive, BINARY, names):
                with files.replacing(name, folder=folder) as file:
                    file.write(content)
        files.remove(archive)
    except (DataError, OSError) as error:
        raise DataError(
            "CIFAR-10 is not here and could not be downloaded",
            got=f"looked in {', '.join(str(p) for p in looked)}; {getattr(error, 'got', error)}",
            rule=f"the folder {BINARY} or {PICKLED}, or the archive {BINARY_ARCHIVE.name} or "
            f"{PICKLED_ARCHIVE.name}, unchanged",
            fix=f"put one of them into {quote(str(target))}, or name the folder it lies in: "
            f"--data-dir FOLDER or {official.VARIABLE}=FOLDER",
        ) from error
    return target / BINARY


def read(part: str, name: str, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3, 32, 32) uint8 and labels (N,) of one file of either archive.

    Raises:
        FileFormatError: the content is damaged.
    """
    return read_records(content, name) if part == BINARY else read_pickled(content, name)


def read_records(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Of a binary file: records of one label byte and 3072 pixel bytes."""
    if not content or len(content) % RECORD:
        raise FileFormatError(
            f"{name} is not a binary file of CIFAR-10",
            got=f"{len(content)} bytes",
            rule=f"a multiple of {RECORD}: a label and {RECORD - 1} pixels each",
            fix=f"rm {quote(name)}, and fetch it again",
        )
    records = np.frombuffer(content, RECORDS)
    return records["image"], records["label"]


def read_pickled(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Of a pickled file: a dict with data (N, 3072) uint8 and a list of labels."""
    value = read_pickled_arrays(content, name)
    batch = value if isinstance(value, dict) else {}
    batch = {k.decode("latin1") if isinstance(k, bytes) else k: v for k, v in batch.items()}
    data, labels = batch.get("data"), batch.get("labels")
    # Numbers of a list alone are counted: what else a file puts there may be nested without end.
    plain = type(labels) is list and all(type(n) is int and abs(n) < 2**31 for n in labels)
    rows = data if isinstance(data, np.ndarray) else np.empty((0, 0))
    fits = rows.dtype == np.uint8 and rows.ndim == 2 and rows.shape[-1] == RECORD - 1
    if not fits or not plain or len(labels) != len(rows):
        raise FileFormatError(
            f"{name} is not a pickled file of CIFAR-10",
            got=f"entries {short(list(batch))}",
            rule=f"data (N, {RECORD - 1}) uint8 and labels, a list of N numbers",
            fix=f"rm {quote(name)}, and fetch it again",
        )
    return rows.reshape(-1, *SHAPE), np.asarray(labels)
