"""The idx format, read strictly."""

import gzip
import struct

import numpy as np
import pytest

from tinytorch.base.errors import FileFormatError
from tinytorch.data.idx import read_idx


def idx(shape, data, kind=8):
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + data


def test_read_idx(tmp_path):
    """Ground truth: a file written by hand, by the published layout."""
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(idx((2, 3), bytes([1, 2, 3, 4, 5, 255]))))
    assert np.array_equal(read_idx(path), np.array([[1, 2, 3], [4, 5, 255]], np.uint8))


BAD = {
    "not gzip": b"plain text",
    "cut off": gzip.compress(idx((4,), b"abcd"))[:-9],
    "flipped": gzip.compress(idx((4,), b"abcd"))[:-8] + b"\0" * 8,
    "empty": gzip.compress(b""),
    "floats": gzip.compress(idx((1,), b"abcd", kind=13)),
    "axes cut off": gzip.compress(bytes([0, 0, 8, 3, 0])),
    "too short": gzip.compress(idx((5,), b"abcd")),
    "too long": gzip.compress(idx((3,), b"abcd")),
    "shape beyond memory": gzip.compress(idx((2**32 - 1,) * 3, b"abcd")),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(case, tmp_path):
    """Ground truth: the published layout and gzip's own checksum."""
    path = tmp_path / "x.gz"
    path.write_bytes(BAD[case])
    with pytest.raises(FileFormatError, match=r"x\.gz is not a valid idx file"):
        read_idx(path)
