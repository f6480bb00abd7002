"""MNIST: 60,000 + 10,000 images of handwritten digits, 28x28 pixels, from the official files.

Knows four file names with their checksums and where they are kept, never a training loop.
"""

from __future__ import annotations

import os

from tinytorch.data.digits import check_split
from tinytorch.data.download import Progress, Remote
from tinytorch.data.idx import unpacked
from tinytorch.data.images import ImageDataset
from tinytorch.data.official import Published, obtain

# The two public mirrors of the official files (the original server no longer hands them out).
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

# Bytes and md5 sums as published with the files.
FILES = {
    "train": (
        Remote.mirrored(
            "train-images-idx3-ubyte.gz", 9912422, "f68b3c2dcbeaaa9fbdd348bbdeb94873", MIRRORS
        ),
        Remote.mirrored(
            "train-labels-idx1-ubyte.gz", 28881, "d53e105ee54ea40749a09fcbcd1e9432", MIRRORS
        ),
    ),
    "test": (
        Remote.mirrored(
            "t10k-images-idx3-ubyte.gz", 1648877, "9fb629c4189551a2d022fa330f9573f3", MIRRORS
        ),
        Remote.mirrored(
            "t10k-labels-idx1-ubyte.gz", 4542, "ec29112dd5afa0611ce80d1b7f02629c", MIRRORS
        ),
    ),
}
MNIST = Published("MNIST", "mnist", FILES)
CLASSES = tuple("0123456789")


def load_mnist(
    split: str = "train",
    folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> ImageDataset:
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
    check_split(split, tuple(FILES))
    images, labels = (
        unpacked(obtain(file, MNIST, folder, progress), file.name) for file in FILES[split]
    )
    return ImageDataset(images, labels, classes=CLASSES)
