"""Models that other programs wrote, whatever their form: a folder, or a file.

Knows how each form begins; the files beside know what is in them.
"""

from __future__ import annotations

import os

from tinytorch.base import files
from tinytorch.base.dtypes import DType, as_dtype
from tinytorch.base.errors import FileFormatError
from tinytorch.models.gguf import load_gguf
from tinytorch.models.hugging_face import load_folder
from tinytorch.models.llama2c import load_llama2c
from tinytorch.models.onnx import load_onnx
from tinytorch.nn.module import Module
from tinytorch.storage import gguf

# What people take for a model's file, by first bytes, and what to do about it.
_OTHERS = {
    b"PK\x03\x04": ("a zip archive, as torch.save writes", "models.load(folder) of safetensors"),
    b"\x80": ("a pickle, which could run any program", "models.load(folder) of safetensors"),
    b"\x89HDF": ("an HDF5 file, as Keras writes", "models.load(folder) of safetensors"),
    b"ggml": ("a file of llama.cpp before GGUF", "llama.cpp's convert_llama_ggml_to_gguf.py"),
    b"ggjt": ("a file of llama.cpp before GGUF", "llama.cpp's convert_llama_ggml_to_gguf.py"),
}


def load(path: str | os.PathLike[str], dtype: str | DType = "float32") -> Module:
    """The model of a folder or a file that another program wrote, in evaluation mode.

    Args:
        path: a folder in Hugging Face's layout (`load_folder`), a GGUF file (`load_gguf`), an ONNX
            file (`load_onnx`), or a file of llama2.c (`load_llama2c`).
        dtype: of the weights in memory; default float32.

    Raises:
        NotFoundError: there is nothing.
        FileFormatError: it is none of these, damaged, or a model that TinyTorch does not have.

    Example:
        >>> import tempfile, tinytorch as tt
        >>> from tinytorch import models
        >>> folder = tempfile.mkdtemp()
        >>> models.save_folder(models.GPT(models.GPTConfig(65, 1, 2, 8, 16)), folder)
        >>> models.load(folder)(tt.tensor([[1, 2]])).shape
        (1, 2, 65)
    """
    place = files.user_path(path)
    if place.is_dir():
        return load_folder(place, dtype)
    with files.reading(place, links=True) as file:
        first = file.read(16)
    if first.startswith(gguf.FIRST):
        return load_gguf(place, dtype)
    if place.suffix == ".onnx" or _is_onnx(first):
        return load_onnx(place, dtype)
    known = next((x for begin, x in _OTHERS.items() if first.startswith(begin)), None)
    if place.suffix == ".safetensors":
        known = "weights without their settings", f"models.load({str(place.parent)!r})"
    if known is not None:
        raise FileFormatError(
            f"{place} is no model's file that TinyTorch reads",
            got=known[0],
            rule="a folder with config.json and safetensors, or a file: GGUF, ONNX, llama2.c's",
            fix=known[1],
        )
    model = load_llama2c(place)
    return model.to(as_dtype(dtype))


def _is_onnx(first: bytes) -> bool:
    """Whether a file begins as ONNX is written: field 1 is a small number, and another follows."""
    return len(first) > 2 and first[0] == 8 and 0 < first[1] < 128 and first[2] != 0
