"""A training step of a small network, where the framework's own cost shows."""

from __future__ import annotations

import numpy as np

from benchmarks import jax_step, training_step
from benchmarks.cases import Side, numbers

TITLE = "training steps, MLP 784-256-128-10 batch 64, and 4-64-64-2 batch 32, AdamW"
SIZES = (784, 256, 128, 10)
BATCH = 64
TINY, TINY_BATCH = (4, 64, 64, 2), 32  # as in reinforcement learning
JAX = "jax"
WITHOUT_MKL = (JAX,)


def settings() -> list[dict]:
    """float32 and bf16; the tiny network in float32."""
    small = {"name": "tiny network float32", "precision": "float32", "sizes": TINY}
    both = [{"name": f"mlp {p}", "precision": p} for p in ("float32", "bf16")]
    return [*both, small | {"batch": TINY_BATCH}]


def _sizes(setting: dict) -> tuple[int, ...]:
    return tuple(setting.get("sizes", SIZES))


def inputs(setting: dict) -> dict[str, np.ndarray]:
    """Weights, random images and labels."""
    import tinytorch as tt
    from tinytorch.models import MLP

    tt.manual_seed(0)
    sizes, batch = _sizes(setting), setting.get("batch", BATCH)
    labels = np.random.default_rng(2).integers(0, sizes[-1], batch)
    return training_step.with_weights(MLP(sizes), {"x": numbers((batch, sizes[0]), 1), "y": labels})


def ours(setting: dict, arrays: dict, compiled: bool = True) -> Side:
    """tinytorch.models.MLP."""
    from tinytorch.models import MLP

    model = MLP(_sizes(setting))
    return training_step.ours(model, lambda x: x, arrays, setting["precision"], compiled)


def peer(setting: dict, variant: str, arrays: dict) -> Side:
    """The same network of torch.nn, or the same step in JAX."""
    if variant == JAX:
        return jax_step.step(arrays)
    from torch import nn

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            sizes = _sizes(setting)
            pairs = zip(sizes, sizes[1:], strict=False)
            self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)

        def forward(self, x):
            for layer in self.layers[:-1]:
                x = nn.functional.relu(layer(x))
            return self.layers[-1](x)

    return training_step.theirs(Network(), lambda x: x, arrays, setting["precision"], variant)


def variants(setting: dict) -> list[str]:
    """Both ways PyTorch can be run; beside the tiny network also JAX."""
    return training_step.variants(setting["precision"]) + ([JAX] if "sizes" in setting else [])


def tolerance(setting: dict) -> float:
    """See training_step."""
    return training_step.tolerance(setting["precision"])


def work(setting: dict) -> tuple[int, int]:
    """6 operations a weight and sample less the first layer's input gradient; 7 passes over the
    weights, gradients and averages by AdamW."""
    sizes = _sizes(setting)
    weights = [a * b for a, b in zip(sizes, sizes[1:], strict=False)]
    return setting.get("batch", BATCH) * (
        6 * sum(weights) - 2 * weights[0]
    ), 0  # all of it stays in the last cache
