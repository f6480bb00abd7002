"""storage/protobuf.py: messages as bytes and back."""

import numpy as np
import onnx
import pytest

from tinytorch.base.errors import FileFormatError
from tinytorch.storage import protobuf
from tinytorch.storage.protobuf import Decoder, Field, encoded

SCHEMA = {
    "Test": {
        1: Field("a", "int"), 2: Field("b", "text"), 3: Field("c", "Test"), 4: Field("d", "float"),
        5: Field("many", "int", True), 6: Field("texts", "text", True), 7: Field("raw", "bytes"),
        8: Field("parts", "float", True), 9: Field("wide", "doubles"),
    }
}  # fmt: skip


def written(message) -> bytes:
    return b"".join(map(bytes, encoded(message, "Test", SCHEMA)))


def read(content: bytes):
    return Decoder(SCHEMA, "test file").message(memoryview(content), "Test")


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ({"a": 150}, "08 96 01"),
        ({"b": "testing"}, "12 07 74 65 73 74 69 6e 67"),
        ({"c": {"a": 150}}, "1a 03 08 96 01"),
        ({"a": -2}, "08 fe ff ff ff ff ff ff ff ff 01"),
        ({"many": [3, 270, 86942]}, "2a 06 03 8e 02 9e a7 05"),
        ({"d": 1.0}, "25 00 00 80 3f"),
    ],
)
def test_the_examples_of_the_format(message, content):
    """Ground truth: the bytes that the format's documentation writes out; of 1.0, IEEE 754."""
    assert written(message) == bytes.fromhex(content)
    found = read(bytes.fromhex(content))
    for name, value in message.items():
        got = found[name]["a"] if name == "c" else found[name]
        assert got == (value["a"] if name == "c" else value)


def test_lists_of_numbers_stand_in_one_piece_or_apart():
    """Ground truth: the same numbers, written in both ways, and a field nobody knows."""
    apart = bytes.fromhex("28 03 28 8e 02 78 05 45 00 00 80 3f") + bytes.fromhex(
        "49 00 00 00 00 00 00 f0 3f"
    )
    found = read(apart)
    assert found["many"] == [3, 270] and found["parts"] == [1.0]
    assert np.frombuffer(found["wide"], "<f8").tolist() == [1.0]


def test_a_message_of_the_onnx_library_is_read_and_written_alike():
    """Ground truth: onnx's own library, by Google's protobuf."""
    from tinytorch.storage.onnx import SCHEMA as FIELDS

    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], strides=[1, -2], alpha=0.5, s="text")
    content = node.SerializeToString()
    found = Decoder(FIELDS, "file").message(memoryview(content), "Node")
    assert found["inputs"] == ["x", "w"] and found["operator"] == "Conv"
    kept = [
        {k: v for k, v in a.items() if k in ("name", "type", "ints") or v} for a in
        found["attributes"]
    ]  # fmt: skip
    back = b"".join(map(bytes, encoded({**found, "attributes": kept}, "Node", FIELDS)))
    again = onnx.NodeProto.FromString(back)
    assert again.attribute == node.attribute and again.input == node.input


BAD = {
    "it ends within": ("12 07 74", "0d 01"),
    "is of no kind": ("0b", "00 00"),
    "does not end": ("08 ff ff ff ff ff ff ff ff ff ff ff 01", "08 80"),
    "is of another kind": ("0a 01 61", "10 01", "21 00 00 00 00 00 00 00 00", "42 03 61 61 61"),
    "is no text": ("12 01 ff",),
}


@pytest.mark.parametrize(("phrase", "content"), [(k, c) for k, all in BAD.items() for c in all])
def test_what_is_no_message_is_refused(phrase, content):
    """Ground truth: bytes made by hand."""
    with pytest.raises(FileFormatError, match=phrase):
        read(bytes.fromhex(content))


def test_more_parts_than_a_model_has_are_refused(monkeypatch):
    """Ground truth: one part too many."""
    monkeypatch.setattr(protobuf, "MOST_MESSAGES", 2)
    assert read(bytes.fromhex("1a 00"))["c"] is not None
    with pytest.raises(FileFormatError, match="too many parts"):
        read(bytes.fromhex("1a 00 1a 00"))
