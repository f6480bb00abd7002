"""Square matrix products."""

from __future__ import annotations

import numpy as np

from benchmarks import training_step
from benchmarks.cases import Side, numbers

TITLE = "matrix product n x n x n"
SIZES = (512, 1000, 2000)


def settings() -> list[dict]:
    """Three sizes in float32 and bfloat16."""
    return [
        {"name": f"matmul {n} {p}", "n": n, "precision": p}
        for p in ("float32", "bf16")
        for n in SIZES
    ]


def inputs(setting: dict) -> dict[str, np.ndarray]:
    """Two matrices."""
    n = setting["n"]
    return {"a": numbers((n, n), 1), "b": numbers((n, n), 2)}


def ours(setting: dict, arrays: dict) -> Side:
    """A compiled function that is one product."""
    import tinytorch as tt

    a, b = tt.Tensor(arrays["a"]), tt.Tensor(arrays["b"])
    if setting["precision"] == "bf16":
        a, b = a.to("bfloat16"), b.to("bfloat16")
    product = tt.compile(lambda a, b: a @ b)
    return Side(lambda: product(a, b), lambda: {"product": product(a, b).to("float32").numpy()})


def peer(setting: dict, variant: str, arrays: dict) -> Side:
    """torch.matmul."""
    import torch

    whole = setting["precision"] == "float32" or variant.endswith(training_step.IN_FLOAT32)
    type = torch.float32 if whole else torch.bfloat16
    a, b = (torch.from_numpy(arrays[x]).to(type) for x in "ab")
    return Side(lambda: a @ b, lambda: {"product": (a @ b).float().numpy()})


def variants(setting: dict) -> list[str]:
    """A single call has nothing to compile."""
    return training_step.variants(setting["precision"], ("eager",))


def tolerance(setting: dict) -> float:
    """Rounding of a sum of n products, sqrt(n) eps of its size; bfloat16 rounds the result once."""
    return 1e-2 if setting["precision"] == "bf16" else 1e-5


def work(setting: dict) -> tuple[int, int]:
    """2 n^3 operations."""
    return 2 * setting["n"] ** 3, 0
