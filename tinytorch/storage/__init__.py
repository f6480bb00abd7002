"""How do arrays live on disk? Strict safetensors, GGUF and ONNX, nested state, atomic folders.

Knows arrays and files, never models.
"""

from tinytorch.base.arguments import explain_all as _explain_all
from tinytorch.base.files import replacing
from tinytorch.storage.folder import (
    Folder,
    FutureVersionError,
    NewFolder,
    reading_folder,
    writing_folder,
)
from tinytorch.storage.gguf import GGUFFile, StoredArray
from tinytorch.storage.gguf import read as read_gguf
from tinytorch.storage.safetensors import File, load, read, save
from tinytorch.storage.tree import TypedArray

__all__ = [
    "File",
    "Folder",
    "GGUFFile",
    "FutureVersionError",
    "NewFolder",
    "StoredArray",
    "TypedArray",
    "load",
    "read",
    "read_gguf",
    "reading_folder",
    "replacing",
    "save",
    "writing_folder",
]

_explain_all(globals(), __all__)
