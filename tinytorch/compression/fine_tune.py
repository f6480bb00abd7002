"""Fine-tuning: a trained model is trained on, with a small step, some of it left as it is.

Knows which parts move, never what was done to the model before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tinytorch.base.arguments import number
from tinytorch.base.errors import ArgumentTypeError, SettingError
from tinytorch.nn.functional import cross_entropy
from tinytorch.nn.module import Module
from tinytorch.optim.adam import AdamW
from tinytorch.optim.optimizer import Optimizer
from tinytorch.training.history import History
from tinytorch.training.trainer import Trainer


def fine_tune(
    model: Module, loader: Iterable, epochs: int = 1, *, lr: float = 1e-4,
    frozen: str | Iterable[str] = (), loss: Callable = cross_entropy,
    optimizer: Optimizer | None = None, validation: Iterable | None = None, **settings: Any,
) -> History:  # fmt: skip
    """Train a model on, in place: after pruning, folding or `fake_quantize`, or for other data.

    Args:
        model: any module with weights that can be trained.
        loader: gives batches (input, ..., target), as the Trainer takes them.
        epochs: passes over the data; default 1.
        lr: step size of the default optimizer, in (0, inf); default 1e-4: a tenth of what AdamW
            begins with.
        frozen: dotted names of parts that keep their weights, with all below them. Running
            statistics of batch norms move on everywhere.
        loss: function of (output, target); default cross-entropy.
        optimizer: default AdamW with `lr` and no decay.
        validation: batches to measure after each epoch.
        **settings: of the Trainer: metrics, schedule, ema, precision, callbacks, progress, ...

    Returns:
        the history.

    Raises:
        ArgumentTypeError: this is no model.
        SettingError: there is no such part; nothing is left to train.

    Example:
        >>> import numpy as np, tinytorch as tt
        >>> from tinytorch import compression, nn
        >>> from tinytorch.training.history import Silent
        >>> _ = tt.manual_seed(0)
        >>> net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> before = net[0].weight.detach().clone()
        >>> data = [(np.eye(2, dtype=np.float32), np.array([0, 1]))] * 50
        >>> history = compression.fine_tune(
        ...     net, data, lr=0.05, frozen=["0"], compile=False, progress=Silent())
        >>> (net[0].weight == before).all().item(), history.last["accuracy"] > 0.9
        (True, True)
    """
    if not isinstance(model, Module):
        raise ArgumentTypeError(
            "fine_tune: this is no model",
            got=type(model).__name__,
            rule="a Module",
            fix="fine_tune(model, loader)",
        )
    left = [frozen] if isinstance(frozen, str) else frozen
    fixed = {id(p): p for path in left for p in model.get_submodule(path).parameters()}
    fixed = {key: p for key, p in fixed.items() if p.requires_grad}
    if not any(p.requires_grad and id(p) not in fixed for p in model.parameters()):
        raise SettingError(
            "fine_tune: nothing is left to train",
            got=f"{len(list(model.parameters()))} parameters, all frozen",
            rule="at least one parameter that asks for a gradient",
            fix="fewer names in `frozen`; model.requires_grad_(); of a quantized model: "
            "fine_tune(fake_quantize(model, batches), loader), then quantize",
        )
    chosen = optimizer or AdamW(lr=number("fine_tune", "lr", lr, "(0, inf)"), weight_decay=0.0)
    try:
        for parameter in fixed.values():
            parameter.requires_grad = False
        trainer = Trainer(model, chosen, loss, **settings)
        return trainer.train(loader, epochs, validation=validation)
    finally:
        for parameter in fixed.values():
            parameter.requires_grad = True
