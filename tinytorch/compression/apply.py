"""The names under which the course's documents ask for an optimised model; each hands on.

Knows which function stands behind each name, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tinytorch.base.errors import ArgumentTypeError
from tinytorch.compiler.compile import compile as compiled
from tinytorch.compression.channels import prune_channels
from tinytorch.compression.fine_tune import fine_tune
from tinytorch.compression.prune import prune
from tinytorch.compression.quantize import quantize
from tinytorch.generation.context import Context
from tinytorch.nn.module import Module
from tinytorch.training.history import History


def apply_quantization(model: Module, calibration: Any = None, kind: str = "int8") -> Module:
    """`quantize(model, kind, calibration=calibration)`: the model with weights of 8 or 4 bits.

    Args:
        model: any module.
        calibration: batches from which the scales of activations are read; None: on the fly.
        kind: "int8" or "int4".

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch import compression
        >>> net = tt.nn.Linear(64, 64)
        >>> small = apply_quantization(net)
        >>> compression.bytes_of(net) / compression.bytes_of(small) > 3.5
        True
    """
    return quantize(model, kind, calibration=calibration)


def apply_pruning(model: Module, sparsity: float = 0.5, example: Any = None) -> Module:
    """`prune(model, sparsity)`, or with an example `prune_channels(model, example, sparsity)`.

    Args:
        model: any module.
        sparsity: part of the weights that are zeros, or of the channels that are removed.
        example: an input, or a tuple of them; None: single weights.

    Example:
        >>> import tinytorch as tt
        >>> net, x = tt.nn.MLP([4, 8, 2]), tt.ones(1, 4)
        >>> apply_pruning(net, 0.75, x).layers[0]
        Linear(4, 2)
    """
    if example is None:
        return prune(model, sparsity)
    return prune_channels(model, example, sparsity)


def apply_acceleration(model: Module) -> Callable:
    """`tt.compile(model, freeze=True)`: the model as one native program, for inference.

    Give it what the other steps made: a compiled function has no weights to change.

    Args:
        model: any module; it is put in evaluation mode.

    Example:
        >>> import tinytorch as tt
        >>> net, x = tt.nn.Linear(4, 2), tt.ones(3, 4)
        >>> abs(apply_acceleration(net)(x) - net(x)).max().item() < 1e-6
        True
    """
    if not isinstance(model, Module):
        raise ArgumentTypeError(
            "apply_acceleration: this is no model",
            got=type(model).__name__,
            rule="a Module",
            fix="apply_acceleration(model)",
        )
    return compiled(model.eval(), freeze=True)


def apply_caching(model: Module, length: int | None = None, batch: int = 1) -> Context:
    """A language model that keeps the keys and values of the tokens it has read.

    `read(tokens)` of what comes back gives the logits of the next token, in the time of the new
    tokens alone; `generation.generate(model, prompt, context=...)` goes on from it.

    Args:
        model: with `new_cache`, `features` and `head`, such as `models.GPT`.
        length: tokens there is room for; None: the model's.
        batch: sequences side by side.

    Raises:
        ArgumentTypeError: the model reads no tokens one after the other: it has nothing to keep.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import GPT, GPTConfig
        >>> model = GPT(GPTConfig(vocab=9, layers=1, heads=2, size=8, length=16)).eval()
        >>> context = apply_caching(model)
        >>> _ = context.read([1, 2, 3])
        >>> off = context.read([4]) - model(tt.tensor([[1, 2, 3, 4]]))[0, -1].numpy()
        >>> bool(abs(off).max() < 1e-5)
        True
    """
    if not isinstance(model, Module) or not hasattr(model, "new_cache"):
        raise ArgumentTypeError(
            "apply_caching: this model keeps nothing between tokens",
            got=type(model).__name__,
            rule="a language model with new_cache, features and head",
            fix="apply_caching(models.GPT(...)); apply_acceleration for other models",
        )
    return Context(model.eval(), length, batch=batch)


def fine_tune_optimizations(
    model: Module, loader: Iterable, epochs: int = 1, **settings: Any
) -> History:
    """`fine_tune(model, loader, epochs, ...)`: what compressing lost is learned again.

    Args:
        model: any module with weights that can be trained.
        loader: gives batches (input, ..., target).
        epochs: passes over the data.
        **settings: of `fine_tune`.

    Example:
        >>> import numpy as np, tinytorch as tt
        >>> from tinytorch.training.history import Silent
        >>> data = [(np.eye(2, dtype=np.float32), np.array([0, 1]))]
        >>> history = fine_tune_optimizations(
        ...     tt.nn.Linear(2, 2), data, 2, compile=False, progress=Silent())
        >>> len(history.rows)
        2
    """
    return fine_tune(model, loader, epochs, **settings)
