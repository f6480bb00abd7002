"""Chains of operations on large arrays, compiled to one loop, against the same code run eagerly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.cases import Side, numbers

TITLE = "fused chains, against our own eager mode and PyTorch"
TOKENS, WIDTH, HIDDEN = 3072, 384, 1536  # of the GPT's batch
ROWS, KEYS = 16384, 256  # of attention scores
RATE, DECAY = 1e-3, 1e-2
OUR_EAGER = "our eager"
WITHOUT_MKL = (OUR_EAGER,)


def _bias_gelu(functional, x, b):
    return functional.gelu(x + b)


def _residual_norm(functional, x, y, w, b):
    return functional.layer_norm(x + y, (WIDTH,), w, b)


def _softmax(functional, x):
    return functional.softmax(x, -1)


# What is computed, and the shapes of its inputs. AdamW is an object in either framework, see below.
CHAINS: dict[str, tuple[Callable | None, dict[str, tuple[int, ...]]]] = {
    "bias + GELU": (_bias_gelu, {"x": (TOKENS, HIDDEN), "b": (HIDDEN,)}),
    "residual + layer norm": (
        _residual_norm,
        {"x": (TOKENS, WIDTH), "y": (TOKENS, WIDTH), "w": (WIDTH,), "b": (WIDTH,)},
    ),
    "softmax": (_softmax, {"x": (ROWS, KEYS)}),
    "AdamW": (None, {"weight": (4 * WIDTH, HIDDEN), "gradient": (4 * WIDTH, HIDDEN)}),
}


def settings() -> list[dict]:
    """The chains, float32."""
    return [{"name": f"fused {chain}", "chain": chain} for chain in CHAINS]


def inputs(setting: dict) -> dict[str, np.ndarray]:
    """Random numbers."""
    shapes = CHAINS[setting["chain"]][1]
    return {name: numbers(shape, seed) for seed, (name, shape) in enumerate(shapes.items())}


def ours(setting: dict, arrays: dict, compiled: bool = True) -> Side:
    """The chain with tt.nn.functional, or tt.optim.AdamW; compiled or operation by operation."""
    import tinytorch as tt

    run_as = tt.compile if compiled else lambda function: function
    chain, _ = CHAINS[setting["chain"]]
    given = [tt.Tensor(x) for x in arrays.values()]
    if chain is not None:
        run = run_as(lambda *given: chain(tt.nn.functional, *given))
        return Side(lambda: run(*given), lambda: {"out": run(*given).numpy()})
    weight = tt.nn.Parameter(given[0])
    optimizer = tt.optim.AdamW([weight], lr=RATE, weight_decay=DECAY)

    def update(gradient):
        weight.grad = gradient
        optimizer.step()
        weight.grad = None

    step = run_as(update)
    return Side(lambda: step(given[1]), lambda: _shown(step, given[1], weight))


def peer(setting: dict, variant: str, arrays: dict) -> Side:
    """Our eager mode; or torch.nn.functional and torch's fused AdamW."""
    if variant == OUR_EAGER:
        return ours(setting, arrays, compiled=False)
    import torch

    chain, _ = CHAINS[setting["chain"]]
    given = [torch.from_numpy(x) for x in arrays.values()]
    run_as = torch.compile if variant == "compile" else lambda function: function
    if chain is not None:
        run = run_as(lambda *given: chain(torch.nn.functional, *given))
        return Side(lambda: run(*given), lambda: {"out": run(*given).numpy()})
    weight = torch.nn.Parameter(given[0])
    fused = variant == "eager"  # as one kernel of PyTorch's own; compiled it is made of small ones
    optimizer = torch.optim.AdamW([weight], lr=RATE, weight_decay=DECAY, fused=fused)
    weight.grad = given[1]
    step = run_as(optimizer.step)
    return Side(step, lambda: _shown(lambda _: step(), None, weight))


def _shown(step: Callable, gradient, weight) -> dict[str, np.ndarray]:
    step(gradient)
    return {"out": weight.detach().numpy().copy()}


def variants(setting: dict) -> list[str]:
    """Our eager mode, and both ways PyTorch can be run."""
    return [OUR_EAGER, "eager", "compile"]


def tolerance(setting: dict) -> float:
    """Sums of at most 384 numbers in another order, and functions within a few units of the last
    place: 32 eps."""
    return 32 * float(np.finfo(np.float32).eps)


def work(setting: dict) -> tuple[int, int]:
    """Limited by memory, so operations are not counted."""
    return 0, 0
