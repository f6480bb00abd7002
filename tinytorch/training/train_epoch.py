"""train_epoch: one pass over the data with a model that gives its own loss.

Knows batches and a loss, never what the model is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tinytorch.base.errors import DataError
from tinytorch.nn.module import Module
from tinytorch.optim.optimizer import Optimizer
from tinytorch.tensor.tensor import Tensor
from tinytorch.training.belonging import check_parameters
from tinytorch.training.step import Step


def train_epoch(
    model: Module | Callable, dataloader: Iterable, optimizer: Optimizer, *, compile: bool = False
) -> float:
    """`loss = model(batch)`, backward, step, for every batch: the smallest loop there is.

    Args:
        model: gives the loss, a 0-d Tensor, of a batch. A batch of one array is given as that
            array; one of several as separate arguments. A Module is put in training mode, as by
            the Trainer.
        dataloader: gives arrays, or tuples of them.
        optimizer: one without parameters is given the model's.
        compile: each step as one program, which is kept for this call alone.

    Returns:
        the mean loss of the batches.

    Raises:
        DataError: there is no batch.

    Example:
        >>> import numpy as np, tinytorch as tt
        >>> class Fit(tt.nn.Module):
        ...     def __init__(self):
        ...         self.weight = tt.nn.Parameter([0.0])
        ...     def forward(self, x):
        ...         return ((self.weight * x - 2.0 * x) ** 2).mean()
        >>> model, data = Fit(), [np.ones(3, np.float32)] * 20
        >>> train_epoch(model, data, tt.optim.SGD(lr=0.2)) > 0.0, round(model.weight.item(), 3)
        (True, 2.0)
    """
    if isinstance(model, Module):
        check_parameters("train_epoch", model, optimizer, model)
        model.train()

    def learn(*batch: Tensor) -> Tensor:
        loss = model(*batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    step, losses = Step(learn, compile), []
    optimizer.zero_grad()
    for batch in dataloader:
        losses.append(step(*(batch if isinstance(batch, (tuple, list)) else (batch,))).item())
    if not losses:
        raise DataError(
            "there is nothing to go through",
            got="a loader that gave no batch",
            rule="at least one batch",
            fix="a smaller batch_size, or drop_last=False",
        )
    return sum(losses) / len(losses)
