"""Fashion-MNIST: 60,000 + 10,000 grey images of ten kinds of clothes, in the format of MNIST.

Knows four file names with their checksums; never a training loop.
"""

from __future__ import annotations

import os

from tinytorch.data.digits import check_split
from tinytorch.data.download import Progress, Remote
from tinytorch.data.idx import unpacked
from tinytorch.data.images import ImageDataset
from tinytorch.data.official import Published, obtain

CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
# The authors' server and their repository.
MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)

# Bytes of the files, and their md5 sums as the authors' page gives them.
FILES = {
    "train": (
        Remote.mirrored(
            "train-images-idx3-ubyte.gz", 26421880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d", MIRRORS
        ),
        Remote.mirrored(
            "train-labels-idx1-ubyte.gz", 29515, "25c81989df183df01b3e8a0aad5dffbe", MIRRORS
        ),
    ),
    "test": (
        Remote.mirrored(
            "t10k-images-idx3-ubyte.gz", 4422102, "bef4ecab320f06d8554ea6380940ec79", MIRRORS
        ),
        Remote.mirrored(
            "t10k-labels-idx1-ubyte.gz", 5148, "bb300cfdad3c16e7a12a480ee83cd310", MIRRORS
        ),
    ),
}
FASHION_MNIST = Published("Fashion-MNIST", "fashion-mnist", FILES)


def load_fashion_mnist(
    split: str = "train",
    folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> ImageDataset:
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
    check_split(split, tuple(FILES))
    images, labels = (
        unpacked(obtain(file, FASHION_MNIST, folder, progress), file.name) for file in FILES[split]
    )
    return ImageDataset(images, labels, classes=CLASSES)
