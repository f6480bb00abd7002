"""The safetensors header: each thing it must not say is refused by name."""

import json

import pytest

from tinytorch.base.dtypes import bfloat16, float32, int64
from tinytorch.base.errors import FileFormatError
from tinytorch.storage.safetensors import LONGEST, decode_header, encode_header


def entry(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets), **more}


def test_what_is_encoded_is_decoded():
    """Ground truth: round trip; wide types first, each start a multiple of its size."""
    described = {
        "b": (bfloat16, (3,)),
        "a": (float32, ()),
        "c": (int64, (2, 0)),
        "d": (int64, (1,)),
    }
    text, order = encode_header(described, {"epoch": "3"})
    assert order == ["c", "d", "a", "b"]
    assert len(text) % 8 == 0
    found = decode_header(text[8:], 8 + 4 + 6)
    assert {n: (e.dtype, e.shape) for n, e in found.entries.items()} == described
    assert all(e.start % e.dtype.itemsize == 0 for e in found.entries.values())
    assert found.metadata == {"epoch": "3"}


REFUSED = {
    "a field too many": ({"x": entry(color="red")}, 8, "is not described"),
    "a field missing": ({"x": {"dtype": "F32", "shape": [2]}}, 8, "is not described"),
    "not an object": ({"x": [1, 2]}, 8, "is not described"),
    "unknown type": ({"x": entry("F8_E4M3")}, 8, "unknown type"),
    "type not text": ({"x": entry(["F32"])}, 8, "unknown type"),
    "negative axis": ({"x": entry(shape=(-2,))}, 8, "no valid shape"),
    "axis is a bool": ({"x": entry(shape=(True, 2))}, 8, "no valid shape"),
    "axis is a fraction": ({"x": entry(shape=(2.0,))}, 8, "no valid shape"),
    "axis beyond 64 bits": ({"x": entry(shape=(2**64,))}, 8, "no valid shape"),
    "too many axes": ({"x": entry(shape=[1] * 64 + [2])}, 8, "no valid shape"),
    "backwards": ({"x": entry(offsets=(8, 0))}, 8, "no valid byte range"),
    "three offsets": ({"x": entry(offsets=(0, 8, 8))}, 8, "no valid byte range"),
    "wrong size": ({"x": entry(shape=(3,))}, 8, "has the wrong size"),
    "overlap": ({"x": entry(), "y": entry(offsets=(4, 12))}, 12, "overlaps the one before it"),
    "hole": ({"x": entry(), "y": entry(offsets=(12, 20))}, 20, "leaves a hole"),
    "hole in front": ({"x": entry(offsets=(8, 16))}, 16, "leaves a hole"),
    "file too short": ({"x": entry()}, 7, "ends early"),
    "file too long": ({"x": entry()}, 9, "belong to no array"),
    "metadata not text": ({"__metadata__": {"epoch": 3}, "x": entry()}, 8, "metadata is not text"),
    "metadata a list": ({"__metadata__": [], "x": entry()}, 8, "metadata is not text"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    """Ground truth: the rules of the format's page; a phrase of each refusal."""
    table, size, phrase = REFUSED[case]
    with pytest.raises(FileFormatError, match=phrase):
        decode_header(json.dumps(table).encode(), size)


BAD_TEXT = {
    "twice": (b'{"x":{"dtype":"F32","dtype":"F64"}}', "a key stands twice"),
    "not JSON": (b'{"x":', "not JSON"),
    "not UTF-8": (b'{"\xff":1}', "not UTF-8"),
    "space first": (b' {"x":1}', "does not begin with"),
    "a list": (b"[]", "does not begin with"),
    "empty": (b"", "does not begin with"),
    "deep": (b'{"a":' * 100_000, "not JSON"),
    "NaN": (b'{"x":NaN}', "not JSON"),
    "long number": (b'{"x":' + b"9" * 5000 + b"}", "not JSON"),
    "text after": (b"{}x", "not JSON"),
}


@pytest.mark.parametrize("case", BAD_TEXT)
def test_refused_text(case):
    """Ground truth: JSON (RFC 8259) and UTF-8, read strictly."""
    text, phrase = BAD_TEXT[case]
    with pytest.raises(FileFormatError, match=phrase):
        decode_header(text, 0)


def test_names_that_cannot_be_written():
    """Ground truth: a lone surrogate has no UTF-8; "__metadata__" is taken."""
    with pytest.raises(FileFormatError, match="not valid Unicode"):
        encode_header({"\ud800": (float32, (1,))}, {})
    with pytest.raises(FileFormatError, match="not free as a name"):
        encode_header({"__metadata__": (float32, (1,))}, {})
    with pytest.raises(FileFormatError, match="metadata is not text"):
        encode_header({}, {"epoch": 3})  # type: ignore[dict-item]


def raw(header_text: bytes) -> bytes:
    """A whole file with this header and the float32 number 5."""
    return len(header_text).to_bytes(8, "little") + header_text + b"\0\0\xa0\x40"


ONE = b'"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'


@pytest.mark.parametrize(
    "text",
    [
        b'{"__metadata__":null,' + ONE + b"}",
        b'{"__metadata__":{},' + ONE + b"}",
        b"{" + ONE + b"}    ",
        b"{" + ONE.replace(b'"x"', b'"\\ud83d\\ude00"') + b"}",
        b'{"__metadata__":{"a":"\\ud83d\\ude00"},' + ONE + b"}",
    ],
)
def test_read_as_the_reference_reads(text):
    """Ground truth: the format's reference library: null metadata, blanks, surrogate pairs."""
    import safetensors.numpy

    found = decode_header(text, 4)
    assert list(found.entries) == list(safetensors.numpy.load(raw(text)))


@pytest.mark.parametrize(
    "text",
    [
        b"{" + ONE.replace(b'"x"', b'"\\ud800"') + b"}",
        b"{" + ONE.replace(b'"x"', b'"\\udc00x"') + b"}",
        b"{" + ONE.replace(b'"x"', b'"\xed\xa0\x80"') + b"}",
        b'{"__metadata__":{"\\ud800":"a"},' + ONE + b"}",
        b'{"__metadata__":{"a":"\\uDFFF"},' + ONE + b"}",
    ],
)
def test_half_a_character_is_refused(text):
    """Ground truth: the format's reference library refuses it too; the message can be printed."""
    import safetensors.numpy

    with pytest.raises(safetensors.SafetensorError):
        safetensors.numpy.load(raw(text))
    with pytest.raises(FileFormatError) as told:
        decode_header(text, 4)
    assert str(told.value).encode()


def test_what_a_hostile_header_says_stays_short_and_printable():
    """Ground truth: names, types and shapes of a million characters, and a terminal's escapes."""
    long, odd = "\x1b[2J" * 300_000, "\x1b]0;mine\x07"
    for table in (
        {long: entry(shape=(3,))}, {odd: [odd] * 10**5}, {"x": entry(long)}, {"x": entry([odd])},
        {"x": entry(shape=[odd] * 10**5)}, {"__metadata__": {odd: [long]}}, {odd: entry()},
    ):  # fmt: skip
        with pytest.raises(FileFormatError) as told:
            decode_header(json.dumps(table).encode(), 7)
        text = str(told.value)
        assert len(text) < 2000 and text.replace("\n", "").isprintable()


def test_a_header_longer_than_any_model_needs_is_not_read(tmp_path):
    """Ground truth: its length, which stands in the first 8 bytes."""
    from tinytorch.storage import safetensors

    path = tmp_path / "x.safetensors"
    with path.open("wb") as file:
        file.write((LONGEST + 8).to_bytes(8, "little"))
        file.truncate(1 << 30)
    with pytest.raises(FileFormatError, match="length is impossible"):
        safetensors.read(path)
    names = {"x" * 1000 + str(i): (float32, (0,)) for i in range(LONGEST // 1000)}
    with pytest.raises(FileFormatError, match="too long"):
        encode_header(names, {})
