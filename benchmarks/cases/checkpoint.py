"""Writing and reading a checkpoint: 11 million weights with AdamW's averages, 134 MB.

Ours is on the disk (fsync) and has checksums when the call returns, and every byte is checked when
it is read; PyTorch's is shown with fsync after it, and as its users write it, without.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

TITLE = "checkpoint of 134 MB"
WEIGHTS = 11_173_962  # of a CIFAR ResNet-18
TENSORS = 62
REPEATS = 9


def settings() -> list[dict]:
    """Writing and reading."""
    return [{"name": "checkpoint, save"}, {"name": "checkpoint, load"}]


def state() -> dict[str, dict[str, np.ndarray]]:
    """Arrays of the model and of its optimizer, a few large and many small."""
    rng = np.random.default_rng(0)
    parts = np.sort(rng.choice(np.arange(1, WEIGHTS), TENSORS - 1, replace=False))
    sizes = np.diff([0, *parts, WEIGHTS])
    make = {
        "model": lambda i: f"layer{i}.weight",
        "exp_avg": lambda i: f"exp_avg.0.{i}",
        "exp_avg_sq": lambda i: f"exp_avg_sq.0.{i}",
    }
    return {
        part: {name(i): rng.standard_normal(n).astype(np.float32) for i, n in enumerate(sizes)}
        for part, name in make.items()
    }


def measure(case_name: str, setting: dict, threads: int, rounds: int) -> dict:
    """Seconds, all sides taking turns; they have to give the same numbers back."""
    with tempfile.TemporaryDirectory() as place:
        saves, loads = _sides(Path(place))
        for save in saves.values():
            save()
        expected = _flat(state())
        for name, load in loads.items():
            found = _flat(load())
            for key, array in expected.items():
                if not np.array_equal(found[key], array):
                    raise RuntimeError(f"{name} gave other numbers back: {key}")
        times = _in_turns(saves if setting["name"].endswith("save") else loads)
    ours = times["ours"]
    return {
        "name": setting["name"],
        "setting": setting,
        "seconds": {name: median(t) for name, t in times.items()},
        "against": {
            name: {
                "peer": name,
                "ratio": median(t) / median(ours),
                "low": min(t) / max(ours),
                "high": max(t) / min(ours),
            }
            for name, t in times.items()
            if name != "ours"
        },
        "work": {"operations": 0, "bytes": 3 * 4 * WEIGHTS},
    }


def _sides(place: Path) -> tuple[dict[str, Callable], dict[str, Callable]]:
    import safetensors.numpy
    import torch

    import tinytorch as tt
    from tinytorch.training import load_checkpoint, save_checkpoint

    arrays = state()
    ours = {part: {n: tt.Tensor(x) for n, x in named.items()} for part, named in arrays.items()}
    theirs = {
        part: {n: torch.from_numpy(x) for n, x in named.items()} for part, named in arrays.items()
    }
    flat = {f"{part}/{n}": x for part, named in arrays.items() for n, x in named.items()}
    saves = {
        "ours": lambda: save_checkpoint(place / "ours", ours),
        "torch.save and fsync": lambda: _synced(place / "torch", theirs, torch.save),
        "torch.save": lambda: torch.save(theirs, place / "quick"),
        "safetensors and fsync": lambda: _synced(
            place / "safetensors", flat, safetensors.numpy.save_file
        ),
    }
    loads = {
        "ours": lambda: load_checkpoint(place / "ours"),
        "torch.load": lambda: torch.load(place / "quick", weights_only=True),
        "safetensors": lambda: safetensors.numpy.load_file(place / "safetensors"),
    }
    return saves, loads


def _synced(path: Path, what: object, save: Callable) -> None:
    save(what, path)
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _flat(tree: dict) -> dict[str, np.ndarray]:
    found = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= {f"{key}/{name}": x for name, x in _flat(value).items()}
        else:
            found[key] = value.numpy() if hasattr(value, "numpy") else value
    return found


def _in_turns(sides: dict[str, Callable]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(REPEATS):
        for name, call in sides.items():
            began = time.perf_counter()
            kept = call()
            times[name].append(time.perf_counter() - began)
            del kept
    return times
