"""Arrays left in their files: read as an array in memory is."""

import pickle

import numpy as np
import pytest

from tinytorch.base.errors import FileFormatError, IndexRangeError
from tinytorch.data import ArrayDataset, DataLoader, MappedArray, map_npy

WHOLE = np.arange(60, dtype=np.float32).reshape(10, 2, 3)


@pytest.fixture
def mapped(tmp_path):
    """Ten records in three files after a head of four bytes each."""
    paths = [tmp_path / f"{i}.bin" for i in range(3)]
    for path, part in zip(paths, np.split(WHOLE, [3, 4]), strict=True):
        path.write_bytes(b"head" + part.tobytes())
    return MappedArray(paths, np.float32, (2, 3), offset=4)


@pytest.mark.parametrize(
    "index",
    [0, -1, 9, slice(2, 5), slice(None), slice(None, None, -3), [3, 3, 0], np.array([9, 4, 2]),
     np.arange(10) % 2 == 0, np.empty(0, int)],
    ids=str,
)  # fmt: skip
def test_read_as_in_memory(mapped, index):
    """Ground truth: NumPy indexing of the same array in memory."""
    got = mapped[index]
    assert got.dtype == np.float32 and np.array_equal(got, WHOLE[index])


def test_shape_and_travel(mapped):
    """Ground truth: the array in memory; a pickle holds names, not numbers."""
    assert mapped.shape == WHOLE.shape and mapped.ndim == 3 and len(mapped) == 10
    assert np.array_equal(np.asarray(mapped), WHOLE)
    mapped[0]
    content = pickle.dumps(mapped)
    assert WHOLE[4].tobytes() not in content
    assert np.array_equal(pickle.loads(content)[[9, 0]], WHOLE[[9, 0]])


def test_outside_is_refused(mapped):
    """Ground truth: ten records."""
    for index in (10, -11, [0, 10]):
        with pytest.raises(IndexRangeError, match="no record of that number"):
            mapped[index]


@pytest.mark.parametrize("index", [0, -1, slice(None), slice(None, None, -2), [3, 0, 3]], ids=str)
def test_a_part_is_read_as_a_slice(mapped, index):
    """Ground truth: NumPy's slices of the array in memory; a part of a part lies in both."""
    part, wanted = mapped.part(1, 9), WHOLE[1:9]
    assert part.shape == wanted.shape and np.array_equal(part[index], wanted[index])
    inner = pickle.loads(pickle.dumps(part.part(2, 6)))
    assert np.array_equal(inner[index], wanted[2:6][index])
    with pytest.raises(IndexRangeError, match="no record of that number"):
        part[8]
    for start, stop in ((-1, 3), (3, 3), (2, 9)):
        with pytest.raises(IndexRangeError, match="begins and ends in it"):
            part.part(start, stop)


def test_fields(tmp_path):
    """Ground truth: a structured array in memory."""
    records = np.zeros(4, [("label", "u1"), ("image", ">i2", (3,))])
    records["label"], records["image"] = np.arange(4), np.arange(12).reshape(4, 3)
    (tmp_path / "x").write_bytes(records.tobytes())
    images = MappedArray([tmp_path / "x"], records.dtype, field="image")
    assert images.shape == (4, 3) and images.dtype == np.dtype(">i2")
    assert np.array_equal(images[[2, 0]], records["image"][[2, 0]])


def test_files_that_are_not_whole(tmp_path):
    """Ground truth: 24 bytes a record."""
    for content in (b"", b"x" * 23, b"x" * 25):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(FileFormatError, match="whole number of records"):
            MappedArray([tmp_path / "x"], np.float32, (2, 3))


def test_npy_in_a_loader(tmp_path):
    """Ground truth: the saved array, through an ArrayDataset's batches."""
    np.save(tmp_path / "x.npy", WHOLE)
    data = ArrayDataset(map_npy(tmp_path / "x.npy"), np.arange(10))
    loader = DataLoader(data, 4, shuffle=True, prefetch=2)
    for x, i in loader:
        assert np.array_equal(x, WHOLE[i])


def test_npy_that_is_refused(tmp_path):
    """Ground truth: cut short, no such file inside, objects, Fortran order, no axis."""
    path = tmp_path / "x.npy"
    np.save(path, WHOLE)
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:20], b"", b"hello", whole + b"1234"):
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match="whole number of records"):
            map_npy(path)
    for array in (np.array([{}, None]), np.asfortranarray(WHOLE), np.array(3.0)):
        np.save(path, array)
        with pytest.raises(FileFormatError, match="whole number of records"):
            map_npy(path)


def test_a_file_that_changed_is_refused(mapped, tmp_path):
    """Ground truth: bytes and time of change, as they were when it was first opened: a shorter file
    would be read beyond its end, which ends the process."""
    (tmp_path / "1.bin").write_bytes(b"")
    again = pickle.loads(pickle.dumps(mapped))
    assert np.array_equal(again[[0, 9]], WHOLE[[0, 9]])
    with pytest.raises(FileFormatError, match="was changed"):
        again[3]


def test_what_is_no_file_is_refused(tmp_path):
    """Ground truth: a pipe would be waited for, a missing file is a FileNotFoundError."""
    import os

    os.mkfifo(tmp_path / "pipe")
    for act in (lambda p: MappedArray([p], np.uint8), map_npy):
        with pytest.raises(FileFormatError, match="not a regular file"):
            act(tmp_path / "pipe")
        with pytest.raises(FileNotFoundError, match="cannot be read"):
            act(tmp_path / "none")


@pytest.mark.parametrize(
    "head",
    [
        "{'descr': '(1,', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (2, " + str(2**70) + ")}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': 'x'}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1,), 'evil': __import__('os')}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (" + "1," * 65 + ")}",
        "(" * 5000,
        "\x1b[2J",
    ],
)
def test_heads_of_npy_files_that_lie(tmp_path, head):
    """Ground truth: four parts, without control characters."""
    text = head.encode() + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"a"
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(FileFormatError, match="whole number of records") as told:
        map_npy(tmp_path / "x.npy")
    assert str(told.value).replace("\n", "").isprintable()
