"""Fashion-MNIST: MNIST's format and rules under another name."""

import gzip
import hashlib
import struct

import numpy as np
import pytest

from tinytorch.base.errors import DataError, SettingError
from tinytorch.data import load_fashion_mnist, mnist, official
from tinytorch.data.official import Remote


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


def test_no_such_split():
    """Ground truth: the documented splits."""
    with pytest.raises(SettingError, match="no such split"):
        load_fashion_mnist("valid")
