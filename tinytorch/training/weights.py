"""Weights on disk: the state of a module as one safetensors file.

Knows names and arrays, never what the module computes. Optimizer state and the position in the data
are not part of it.
"""

from __future__ import annotations

from pathlib import Path

from tinytorch.nn.module import Module
from tinytorch.storage import safetensors
from tinytorch.training.checkpoint import WEIGHTS, open_checkpoint


def save_weights(module: Module, path: str | Path, metadata: dict[str, str] | None = None) -> None:
    """Write parameters and buffers under their names; the file is replaced in one step.

    Args:
        module: whose `state_dict()` is written.
        path: the file, by custom ending in ".safetensors".
        metadata: free text by name, kept in the file.
    """
    arrays = {
        name: (tensor.handle().array, tensor.dtype) for name, tensor in module.state_dict().items()
    }
    safetensors.save(path, arrays, metadata)


def load_weights(module: Module, path: str | Path, strict: bool = True) -> None:
    """Read a file that `save_weights` or PyTorch's users wrote, into a module of the same shape.

    Args:
        module: what receives the values.
        path: the file, or the folder of a checkpoint.
        strict: its names must be exactly those of the module.

    Raises:
        FileFormatError: the file is damaged.
        SettingError: names differ. ShapeError: a shape differs. Nothing has changed then.
    """
    if Path(path).is_dir():
        opened = open_checkpoint(path)
        found = safetensors.read_descriptor(opened.descriptor(WEIGHTS))
    else:
        found = safetensors.read(path)
    module.load_state_dict(found.arrays, strict=strict)
