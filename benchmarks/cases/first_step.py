"""How long the first training step takes: compiled anew, and found in the cache."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import harness
from benchmarks.cases import gpt, lstm, mlp
from benchmarks.worker import OURS

TITLE = "first training step, until its result is there"
MODELS = {"mlp": mlp, "gpt": gpt, "lstm": lstm}
LENGTH = 256  # steps of the LSTM's sequences, four times those of its training step
REPEATS = 3  # processes of each kind; a first step happens once in a process


def settings() -> list[dict]:
    """The models, float32."""
    return [
        {"name": f"first step {m}", "model": m, "precision": "float32", "length": LENGTH}
        for m in MODELS
    ]


def inputs(setting: dict) -> dict[str, np.ndarray]:
    """Those of the model's own case."""
    return MODELS[setting["model"]].inputs(setting)


def measure(case_name: str, setting: dict, threads: int, rounds: int) -> dict:
    """Seconds of the first step in fresh processes: cold, then from the cache the cold one left."""
    names = {"ours": OURS, "compile": "compile"}
    times = {f"{n}, {state}": [] for n in names for state in ("cold", "cached")}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = folder / "inputs.npz"
        np.savez(path, **inputs(setting))
        order = {"case": setting["model"], "setting": setting, "inputs": str(path)}
        for i in range(REPEATS):
            for name, variant in names.items():
                cache = {
                    "TINYTORCH_CACHE": str(folder / f"ours{i}"),
                    "TORCHINDUCTOR_CACHE_DIR": str(folder / f"inductor{i}"),
                }
                for state in ("cold", "cached"):
                    player = harness.start(name, threads, cache)
                    player.ask(do="prepare", variant=variant, **order)
                    times[f"{name}, {state}"].append(player.ask(do="once")["seconds"])
                    player.close()
    seconds = {name: median(t) for name, t in times.items()}
    against = {
        state: _against(times[f"compile, {state}"], times[f"ours, {state}"])
        for state in ("cold", "cached")
    }
    return {
        "name": setting["name"],
        "setting": setting,
        "seconds": seconds,
        "against": against,
        "work": {"operations": 0, "bytes": 0},
    }


def _against(theirs: list[float], ours: list[float]) -> dict:
    spread = [min(theirs) / max(ours), max(theirs) / min(ours)]
    ratio = median(theirs) / median(ours)
    return {"peer": "compile", "ratio": ratio, "low": spread[0], "high": spread[1]}
