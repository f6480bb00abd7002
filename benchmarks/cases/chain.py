"""Products of small matrices one after the other, where packing and calls cost as much as they."""

from __future__ import annotations

import numpy as np

from benchmarks import training_step
from benchmarks.cases import Side, numbers

TITLE = "chain of products x @ w1 @ w2 @ w3 @ w4, all n x n"
SIZES, LENGTH = (64, 128, 256), 4


def settings() -> list[dict]:
    """Three sizes in float32 and bfloat16."""
    return [
        {"name": f"chain of products {n} {p}", "n": n, "precision": p}
        for p in ("float32", "bf16")
        for n in SIZES
    ]


def inputs(setting: dict) -> dict[str, np.ndarray]:
    """x, and matrices that keep the size of its numbers."""
    n = setting["n"]
    weights = {f"w{i}": numbers((n, n), i, n**-0.5) for i in range(1, LENGTH + 1)}
    return {"x": numbers((n, n), 0)} | weights


def chain(x, *weights):
    """The products, in either framework."""
    for w in weights:
        x = x @ w
    return x


def ours(setting: dict, arrays: dict) -> Side:
    """One compiled function."""
    import tinytorch as tt

    type = "bfloat16" if setting["precision"] == "bf16" else "float32"
    given = [tt.Tensor(x).to(type) for x in arrays.values()]
    product = tt.compile(chain)
    return Side(lambda: product(*given), lambda: {"product": product(*given).to("float32").numpy()})


def peer(setting: dict, variant: str, arrays: dict) -> Side:
    """torch.matmul four times, as one writes it, or compiled."""
    import torch

    whole = setting["precision"] == "float32" or variant.endswith(training_step.IN_FLOAT32)
    type = torch.float32 if whole else torch.bfloat16
    given = [torch.from_numpy(x).to(type) for x in arrays.values()]
    product = torch.compile(chain) if "compile" in variant else chain
    return Side(lambda: product(*given), lambda: {"product": product(*given).float().numpy()})


def variants(setting: dict) -> list[str]:
    """Both ways PyTorch can be run."""
    return training_step.variants(setting["precision"])


def tolerance(setting: dict) -> float:
    """Each product adds sqrt(n) eps of the size of its numbers; bfloat16 rounds each result once,
    to 2**-9 of a number that may be the largest."""
    return 2e-2 if setting["precision"] == "bf16" else 1e-5


def work(setting: dict) -> tuple[int, int]:
    """2 n^3 operations a product."""
    return LENGTH * 2 * setting["n"] ** 3, 0
