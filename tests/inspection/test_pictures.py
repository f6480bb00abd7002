"""pictures.py: files read back by a decoder written here, chunk by chunk; sheets by hand."""

import struct
import zlib

import numpy as np
import pytest

from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.inspection.pictures import as_bytes, png, sheet, spread


def decode(data: bytes) -> np.ndarray:
    """The slow definition: chunks, checksums, unfiltered rows (PNG specification, section 5)."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(data):
        (n,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + n]
        assert struct.unpack(">I", data[at + 8 + n : at + 12 + n])[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + n
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, depth, kind, *rest = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert depth == 8 and rest == [0, 0, 0]
    channels = {0: 1, 2: 3}[kind]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape((height, width) if channels == 1 else (height, width, 3))


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (3, 2, 3)])
def test_pictures_come_back(shape):
    """Ground truth: the decoder above."""
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    assert np.array_equal(decode(png(image)), image)
    assert np.array_equal(decode(png(image[::-1])), image[::-1])  # memory that is not in order


def test_other_arrays_are_refused():
    """Ground truth: floats and four channels are no pictures here."""
    for wrong in (np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8), np.zeros(3, np.uint8)):
        with pytest.raises(ShapeError, match="this is no picture"):
            png(wrong)
    for wrong in (np.zeros((2, 2, 4, 4)), np.zeros((2, 4, 4)), np.zeros((0, 1, 4, 4))):
        with pytest.raises(ShapeError, match="sheet: "):
            sheet(wrong)
    with pytest.raises(SettingError, match="columns"):
        sheet(np.zeros((1, 1, 2, 2)), 0)


def test_sheets_are_laid_out_in_rows():
    """Ground truth: laid out by hand: three pictures of 1 x 2 pixels in two columns."""
    images = np.array([[1, 2], [3, 4], [5, 6]], np.uint8).reshape(3, 1, 1, 2)
    assert sheet(images, 2).tolist() == [[1, 2, 0, 3, 4], [0, 0, 0, 0, 0], [5, 6, 0, 0, 0]]
    assert sheet(images[:2], 5).tolist() == [[1, 2, 0, 3, 4]]
    assert sheet(images[:1], 1, scale=2).tolist() == [[1, 1, 2, 2], [1, 1, 2, 2]]
    assert sheet(np.ones((1, 3, 2, 2), np.uint8), 1).shape == (2, 2, 3)


def test_all_bytes_stay_what_they_are():
    """Closed form: bytes are given on; floats of them too."""
    images = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    assert np.array_equal(sheet(images), images[0, 0])
    assert np.array_equal(sheet(images / np.float32(255)), images[0, 0])


def test_numbers_become_bytes():
    """Ground truth: 0, 1/2, 1 and what lies outside."""
    assert as_bytes(np.array([-1, 0, 0.5, 1, 2])).tolist() == [0, 0, 128, 255, 255]


def test_images_are_spread_each_by_itself():
    """Closed form: (x - least) / (largest - least); an image of one number is dark."""
    images = np.array([[1.0, 3.0], [7.0, 7.0], [-4.0, 0.0]]).reshape(3, 1, 1, 2)
    assert spread(images).reshape(3, 2).tolist() == [[0, 1], [0, 0], [0, 1]]
