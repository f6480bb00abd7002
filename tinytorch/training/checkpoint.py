"""One checkpoint: the whole state of a training run as a folder, and back.

Knows names and nested values, never what they are the state of.

    step-000123/
        manifest.json         what this is, the checksum of every file
        weights.safetensors   the model under its own names: any safetensors reader opens it
        state.safetensors     all other arrays, named by their path: "optimizer/exp_avg.0.3"
        state.json            everything else, and where the arrays belong
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinytorch.base import strict_json
from tinytorch.base.errors import DTypeError, FileFormatError, SettingError, printable
from tinytorch.base.strict_json import NotStrictError
from tinytorch.storage import (
    Folder,
    TypedArray,
    reading_folder,
    safetensors,
    tree,
    writing_folder,
)
from tinytorch.storage.header import METADATA
from tinytorch.storage.manifest import NAME as MANIFEST
from tinytorch.tensor.memory import Buffer, from_buffer
from tinytorch.tensor.tensor import Tensor

KIND = "tinytorch checkpoint"
VERSION = 1
WEIGHTS, ARRAYS, REST = "weights.safetensors", "state.safetensors", "state.json"
MODEL = "model"  # the key whose arrays go to WEIGHTS
LONGEST = 32 << 20  # bytes of REST; a history of 100,000 epochs has about that


def save_checkpoint(
    folder: str | os.PathLike[str], state: Mapping[str, Any], about: Mapping[str, Any] | None = None
) -> Path:
    """Write the state of a run as a folder: whole, or not at all.

    Args:
        folder: where; a checkpoint that is there already is replaced in one step.
        state: nested dictionaries, lists and tuples of Tensors, arrays, numbers, text and None, as
            the state_dict() methods give; keys are text. The model's belongs under "model".
        about: a few numbers and words that can be read without opening the arrays.

    Returns:
        the folder.

    Raises:
        StorageError: it cannot be written (no space, no permission); what was there is as it was.
        DTypeError: the state holds something that is not a value; the message names where. Or its
            numbers and texts, those of arrays left out, take more than 32 MiB.
        SettingError: the folder holds something else.

    Cost: the bytes of the arrays once, their SHA-256, six fsyncs.

    Example:
        >>> import tempfile, tinytorch as tt
        >>> model = tt.nn.Linear(2, 1)
        >>> sgd = tt.optim.SGD(model.parameters(), lr=0.1)
        >>> folder = Path(tempfile.mkdtemp()) / "step-000007"
        >>> state = {"model": model.state_dict(), "optimizer": sgd.state_dict(), "step": 7}
        >>> _ = save_checkpoint(folder, state)
        >>> state = load_checkpoint(folder)
        >>> _ = model.load_state_dict(state["model"])
        >>> state["step"], sorted(state["model"])
        (7, ['bias', 'weight'])
    """
    value, arrays = tree.encode(_without_tensors(dict(state)))
    weights, others = {}, {}
    for name, pair in arrays.items():
        own = name.removeprefix(f"{MODEL}/")
        # "__metadata__" is not free as a name in safetensors; with the prefix it is.
        inside = own != name and own != METADATA
        (weights if inside else others)[own if inside else name] = pair
    described, few = tree.encode(dict(about or {}))
    if few:
        raise SettingError(
            "about holds an array",
            got=", ".join(few),
            rule="a few numbers and words",
            fix="put arrays into the state",
        )
    rest = json.dumps(value, indent=1, allow_nan=False).encode() + b"\n"
    if len(rest) > LONGEST:
        raise DTypeError(
            "the state has too many numbers that stand alone",
            got=f"{len(rest)} bytes of text",
            rule=f"at most {LONGEST} bytes besides arrays",
            fix="arrays in place of long lists",
        )
    with writing_folder(folder, KIND, VERSION) as new:
        new.about.update(described)
        with new.file(WEIGHTS) as file:
            safetensors.write(file, weights)
        with new.file(ARRAYS) as file:
            safetensors.write(file, others)
        with new.file(REST) as file:
            file.write(rest)
    return Path(folder)


def load_checkpoint(folder: str | os.PathLike[str], *, links: bool = True) -> dict[str, Any]:
    """Read a folder that `save_checkpoint` wrote; every byte is checked first.

    Nothing in it is executed, whoever made it: it holds values.

    Args:
        folder: the checkpoint.
        links: whether its name may be a symbolic link; `Checkpoints` refuses those it finds.

    Returns:
        the state: what was saved, types included; Tensors and arrays own their memory.

    Raises:
        StorageError: there is no checkpoint at that place.
        FileFormatError: it is damaged or not whole, or a newer TinyTorch wrote it (a
            FutureVersionError); the message says which.
    """
    found = open_checkpoint(folder, links=links)
    weights, others = (
        safetensors.read_descriptor(found.descriptor(name)).arrays for name in (WEIGHTS, ARRAYS)
    )
    arrays = {**others, **{f"{MODEL}/{n}": pair for n, pair in weights.items()}}
    try:
        value = strict_json.parse(found.read(REST, LONGEST))
    except NotStrictError as error:
        raise _unreadable(f"its state {error.what}", error.got, error.rule) from None
    if not isinstance(value, dict):
        raise _unreadable("its state is no dictionary", type(value).__name__, "a JSON object")
    state = tree.decode(value, arrays)
    if not isinstance(state, dict):  # {"$float": "nan"} is an object, and stands for a number
        raise _unreadable("its state is no dictionary", type(state).__name__, "values by name")
    return _tensors(state)


def open_checkpoint(
    folder: str | os.PathLike[str], checksums: bool = True, links: bool = True
) -> Folder:
    """The checked folder of a checkpoint, before anything in it is read.

    Args:
        folder: the checkpoint.
        checksums: False looks only whether all files are there in full length.
        links: as in `load_checkpoint`.
    """
    _refuse_folder_of_checkpoints(Path(folder))
    # A file with holes takes no room on the disk: what it would take of the memory is known before.
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return reading_folder(folder, KIND, VERSION, checksums, links, memory)


def _refuse_folder_of_checkpoints(folder: Path) -> None:
    if not folder.is_dir() or (folder / MANIFEST).exists():
        return
    inside = sorted(p.name for p in folder.iterdir() if (p / MANIFEST).is_file())
    if inside:
        raise FileFormatError(
            f"{folder} holds checkpoints, and is none itself",
            got="a folder with " + printable(", ".join(inside[-3:])),
            rule="the folder of one checkpoint",
            fix=f"load_checkpoint({str(folder / inside[-1])!r}), or Checkpoints(...).load()",
        )


def about_checkpoint(folder: str | os.PathLike[str], *, links: bool = True) -> dict[str, Any]:
    """What was said about a checkpoint when it was saved; its arrays are not read.

    Args:
        folder: the checkpoint.
        links: as in `load_checkpoint`.
    """
    found = open_checkpoint(folder, checksums=False, links=links).manifest.about
    about = tree.decode(found, {})
    if not isinstance(about, dict):
        raise _unreadable("nothing is said about it", type(about).__name__, "values by name")
    return about


def _unreadable(what: str, got: object, rule: str) -> FileFormatError:
    return FileFormatError(
        f"this checkpoint cannot be read: {what}",
        got=got,
        rule=rule,
        fix="use an older checkpoint; this one is damaged",
    )


def _without_tensors(state: dict) -> Any:
    """Tensors as typed arrays, for the floors below."""
    try:
        return _typed(state)
    except RecursionError:
        raise DTypeError(
            "the state cannot be saved",
            got="a value that is nested too deeply or holds itself",
            rule=f"at most {tree.DEEPEST} levels",
            fix="give the object that holds itself a state_dict() of plain values",
        ) from None


def _typed(x: Any) -> Any:
    if isinstance(x, Tensor):
        return TypedArray(x.detach().handle().array, x.dtype)
    if isinstance(x, Mapping):
        return {key: _typed(value) for key, value in x.items()}
    if type(x) in (list, tuple):
        return type(x)(_typed(item) for item in x)
    return x


def _tensors(x: Any) -> Any:
    """Typed arrays as Tensors again."""
    if isinstance(x, TypedArray):
        return from_buffer(Buffer.of_outside(x.array, x.dtype))
    if isinstance(x, dict):
        return {key: _tensors(value) for key, value in x.items()}
    if type(x) in (list, tuple):
        return type(x)(_tensors(item) for item in x)
    return x
