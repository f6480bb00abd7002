"""The idx format, read strictly."""

import gzip
import struct

import numpy as np
import pytest

from tinytorch.base.errors import FileFormatError
from tinytorch.data.mnist import read_idx


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
    "65 axes": gzip.compress(bytes([0, 0, 8, 65]) + struct.pack(">65I", *[1] * 65) + b"a"),
    "255 axes": gzip.compress(bytes([0, 0, 8, 255]) + struct.pack(">255I", *[1] * 255) + b"a"),
    "shape beyond memory": gzip.compress(idx((2**32 - 1,) * 3, b"abcd")),
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
        head = packer.compress(idx((said,), b"")) + packer.flush(zlib.Z_FULL_FLUSH)
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

    (tmp_path / "real.gz").write_bytes(gzip.compress(idx((1,), b"a")))
    (tmp_path / "link.gz").symlink_to("real.gz")
    assert read_idx(tmp_path / "link.gz").tolist() == [97]
    os.mkfifo(tmp_path / "pipe.gz")
    with pytest.raises(FileFormatError, match="not a regular file"):
        read_idx(tmp_path / "pipe.gz")
    with pytest.raises(NotFoundError, match="cannot be read"):
        read_idx(tmp_path / "none.gz")
