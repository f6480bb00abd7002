"""published.py: each form is told by how it begins; what is in them: the tests of each."""

import struct

import numpy as np
import pytest

from tests.models.test_gguf import LLAMA, lively, written
from tinytorch import export, nn
from tinytorch.base.errors import FileFormatError, NotFoundError
from tinytorch.models import GPT, ONNXModel, load, save_folder


def test_each_form_is_told_apart(tmp_path):
    """Ground truth: the settings of what was written; the type that was asked for."""
    model = lively(LLAMA)
    save_folder(model, tmp_path / "folder")
    written(tmp_path / "file", model)  # whatever its name
    header = struct.pack("<7i", 8, 6, 1, 2, 2, 5, 4)
    count = 5 * 8 + 8 + 4 * 64 + 8 + 3 * 48 + 8 + 2 * 4 * 2
    (tmp_path / "a.bin").write_bytes(header + np.zeros(count, "<f4").tobytes())
    for name, vocab in (("folder", 37), ("file", 37), ("a.bin", 5)):
        found = load(tmp_path / name, "bfloat16")
        assert isinstance(found, GPT) and found.config.vocab == vocab and not found.training
        assert {p.dtype.name for p in found.parameters()} == {"bfloat16"}
    export.onnx(nn.Linear(2, 3), tmp_path / "net.onnx", np.zeros((1, 2), np.float32))
    (tmp_path / "net").write_bytes((tmp_path / "net.onnx").read_bytes())
    for name in ("net.onnx", "net"):
        found = load(tmp_path / name, "bfloat16")
        assert isinstance(found, ONNXModel) and not found.training
        assert {p.dtype.name for p in found.parameters()} == {"bfloat16"}
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert load(tmp_path / "link").config.vocab == 37


@pytest.mark.parametrize(
    ("name", "content", "phrase"),
    [
        ("a.pt", b"PK\x03\x04" + b"\0" * 40, "a zip archive, as torch.save writes"),
        ("a.pkl", b"\x80\x02" + b"\0" * 40, "a pickle, which could run any program"),
        ("a.h5", b"\x89HDF\r\n", "an HDF5 file"),
        ("a.ggml", b"ggjt" + b"\0" * 40, "a file of llama.cpp before GGUF"),
        ("a.safetensors", b"\x10" + b"\0" * 40, "weights without their settings"),
        ("a.onnx", b"<html>", "not a valid ONNX file"),
        ("a.txt", b"once upon a time, in a land far away", "not a model of llama2.c"),
        ("empty", b"", "it is too short"),
    ],
)
def test_what_is_no_model_is_named(name, content, phrase, tmp_path):
    """Ground truth: how other files begin."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileFormatError, match=phrase) as caught:
        load(tmp_path / name)
    assert caught.value.rule and caught.value.fix


def test_nothing_there(tmp_path):
    """Ground truth: the folder."""
    with pytest.raises(NotFoundError):
        load(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError):
        load(tmp_path / "empty")
