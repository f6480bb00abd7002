"""MNIST, Fashion-MNIST and the shipped digits: grey pictures in the idx format.

Knows the format, the files' names, sizes and checksums; never a training loop. An idx file is a
block of bytes with a shape, compressed with gzip. The shipped digits are two files inside the
package; their source and licence (CC BY 4.0): tinytorch/data/files/ATTRIBUTION.txt.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits": two zero bytes,
a type byte (8 is unsigned byte), the number of axes, each axis as a big-endian 32-bit number, data.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import zlib
from pathlib import Path
from shlex import quote

import numpy as np

from tinytorch.base import files
from tinytorch.base.errors import FileFormatError, SettingError
from tinytorch.data.dataset import ImageDataset
from tinytorch.data.official import Progress, Published, Remote, obtain

UNSIGNED_BYTE = 8
MOST_AXES = 64  # NumPy's limit
MOST = 1 << 30  # bytes of numbers: twice what the largest data set in this format (EMNIST) has


def read_idx(path: str | os.PathLike[str], most: int = MOST) -> np.ndarray:
    """The array in a gzip-compressed idx file of unsigned bytes.

    Args:
        path: the .gz file.
        most: bytes beyond which the array is refused before it is unpacked: a few megabytes of gzip
            can hold gigabytes. Default 1 GiB.

    Returns:
        uint8 array, read-only, of the shape that the file names.

    Raises:
        FileFormatError: not gzip, damaged, its size does not fit its shape, or it is too large.
        StorageError: it cannot be read; a NotFoundError if it is not there.

    Cost: the unpacked bytes, once.
    """
    return unpacked(files.contents(path, most, links=True), os.fspath(path), most)


def unpacked(packed: bytes, name: str, most: int = MOST) -> np.ndarray:
    """The array in the bytes of such a file; see `read_idx`.

    Args:
        packed: the file's content.
        name: of the file, for messages.
        most: as for `read_idx`.
    """
    path = Path(name)
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            head = file.read(4)
            axes = head[3] if len(head) == 4 else 0
            sizes = file.read(4 * axes)
            if head[:3] != bytes([0, 0, UNSIGNED_BYTE]) or len(sizes) < 4 * axes:
                raise _damaged(path, head.hex(" "), "it begins with 00 00 08 and the axis count")
            shape = tuple(int(n) for n in np.frombuffer(sizes, ">u4"))
            count = math.prod(shape)
            if axes > MOST_AXES or count > most:
                rule = f"at most {MOST_AXES} axes and {most} bytes"
                raise _damaged(path, f"{axes} axes, {count} bytes", rule)
            data = file.read(count + 1)  # the end of the file is where gzip's checksum is looked at
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, error, "a whole gzip file") from None
    if len(data) != count:
        more = "more than " if len(data) > count else ""
        rule = f"shape {shape} takes {count} bytes"
        raise _damaged(path, f"{more}{min(len(data), count)} bytes", rule)
    return np.frombuffer(data, np.uint8).reshape(shape)


def _damaged(path: Path, got: object, rule: str) -> FileFormatError:
    return FileFormatError(
        f"{path.name} is not a valid idx file",
        got=got,
        rule=rule,
        fix=f"rm {quote(str(path))}, and fetch it again",
    )


def _mirrored(
    mirrors: tuple[str, ...], *files: tuple[str, int, str]
) -> dict[str, tuple[Remote, ...]]:
    """The pictures and the labels of each split: names, bytes and md5 sums; in every mirror."""
    found = [Remote(name, digest, tuple(mirror + name for mirror in mirrors), size=size)
             for name, size, digest in files]  # fmt: skip
    return {"train": tuple(found[:2]), "test": tuple(found[2:])}


# The two public mirrors of the official files (the original server no longer hands them out).
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
# Bytes and md5 sums as published with the files.
FILES = _mirrored(
    MIRRORS,
    ("train-images-idx3-ubyte.gz", 9912422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    ("train-labels-idx1-ubyte.gz", 28881, "d53e105ee54ea40749a09fcbcd1e9432"),
    ("t10k-images-idx3-ubyte.gz", 1648877, "9fb629c4189551a2d022fa330f9573f3"),
    ("t10k-labels-idx1-ubyte.gz", 4542, "ec29112dd5afa0611ce80d1b7f02629c"),
)
MNIST = Published("MNIST", "mnist", FILES)
DIGITS = tuple("0123456789")

# The authors' server and their repository.
FASHION_MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)
# Bytes of the files, and their md5 sums as the authors' page gives them.
FASHION_FILES = _mirrored(
    FASHION_MIRRORS,
    ("train-images-idx3-ubyte.gz", 26421880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
    ("train-labels-idx1-ubyte.gz", 29515, "25c81989df183df01b3e8a0aad5dffbe"),
    ("t10k-images-idx3-ubyte.gz", 4422102, "bef4ecab320f06d8554ea6380940ec79"),
    ("t10k-labels-idx1-ubyte.gz", 5148, "bb300cfdad3c16e7a12a480ee83cd310"),
)
FASHION_MNIST = Published("Fashion-MNIST", "fashion-mnist", FASHION_FILES)
CLOTHES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
    "ankle boot",
)  # fmt: skip


def load_mnist(
    split: str = "train", folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> ImageDataset:  # fmt: skip
    """The MNIST data set.

    The files are looked for in `folder` if given, else in `TINYTORCH_DATA` and the user's cache;
    what is missing is downloaded into the cache (into `folder`, if given).

    Args:
        split: "train" (60,000 images) or "test" (10,000).
        folder: where the files are or shall be, with or without a subfolder "mnist".
        progress: called as progress(name, bytes so far, bytes in all) while downloading.

    Returns:
        images (N, 1, 28, 28) float32 in [0, 1], labels (N,) int64 in 0..9.

    Raises:
        DataError: a file is damaged, or missing and cannot be downloaded; the message says which
            file to put where.
        SettingError: no such split.

    Cost: 47 MB for "train", 8 MB for "test".

    Source: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner (1998), Gradient-based learning applied to
    document recognition, Proceedings of the IEEE 86(11).
    """
    return _loaded(MNIST, DIGITS, split, folder, progress)


def load_fashion_mnist(
    split: str = "train", folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> ImageDataset:  # fmt: skip
    """The Fashion-MNIST data set: as large as MNIST, and harder.

    Found or downloaded as in `load_mnist`; the subfolder is "fashion-mnist". The files are named
    as MNIST's, so only a folder of one of the two may hold them without a subfolder.

    Args:
        split: "train" (60,000 images) or "test" (10,000).
        folder: where the files are or shall be, with or without the subfolder.
        progress: called as progress(name, bytes so far, bytes in all) while downloading.

    Returns:
        images (N, 1, 28, 28) float32 in [0, 1], labels (N,) int64 in 0..9, and `classes`, the ten
        names.

    Raises:
        DataError: a file is damaged, or missing and cannot be downloaded; the message says which
            file to put where.
        SettingError: no such split.

    Cost: 47 MB for "train", 8 MB for "test".

    Source: H. Xiao, K. Rasul, R. Vollgraf (2017), Fashion-MNIST: a novel image dataset for
    benchmarking machine learning algorithms, arXiv:1708.07747.
    """
    return _loaded(FASHION_MNIST, CLOTHES, split, folder, progress)


def _loaded(
    data: Published, classes: tuple[str, ...], split: str,
    folder: str | os.PathLike[str] | None, progress: Progress | None,
) -> ImageDataset:  # fmt: skip
    check_split(split, tuple(data.files))
    images, labels = (
        unpacked(obtain(file, data, folder, progress), file.name) for file in data.files[split]
    )
    return ImageDataset(images, labels, classes=classes)


SHIPPED = Path(__file__).parent / "files"
DARKEST = 16  # a pixel counts the dark dots of a 4x4 block (ATTRIBUTION.txt)
TEST_EVERY = 5


def load_digits(split: str = "train") -> ImageDataset:
    """The digits data set.

    The split is fixed and stratified: within each class, in the order of the file, every fifth
    image is for testing.

    Args:
        split: "train" (1,442 images), "test" (355) or "all" (1,797).

    Returns:
        images (N, 1, 8, 8) float32 in [0, 1], labels (N,) int64 in 0..9.

    Raises:
        SettingError: no such split.

    Cost: 115 KB.

    Source: E. Alpaydin, C. Kaynak (1998), UCI Machine Learning Repository, doi:10.24432/C50P49.

    Example:
        >>> train, test = load_digits("train"), load_digits("test")
        >>> len(train), len(test), train[0][0].shape
        (1442, 355, (1, 8, 8))
    """
    check_split(split, ("train", "test", "all"))
    images = read_idx(SHIPPED / "digits-images-idx3-ubyte.gz")
    labels = read_idx(SHIPPED / "digits-labels-idx1-ubyte.gz")
    for_testing = _every_fifth_of_each_class(labels)
    if split != "all":
        chosen = for_testing if split == "test" else ~for_testing
        images, labels = images[chosen], labels[chosen]
    return ImageDataset(images, labels, DARKEST, classes="0123456789")


def _every_fifth_of_each_class(labels: np.ndarray) -> np.ndarray:
    chosen = np.zeros(len(labels), bool)
    for digit in np.unique(labels):
        chosen[np.flatnonzero(labels == digit)[TEST_EVERY - 1 :: TEST_EVERY]] = True
    return chosen


def check_split(split: str, splits: tuple[str, ...]) -> None:
    """Refuse a split that a data set does not have."""
    if split not in splits:
        raise SettingError(
            "the data set has no such split",
            got=f"split={split!r}",
            rule="one of " + ", ".join(map(repr, splits)),
            fix=f"split={splits[0]!r}",
        )
