"""What one call of a compiled function costs in Python when it updates 100 or 250 tensors."""

from __future__ import annotations

import numpy as np

from benchmarks.cases import Side, numbers

TITLE = "a call that updates small tensors"
SIZE = 4


def settings() -> list[dict]:
    """The parameters of a small and of a large model."""
    return [{"name": f"call with {count} states", "count": count} for count in (100, 250)]


def inputs(setting: dict) -> dict[str, np.ndarray]:
    """The state, and a number to add."""
    return {"state": numbers((setting["count"], SIZE), 1), "x": numbers((SIZE,), 2)}


def ours(setting: dict, arrays: dict) -> Side:
    """Tensors that the compiled function closes over and assigns to."""
    import tinytorch as tt

    states, x = [tt.Tensor(row) for row in arrays["state"]], tt.Tensor(arrays["x"])

    @tt.compile
    def step(x):
        for state in states:
            state += x

    def show() -> dict[str, np.ndarray]:
        step(x)
        return {"state": np.stack([s.numpy() for s in states])}

    return Side(lambda: step(x), show)


def peer(setting: dict, variant: str, arrays: dict) -> Side:
    """The same with torch, by its list operation or compiled."""
    import torch

    states = [torch.from_numpy(row) for row in arrays["state"]]
    x = torch.from_numpy(arrays["x"])

    def plain(x):
        torch._foreach_add_(states, [x] * setting["count"])

    def loop(x):
        for state in states:
            state.add_(x)

    step = torch.compile(loop) if variant == "compile" else plain

    def show() -> dict[str, np.ndarray]:
        step(x)
        return {"state": np.stack([s.numpy() for s in states])}

    with torch.no_grad():
        return Side(lambda: step(x), show)


def variants(setting: dict) -> list[str]:
    """Eager by the list operation, and compiled."""
    return ["eager", "compile"]


def tolerance(setting: dict) -> float:
    """One addition."""
    return 0.0


def work(setting: dict) -> tuple[int, int]:
    """Nothing to speak of."""
    return 0, 0
