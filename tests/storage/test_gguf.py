"""gguf.py: what the package gguf wrote, and what must be refused."""

import mmap
import struct

import gguf
import numpy as np
import pytest

from tinytorch.base.errors import FileFormatError, NotFoundError
from tinytorch.storage import read_gguf

KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0")
FACTS = {
    "a.u8": ("add_uint8", 200), "a.i8": ("add_int8", -100), "a.u16": ("add_uint16", 60000),
    "a.i16": ("add_int16", -30000), "a.u32": ("add_uint32", 2**32 - 1),
    "a.i32": ("add_int32", -(2**31)), "a.u64": ("add_uint64", 2**64 - 1),
    "a.i64": ("add_int64", -(2**63)), "a.f32": ("add_float32", 0.5), "a.f64": ("add_float64", 0.1),
    "a.yes": ("add_bool", True), "a.text": ("add_string", "straße 🎈"),
    "a.texts": ("add_array", ["a", "", "▁b"]), "a.numbers": ("add_array", [1, -2, 3]),
    "a.scores": ("add_array", [0.5, -1.5]), "a.truths": ("add_array", [True, False]),
}  # fmt: skip


def written(path, arrays=(), facts=(), alignment=None):
    """A file of the package gguf: arrays are (name, numbers, kind), facts as in FACTS."""
    writer = gguf.GGUFWriter(path, "llama")
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    for name, (method, value) in dict(facts).items():
        getattr(writer, method)(name, value)
    for name, numbers, kind in arrays:
        kind = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quants.quantize(numbers, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_facts_of_every_kind(tmp_path):
    """Ground truth: what was written."""
    found = read_gguf(written(tmp_path / "a.gguf", facts=FACTS)).metadata
    assert found["general.architecture"] == "llama"
    for name, (_, value) in FACTS.items():
        got = found[name].tolist() if isinstance(found[name], np.ndarray) else found[name]
        assert got == value and type(got) is type(value), name
    assert found["a.truths"].dtype == bool and found["a.numbers"].dtype == np.int32


@pytest.mark.parametrize("alignment", [None, 8, 64, 4096])
@pytest.mark.parametrize("kind", KINDS)
def test_arrays_of_every_kind(kind, alignment, tmp_path):
    """Ground truth: the package's own dequantize, to the last bit; several shapes, in order."""
    shapes = {"b": (64,), "a": (3, 96), "three": (2, 5, 32), "last": (7, 32)}
    arrays = [(name, numbers(*s) * 10, kind) for name, s in shapes.items()]
    found = read_gguf(written(tmp_path / "a.gguf", arrays, alignment=alignment)).arrays
    assert list(found) == list(shapes)
    for name, given, _ in arrays:
        type_ = gguf.GGMLQuantizationType[kind]
        wanted = gguf.quants.dequantize(gguf.quants.quantize(given, type_), type_)
        assert found[name].shape == given.shape and found[name].kind.name == kind
        assert np.array_equal(found[name].numbers(), wanted.reshape(given.shape))
        assert np.array_equal(np.asarray(found[name]), found[name].numbers())
        assert found[name].numbers().dtype == np.float32


@pytest.mark.parametrize(("kind", "most"), [("Q8_0", 127), ("Q4_0", 8)])
def test_blocks_are_scales_and_codes(kind, most, tmp_path):
    """Closed form: number = scale * code; the largest of a block has the largest code."""
    given = numbers(5, 64)
    array = read_gguf(written(tmp_path / "a.gguf", [("x", given, kind)])).arrays["x"]
    scales, codes = array.blocks()
    assert scales.shape == (5, 2) and scales.dtype == np.float16
    assert codes.shape == (5, 64) and codes.dtype == np.int8
    assert (np.abs(codes.astype(int)).reshape(5, 2, 32).max(-1) == most).all()
    product = codes.reshape(5, 2, 32) * scales.astype(np.float32)[..., None]
    assert np.array_equal(product.reshape(5, 64), array.numbers())
    # Half a step of rounding; the scale itself has eleven bits. Q4_0 cuts at code 7.
    step = np.abs(given).reshape(5, 2, 32).max(-1, keepdims=True) / most
    error = np.abs(array.numbers() - given).reshape(5, 2, 32)
    assert (error <= step * (0.51 if kind == "Q8_0" else 1.01)).all()


def test_blocks_of_six_bits(tmp_path):
    """Ground truth: the package's own dequantize of random blocks, to the last bit."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (4, 2, 210)).astype(np.uint8)
    blocks[..., 208:] = rng.standard_normal((4, 2, 1)).astype("<f2").view(np.uint8)
    kind, path = gguf.GGMLQuantizationType.Q6_K, tmp_path / "a.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("x", blocks.reshape(4, 420), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = read_gguf(path).arrays["x"]
    assert found.shape == (4, 512)
    assert np.array_equal(found.numbers(), gguf.quants.dequantize(blocks.reshape(4, 420), kind))


def test_rows_in_another_order(tmp_path):
    """Invariant: reordering what is stored = reordering the numbers."""
    array = read_gguf(written(tmp_path / "a.gguf", [("x", numbers(4, 64), "Q4_0")])).arrays["x"]
    turned = array.reordered(lambda rows: rows[::-1].copy())
    assert np.array_equal(turned.numbers(), array.numbers()[::-1])


def test_nothing_is_copied(tmp_path):
    """Ground truth: the memory below an array is the mapped file, and cannot be written."""
    array = read_gguf(written(tmp_path / "a.gguf", [("x", numbers(4, 64), "F32")])).arrays["x"]
    base = array.rows
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base, mmap.mmap) or isinstance(base.obj, mmap.mmap)
    assert not array.rows.flags.writeable
    assert np.shares_memory(array.numbers(), array.rows)


# --- what must be refused ---


def small(tmp_path) -> bytes:
    facts = {"a.text": ("add_string", "abc"), "a.texts": ("add_array", ["x", "yz"]),
             "a.n": ("add_array", [1, 2])}  # fmt: skip
    arrays = [("one", numbers(2, 32), "Q8_0"), ("two", numbers(3), "F32")]
    return written(tmp_path / "small.gguf", arrays, facts).read_bytes()


def test_every_truncation_is_refused(tmp_path):
    """Ground truth: the header says how long the file is; only padding may be missing."""
    whole, path = small(tmp_path), tmp_path / "cut.gguf"
    needed = len(whole) - (32 - 12)  # the last array has 12 bytes
    for length in range(0, needed):
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError, match="not a valid GGUF file"):
            read_gguf(path)
    path.write_bytes(whole[:needed])
    assert list(read_gguf(path).arrays) == ["one", "two"]
    path.write_bytes(whole + b"\0" * 32)
    with pytest.raises(FileFormatError, match="bytes belong to no array"):
        read_gguf(path)


def test_damaged_bytes_are_read_or_refused(tmp_path):
    """Invariant: whatever a byte becomes, there is a file or an error in four parts."""
    whole, path = bytearray(small(tmp_path)), tmp_path / "bad.gguf"
    rng, refused = np.random.default_rng(0), 0
    header = len(whole) - 96 - 12
    for at in range(header):
        for value in {0, 1, 255, whole[at] ^ (1 << int(rng.integers(8)))} - {whole[at]}:
            path.write_bytes(bytes(whole[:at]) + bytes([value]) + bytes(whole[at + 1 :]))
            try:
                for array in read_gguf(path).arrays.values():
                    array.numbers()
            except FileFormatError as error:
                refused += 1
                assert all((error.what, error.got, error.rule, error.fix))
    assert refused > header  # most numbers of a header have one right value


def packed(facts=(), arrays=(), data=b"", version=3, counts=None) -> bytes:
    """A file by hand. facts: (name, kind, bytes); arrays: (name, sizes, kind, offset)."""

    def text(x):
        x = x.encode() if isinstance(x, str) else x
        return struct.pack("<Q", len(x)) + x

    out = b"GGUF" + struct.pack("<I2Q", version, *(counts or (len(arrays), len(facts))))
    for name, kind, value in facts:
        out += text(name) + struct.pack("<I", kind) + value
    for name, sizes, kind, offset in arrays:
        out += text(name) + struct.pack("<I", len(sizes)) + struct.pack(f"<{len(sizes)}Q", *sizes)
        out += struct.pack("<IQ", kind, offset)
    return out + b"\0" * (-len(out) % 32) + data


Q, ONE = struct.Struct("<Q").pack, struct.pack("<I", 1)
F32 = ("x", (8,), 0, 0)
HOSTILE = {
    "another format": (b"PK\x03\x04" + b"\0" * 40, "it begins otherwise"),
    "version 1": (packed(version=1), "it is of another version"),
    "big-endian": (packed(version=3 << 24), "big-endian"),
    "countless arrays": (packed(counts=(2**63, 0)), "number of arrays is impossible"),
    "countless facts": (packed(counts=(0, 2**64 - 1)), "number of facts is impossible"),
    "more facts than there are": (packed(counts=(0, 5)) + b"\0" * 4, "it ends within|a byte for"),
    "a name twice": (packed([("a", 4, ONE), ("a", 4, ONE)]), "a fact stands twice"),
    "a name that is no text": (packed([(b"\xff", 4, ONE)]), "is no UTF-8"),
    "an endless text": (packed([("a", 8, Q(2**62))]), "number of bytes of the text"),
    "an endless list": (packed([("a", 9, ONE + Q(2**62))]), "number of values of 'a'"),
    "a list beyond the end": (packed([("a", 9, struct.pack("<IQ", 12, 9))]), "it ends within"),
    "lists in lists": (
        packed([("a", 9, struct.pack("<IQ", 9, 1) + ONE + Q(0))]), "of an unknown kind",
    ),
    "an unknown kind": (packed([("a", 13, b"")]), "the kind of 'a' is unknown"),
    "no truth": (packed([("a", 7, b"\x02")]), "no truth value"),
    "truths that are none": (packed([("a", 9, struct.pack("<IQ", 7, 2) + b"\1\7")]), "no truth"),
    "alignment 0": (
        packed([("general.alignment", 4, b"\0" * 4)], [F32], b"\0" * 32), "alignment is impossible",
    ),
    "alignment of text": (
        packed([("general.alignment", 8, Q(1) + b"x")], [F32], b"\0" * 32),
        "alignment is impossible",
    ),
    "an array twice": (
        packed((), [F32, ("x", (8,), 0, 32)], b"\0" * 64), "an array stands twice",
    ),
    "arrays on top of each other": (
        packed((), [F32, ("y", (8,), 0, 0)], b"\0" * 64), "overlap or leave holes",
    ),
    "a hole": (packed((), [F32, ("y", (8,), 0, 64)], b"\0" * 96), "overlap or leave holes"),
    "no axes": (packed((), [("x", (), 0, 0)], b"\0" * 32), "no valid shape"),
    "five axes": (packed((), [("x", (1,) * 5, 0, 0)], b"\0" * 32), "no valid shape"),
    "a size of 0": (packed((), [("x", (8, 0), 0, 0)], b"\0" * 32), "no valid shape"),
    "sizes that overflow": (packed((), [("x", (2**32,) * 4, 0, 0)], b"\0" * 32), "it ends early"),
    "half a block": (packed((), [("x", (48,), 8, 0)], b"\0" * 64), "a multiple of 32"),
    "too short for its array": (packed((), [("x", (9,), 0, 0)], b"\0" * 32), "it ends early"),
    "a form we have not": (packed((), [("x", (32,), 12, 0)], b"\0" * 64), "ggml type 12"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "phrase"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_headers(content, phrase, tmp_path):
    """Ground truth: the format; no memory is asked for that the file does not have."""
    path = tmp_path / "a.gguf"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=phrase) as caught:
        read_gguf(path)
    assert caught.value.rule and caught.value.fix


def test_files_by_hand_are_read(tmp_path):
    """Invariant: what HOSTILE damages is right without the damage."""
    path = tmp_path / "a.gguf"
    path.write_bytes(packed([("a", 4, ONE)], [F32], np.arange(8, dtype="<f4").tobytes(), version=2))
    found = read_gguf(path)
    assert found.metadata == {"a": 1}
    assert found.arrays["x"].numbers().tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    with pytest.raises(NotFoundError):
        read_gguf(tmp_path / "none.gguf")
