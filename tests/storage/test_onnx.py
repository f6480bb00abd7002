"""storage/onnx.py: arrays of every number type, arrays beside the file, and damaged files."""

import os
import random

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tinytorch.base.dtypes import DTYPES, bfloat16, from_bfloat16
from tinytorch.base.errors import FileFormatError, NotFoundError, SettingError
from tinytorch.storage import onnx as files
from tinytorch.storage.protobuf import Decoder, encoded

NUMBERS = np.array([[0, 1, 2], [3, 100, 127]])


def read_tensor(proto, path="model.onnx"):
    message = Decoder(files.SCHEMA, "file").message(memoryview(proto.SerializeToString()), "Tensor")
    return files.ONNXFile({}, path).array(message)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)
@pytest.mark.parametrize("raw", [True, False], ids=["raw", "fields"])
def test_arrays_that_the_library_wrote(dtype, raw):
    """Ground truth: onnx's own writer, both ways it has; bfloat16 by its bits."""
    array = (NUMBERS > 1) if dtype.name == "bool" else NUMBERS
    code = files.CODES[dtype.name]
    typed = array.astype(np.float32 if dtype is bfloat16 else dtype.storage)
    raw = raw and dtype is not bfloat16  # whose bytes NumPy does not have
    values = typed.tobytes() if raw else typed.ravel().tolist()
    got, kind = read_tensor(helper.make_tensor("x", code, array.shape, values, raw))
    assert kind is dtype and got.shape == array.shape
    assert ((from_bfloat16(got) if dtype is bfloat16 else got) == array).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.name)
def test_arrays_that_the_library_reads(dtype):
    """Ground truth: onnx's own reader."""
    stored = NUMBERS.astype(dtype.storage)
    pieces = encoded(files.tensor_of("x", stored, dtype), "Tensor", files.SCHEMA)
    proto = TensorProto.FromString(b"".join(map(bytes, pieces)))
    got = numpy_helper.to_array(proto)
    assert got.shape == NUMBERS.shape and proto.data_type == files.CODES[dtype.name]
    assert got.tobytes() == stored.tobytes()


def test_numbers_of_four_bits():
    """Ground truth: onnx's own packing, of an odd count."""
    for code, numbers in ((TensorProto.INT4, [-8, -1, 0, 7, 3]), (TensorProto.UINT4, [0, 15, 9])):
        got, _ = read_tensor(helper.make_tensor("x", code, (len(numbers),), numbers))
        assert got.tolist() == numbers


def outside(path, **facts):
    """A tensor whose numbers lie in another file."""
    proto = TensorProto(name="w", data_type=1, dims=[2])
    proto.data_location = TensorProto.EXTERNAL
    for key, value in facts.items():
        proto.external_data.add(key=key, value=str(value))
    return read_tensor(proto, path)


def test_arrays_beside_the_file(tmp_path):
    """Ground truth: the bytes that were written there."""
    (tmp_path / "w.bin").write_bytes(np.array([9, 1, 2], "<f4").tobytes())
    place = tmp_path / "model.onnx"
    got, _ = outside(place, location="w.bin", offset=4, length=8)
    assert got.tolist() == [1, 2]
    assert outside(place, location="w.bin", offset=4)[0].tolist() == [1, 2]
    for facts in ({"offset": 8, "length": 8}, {"offset": -4}, {"length": "x"}, {"offset": 10**30}):
        with pytest.raises(FileFormatError, match="not in that file"):
            outside(place, location="w.bin", **facts)
    with pytest.raises(NotFoundError):
        outside(place, location="other.bin")


def test_arrays_outside_the_folder_are_not_read(tmp_path):
    """Ground truth: the rule of the format: inside the model's folder; links lead out of it too."""
    inside = tmp_path / "inside"
    inside.mkdir()
    (tmp_path / "secret").write_bytes(bytes(8))
    os.symlink(tmp_path / "secret", inside / "link")
    for name in ("../secret", str(tmp_path / "secret"), "..", "", "a/../../secret", "..\\secret"):
        with pytest.raises(FileFormatError, match="outside the model's folder"):
            outside(inside / "model.onnx", location=name, length=8)
    with pytest.raises(FileFormatError, match="not a regular file"):
        outside(inside / "model.onnx", location="link", length=8)


@pytest.mark.parametrize(
    ("facts", "phrase"),
    [
        ({"dims": [3], "data_type": 1, "raw_data": bytes(8)}, "not those of its shape"),
        ({"dims": [-1], "data_type": 1}, "no shape"),
        ({"dims": [1] * 40, "data_type": 1}, "no shape"),
        ({"dims": [1], "data_type": 8}, "none of ours"),
        ({"dims": [1], "data_type": 3, "int32_data": [300]}, "does not fit its type"),
        ({"dims": [1], "data_type": 9, "raw_data": b"\x02"}, "truth value"),
    ],
)
def test_arrays_that_are_none(facts, phrase):
    """Ground truth: messages made by hand."""
    with pytest.raises(FileFormatError, match=phrase):
        read_tensor(TensorProto(**facts))


def model():
    """A small file of onnx's own making."""
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"], alpha=0.5)]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "net", [value("x", 1, ["N", 2])], [value("y", 1, ["N", 2])],
        [numpy_helper.from_array(np.eye(2, dtype=np.float32), "w")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


def test_a_file_is_written_and_read(tmp_path):
    """Ground truth: onnx's own library, which made it and checks it."""
    (tmp_path / "a.onnx").write_bytes(model().SerializeToString())
    found = files.read(tmp_path / "a.onnx")
    assert [n["operator"] for n in found.model["graph"]["nodes"]] == ["Gemm"]
    assert found.array(found.model["graph"]["initializers"][0])[0].tolist() == [[1, 0], [0, 1]]
    made = {
        "ir_version": 10, "producer_name": "us", "opset_import": [{"domain": "", "version": 21}],
        "graph": {
            "name": "net", "inputs": found.model["graph"]["inputs"],
            "outputs": found.model["graph"]["outputs"],
            "nodes": [{"operator": "Gemm", "inputs": ["x", "w"], "outputs": ["y"],
                       "attributes": [files.attribute_of("alpha", 0.5)]}],
            "initializers": [files.tensor_of("w", np.eye(2, dtype=np.float32), DTYPES[-2])],
        },
    }  # fmt: skip
    files.write(tmp_path / "b.onnx", made)
    back = onnx.load(tmp_path / "b.onnx")
    onnx.checker.check_model(back, full_check=True)
    assert back.graph.node == model().graph.node


def test_a_file_may_not_be_larger_than_a_message(tmp_path, monkeypatch):
    """Ground truth: protobuf's own limit, 2 GiB; here less."""
    monkeypatch.setattr(files, "MOST_BYTES", 10)
    with pytest.raises(SettingError, match="too large for an ONNX file"):
        files.write(tmp_path / "a.onnx", {"producer_name": "x" * 20})
    assert not list(tmp_path.iterdir())


def test_damaged_files_are_refused_or_read(tmp_path):
    """Ground truth: whatever bytes are changed or cut off, it is a message or a FileFormatError."""
    content, choose = model().SerializeToString(), random.Random(0)
    place = tmp_path / "a.onnx"
    refused = 0
    for i in range(100):
        bad = bytearray(content)
        if i % 2:
            bad[choose.randrange(len(bad))] = choose.randrange(256)
        else:
            del bad[choose.randrange(len(bad)) :]
        place.write_bytes(bad)
        try:
            found = files.read(place)
            for tensor in found.model["graph"]["initializers"]:
                found.array(tensor)
        except FileFormatError:
            refused += 1
    assert refused > 50
    place.write_bytes(b"")
    with pytest.raises(FileFormatError, match="a part is missing"):
        files.read(place)
