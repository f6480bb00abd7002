"""How long the compiler takes for a training step of many linear layers, in fresh processes.

Each measurement is the first call in a process whose cache is empty, so it includes recording, all
passes, machine code and one run. Eager mode must show the same losses.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import harness
from benchmarks.cases import Side, numbers
from benchmarks.worker import OURS

TITLE = "compile time of a training step (SGD) of 160 and of 640 linear layers of 16"
DEPTHS, WIDTH, BATCH, RATE = (160, 640), 16, 8, 1e-3
REPEATS, STEPS = 3, 2
EAGER = "eager"


def settings() -> list[dict]:
    """Both depths are one measurement: what is asked is how the time grows."""
    return [{"name": "compile time of linear layers"}]


def inputs(depth: int) -> dict[str, np.ndarray]:
    """A batch, and weights that keep the size of its numbers."""
    w = numbers((depth, WIDTH, WIDTH), 1, WIDTH**-0.5)
    return {"x": numbers((BATCH, WIDTH), 0), "w": w}


def ours(setting: dict, arrays: dict, compiled: bool = True) -> Side:
    """The step; what is timed is its first call, which is the worker's "once"."""
    import tinytorch as tt

    layers = [tt.nn.Linear(WIDTH, WIDTH) for _ in arrays["w"]]
    for layer, w in zip(layers, arrays["w"], strict=True):
        layer.weight = tt.nn.Parameter(tt.Tensor(w))
        layer.bias = tt.nn.Parameter(tt.zeros(WIDTH))
    model = tt.nn.Sequential(*layers)
    optimizer = tt.optim.SGD(model.parameters(), lr=RATE)
    x = tt.Tensor(arrays["x"])

    def step(x):
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    run = tt.compile(step) if compiled else step
    return Side(lambda: run(x), lambda: {"losses": np.array([run(x).item() for _ in range(STEPS)])})


def peer(setting: dict, variant: str, arrays: dict) -> Side:
    """The same step run eagerly, for its losses."""
    return ours(setting, arrays, compiled=False)


def tolerance(depth: int) -> float:
    """Each layer adds some sqrt(16) eps, forward and backward."""
    return 8 * depth * float(np.finfo(np.float32).eps)


def measure(case_name: str, setting: dict, threads: int, rounds: int) -> dict:
    """Seconds of the first call for each depth, the median of some processes; no peer."""
    seconds, differences = {}, {}
    for depth in DEPTHS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            np.savez(folder / "inputs.npz", **inputs(depth))
            order = {"case": case_name, "setting": setting, "inputs": str(folder / "inputs.npz")}
            first = [_first_call(order, folder / f"cache{i}", threads) for i in range(REPEATS)]
            shown = [_losses(order, variant, folder, threads) for variant in (OURS, EAGER)]
        seconds[f"ours, {depth} layers"] = median(first)
        differences[f"{depth} layers"] = harness.difference(*shown)
        if not differences[f"{depth} layers"] <= tolerance(depth):
            raise RuntimeError(f"compiled and eager differ by {differences}")
    return {
        "name": setting["name"],
        "setting": setting,
        "seconds": seconds,
        "differences": differences,
        "against": {},
        "work": {"operations": 0, "bytes": 0},
    }


def _first_call(order: dict, cache: Path, threads: int) -> float:
    player = harness.start(OURS, threads, {"TINYTORCH_CACHE": str(cache)})
    try:
        player.ask(do="prepare", variant=OURS, **order)
        return player.ask(do="once")["seconds"]
    finally:
        player.close()


def _losses(order: dict, variant: str, folder: Path, threads: int) -> dict[str, np.ndarray]:
    player = harness.start(variant, threads, {"TINYTORCH_CACHE": str(folder / "cache0")})
    try:
        player.ask(do="prepare", variant=variant, shown=str(folder / "shown.npz"), **order)
    finally:
        player.close()
    with np.load(folder / "shown.npz") as file:
        return dict(file)
