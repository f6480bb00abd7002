"""The strict reader: one file of every kind it has to refuse, and that refusing costs nothing."""

import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tinytorch.base.errors import FileFormatError
from tinytorch.storage import load

DATA = np.arange(4, dtype="<f4").tobytes()


def made(table: object = None, data: bytes = DATA, text: bytes | None = None) -> bytes:
    """A file with this header, given as JSON value or as text."""
    text = json.dumps(table).encode() if text is None else text
    return len(text).to_bytes(8, "little") + text + data


def entry(start: int = 0, end: int = 16, dtype: str = "F32", shape=(4,), **more) -> dict:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end], **more}


HALF = {"shape": (2,)}
REFUSED = {
    "truncated data": (made({"x": entry()}, DATA[:-1]), "ends early"),
    "truncated header": (made({"x": entry()})[:30], "length is impossible"),
    "truncated length": (b"\x40\0\0", "too short"),
    "nothing": (b"", "too short"),
    "overlapping": (made({"x": entry(), "y": entry(8, 16, **HALF)}), "overlaps the one before"),
    "holed": (made({"x": entry(0, 8, **HALF), "y": entry(12, 16, shape=(1,))}), "leaves a hole"),
    "data of nobody": (made({"x": entry(0, 8, **HALF)}), "belong to no array"),
    "overflowing shape": (made({"x": entry(shape=(2**62, 2**62, 4))}), "has the wrong size"),
    "shape that wraps to the right size": (
        made({"x": entry(shape=(2**32, 2**32, 4))}), "has the wrong size"
    ),
    "overflowing offsets": (made({"x": entry(2**63, 2**63 + 16)}), "no valid byte range"),
    "offsets beyond the file": (made({"x": entry(16, 32)}), "leaves a hole"),
    "oversized header": ((100_000_001).to_bytes(8, "little") + b"{}", "length is impossible"),
    "largest length": (b"\xff" * 8 + b"{}", "length is impossible"),
    "duplicate key": (
        made(text=b'{"x":%s,"x":%s}' % ((json.dumps(entry()).encode(),) * 2)), "stands twice"
    ),
    "duplicate key that an escape hides": (
        made(text=b'{"x":%s,"\\u0078":%s}' % ((json.dumps(entry()).encode(),) * 2)), "stands twice"
    ),
    "not UTF-8": (made(text=b'{"\xff":1}'), "not UTF-8"),
    "UTF-16": (made(text=json.dumps({"x": entry()}).encode("utf-16")), "does not begin with"),
    "leading blank": (made(text=b" " + json.dumps({"x": entry()}).encode()), "does not begin with"),
    "byte order mark": (made(text=b"\xef\xbb\xbf{}", data=b""), "does not begin with"),
    "unknown field": (made({"x": entry(compression="zstd")}), "is not described"),
    "missing field": (made({"x": {"dtype": "F32", "shape": [4]}}), "is not described"),
    "dtype of another size": (made({"x": entry(dtype="F64")}), "has the wrong size"),
    "dtype that does not exist": (made({"x": entry(dtype="F32 ")}), "unknown type"),
    "dtype of one letter": (made({"x": entry(dtype="f4")}), "unknown type"),
    "bool of 2": (made({"x": entry(0, 1, "BOOL", (1,))}, b"\2"), "not a bool"),
    "pickle": (pickle.dumps({"x": [1.0, 2.0]}, 2), "not a safetensors file"),
    "newer pickle": (pickle.dumps({"x": np.ones(3)}, 5), "not a safetensors file"),
    "oldest pickle": (pickle.dumps({"x": [1.0]}, 0), "not a valid safetensors file"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(tmp_path, kind):
    """Ground truth: the rules of the format's page, and a phrase that says which was broken."""
    content, phrase = REFUSED[kind]
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(FileFormatError, match=phrase):
        load(tmp_path / "x")


def test_files_of_other_makers_are_named(tmp_path):
    """Ground truth: files of those makers; the message says what to do where they were made."""
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("archive/data.pkl", b"...")
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name, word in [("zip", "zip archive"), ("array.npy", "NumPy array file")]:
        with pytest.raises(FileFormatError, match=word) as told:
            load(tmp_path / name)
        assert "safetensors.torch.save_file" in told.value.fix


def test_an_innocent_length_is_not_taken_for_another_format(tmp_path):
    """Ground truth: a header of 0x280 bytes begins as a pickle does, and is read."""
    text = json.dumps({"x": entry()}).encode().ljust(0x280)
    assert len(text).to_bytes(8, "little")[:2] == b"\x80\x02"
    (tmp_path / "x").write_bytes(made(text=text))
    assert load(tmp_path / "x")["x"][0].tolist() == [0, 1, 2, 3]


RUNS = """
import resource, sys
from tinytorch.storage import load
from tinytorch.base.errors import FileFormatError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    load(sys.argv[1])
except FileFormatError:
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print("refused", grown)
"""


class Evil:
    def __reduce__(self):
        return (print, ("EXECUTED",))


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_is_never_executed(tmp_path, protocol):
    """Ground truth: a pickle that prints when it is read; nothing but the refusal is printed."""
    (tmp_path / "x").write_bytes(pickle.dumps(Evil(), protocol) + bytes(64))
    done = subprocess.run(
        [sys.executable, "-c", RUNS, str(tmp_path / "x")],
        capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.startswith("refused") and "EXECUTED" not in done.stdout, done.stderr


def test_a_lying_header_allocates_nothing(tmp_path):
    """Ground truth: the process's own peak: a claim of 64 GB grows it by less than 8 MB."""
    table = {"x": {"dtype": "F64", "shape": [2**33], "data_offsets": [0, 2**36]}}
    (tmp_path / "x").write_bytes(made(table))
    done = subprocess.run(
        [sys.executable, "-c", RUNS, str(tmp_path / "x")],
        capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    word, grown = done.stdout.split()
    assert word == "refused" and int(grown) < 8 << 10  # KB
