"""Reads one damaged file or checkpoint, and holds the reader to its word.

Knows what may happen: FileFormatError, or arrays that can be used. Anything else is an error.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from tests.storage.mutations import changed_value, mutated
from tinytorch.base.dtypes import bfloat16
from tinytorch.base.errors import FileFormatError
from tinytorch.storage import load, save
from tinytorch.storage.folder import MANIFEST, checksum_of
from tinytorch.storage.tree import TypedArray
from tinytorch.training import load_checkpoint, save_checkpoint

PEER_LACKS = "bfloat16"  # NumPy has no such type, so the peer's NumPy reader does not either


class SOUND:
    """A sound file and a sound checkpoint in a folder.

    Args:
        place: an empty folder.
    """

    def __init__(self, place: Path):
        rng = np.random.default_rng(0)
        self.place, self.path = place, place / "sound.safetensors"
        arrays = {
            "weight": rng.standard_normal((3, 5)).astype(np.float32),
            "mask": rng.integers(0, 2, 7).astype(np.bool_),
            "steps": np.array(12), "none": np.empty((0, 4), np.float16),
            "é/\n\"": rng.integers(0, 9, (2, 2)).astype(np.int8),
        }  # fmt: skip
        save(self.path, arrays, {"from": "a test"})
        self.content = self.path.read_bytes()
        self.checkpoint = place / "checkpoint"
        bits = TypedArray(np.arange(3, dtype=np.uint16), bfloat16)
        state = {
            "model": arrays, "optimizer": {"step": np.float64(2), "half": bits},
            "rest": [1, (2.5, float("nan"), None), b"x", {"$a": "b"}, np.array([2**63], np.uint64)],
        }  # fmt: skip
        save_checkpoint(self.checkpoint, state, {"step": 2})


def read_file(sound: SOUND, choose: random.Random) -> str:
    """Damage the file, read it; what happened, in words."""
    kind, content = mutated(sound.content, choose)
    path = sound.place / "mutated.safetensors"
    path.write_bytes(content)
    try:
        arrays = {name: pair[0] for name, pair in load(path).items()}
    except FileFormatError:
        return f"file, {kind}: refused"
    for array in arrays.values():
        array.tobytes()  # every byte can be reached
    try:
        with safetensors.safe_open(path, "numpy") as peer:
            names = list(peer.keys())
            theirs = {n: peer.get_tensor(n) for n in names if PEER_LACKS not in _dtype(path, n)}
    except safetensors.SafetensorError as error:
        raise AssertionError(f"{kind}: the safetensors library refuses it: {error}") from error
    assert set(names) == set(arrays), kind
    for name, x in theirs.items():
        assert x.shape == arrays[name].shape and x.tobytes() == arrays[name].tobytes(), (kind, name)
    return f"file, {kind}: read, as the safetensors library does"


def _dtype(path: Path, name: str) -> str:
    return load(path)[name][1].name


def read_checkpoint(sound: SOUND, choose: random.Random) -> str:
    """Damage a checkpoint, with or without new checksums, read it; what happened, in words."""
    folder = sound.place / "mutated"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sound.checkpoint, folder)
    path = choose.choice(sorted(folder.iterdir()))
    before, signed = path.read_bytes(), choose.random() < 0.7
    content = before
    if path.suffix == ".safetensors":
        _, content = mutated(content, choose)
    elif choose.random() < 0.7:
        value = changed_value(json.loads(content), choose)
        content = json.dumps(value).encode("utf-8", "surrogatepass")
    else:
        at = choose.randrange(len(content))
        content = content[:at] + choose.randbytes(2) + content[at + choose.randint(0, 3) :]
    path.write_bytes(content)
    if signed:
        resign(folder)
    what = f"checkpoint, {path.name}{', new checksums' if signed else ''}"
    try:
        load_checkpoint(folder)
    except FileFormatError:
        return f"{what}: refused"
    # Of a manifest, white space may change.
    assert signed or content == before or path.name == MANIFEST, what
    return f"{what}: read"


def resign(folder: Path) -> None:
    """Give a folder with changed files a manifest that agrees with them, as an enemy would."""
    path = folder / MANIFEST
    try:
        table = json.loads(path.read_bytes())["manifest"]
        for name in table["files"]:
            data = (folder / name).read_bytes()
            table["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        path.write_text(json.dumps({"manifest": table, "sha256": checksum_of(table)}))
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        pass  # the manifest itself is what was damaged
