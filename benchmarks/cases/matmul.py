"""Square matrix products."""

from __future__ import annotations

import numpy as np

from benchmarks import training_step
from benchmarks.cases import Side, numbers

TITLE = "matrix product n x n x n"
SIZES = (512, 1000, 2000)
INT8, INT8_SIZE = "int8", 1000
OUR_FLOAT32 = "our float32"  # what int8 is asked to be faster than
WITHOUT_MKL = (OUR_FLOAT32,)


def settings() -> list[dict]:
    """Three sizes in float32 and bfloat16, one of bytes into 32-bit sums."""
    kinds = [(n, p) for p in ("float32", "bf16") for n in SIZES] + [(INT8_SIZE, INT8)]
    return [{"name": f"matmul {n} {p}", "n": n, "precision": p} for n, p in kinds]


def inputs(setting: dict) -> dict[str, np.ndarray]:
    """Two matrices."""
    n = setting["n"]
    if setting["precision"] == INT8:
        rng = np.random.default_rng(1)
        return {name: rng.integers(-127, 128, (n, n), dtype=np.int8) for name in "ab"}
    return {"a": numbers((n, n), 1), "b": numbers((n, n), 2)}


def ours(setting: dict, arrays: dict) -> Side:
    """A compiled function that is one product."""
    import tinytorch as tt

    a, b = tt.Tensor(arrays["a"]), tt.Tensor(arrays["b"])
    if setting["precision"] == "bf16":
        a, b = a.to("bfloat16"), b.to("bfloat16")
    sums = "int32" if setting["precision"] == INT8 else a.dtype
    product = tt.compile(lambda a, b: a.to(sums) @ b.to(sums))
    return Side(lambda: product(a, b), lambda: {"product": product(a, b).to("float32").numpy()})


def peer(setting: dict, variant: str, arrays: dict) -> Side:
    """torch.matmul, its product of bytes, or our own product of the same numbers in float32."""
    if variant == OUR_FLOAT32:
        whole = {name: x.astype(np.float32) for name, x in arrays.items()}
        return ours(setting | {"precision": "float32"}, whole)
    import torch

    if setting["precision"] == INT8:
        a, b = (torch.from_numpy(arrays[x]) for x in "ab")
        return Side(
            lambda: torch._int_mm(a, b), lambda: {"product": torch._int_mm(a, b).float().numpy()}
        )
    whole = setting["precision"] == "float32" or variant.endswith(training_step.IN_FLOAT32)
    type = torch.float32 if whole else torch.bfloat16
    a, b = (torch.from_numpy(arrays[x]).to(type) for x in "ab")
    return Side(lambda: a @ b, lambda: {"product": (a @ b).float().numpy()})


def variants(setting: dict) -> list[str]:
    """A single call has nothing to compile."""
    if setting["precision"] == INT8:
        return [OUR_FLOAT32, "eager"]
    return training_step.variants(setting["precision"], ("eager",))


def tolerance(setting: dict) -> float:
    """Integers are exact, also as float32: 1000 x 127 x 127 is below 2**24. Else
    rounding of a sum of n products, sqrt(n) eps of its size; bfloat16 rounds the result once."""
    return {INT8: 0.0, "bf16": 1e-2}.get(setting["precision"], 1e-5)


def work(setting: dict) -> tuple[int, int]:
    """2 n^3 operations; of bytes no peak is measured."""
    return 0 if setting["precision"] == INT8 else 2 * setting["n"] ** 3, 0
