"""Trials: a few training steps to find something out, after which everything is as it was.

Knows how a trainer takes a step and how its state is put back, never what is looked for.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from tinytorch.base.errors import DataError
from tinytorch.training.restore import copied, gather, restore
from tinytorch.training.run import keeps_its_place

if TYPE_CHECKING:
    from tinytorch.training.trainer import Trainer


@contextlib.contextmanager
def trial(trainer: Trainer, loader: Any = None) -> Iterator[Any]:
    """Around training steps that must leave no trace: model, optimizer, random numbers, data.

    Args:
        trainer: put back to its present state afterwards.
        loader: what the batches are of; None: none are needed.

    Yields:
        what to go through in place of the loader, whose own place stays; or the loader, put back to
        its present place, if it keeps one.
    """
    parts = {name: part for name, part in trainer._parts().items() if name != "loader"}
    state, mode = copied(gather(parts)), trainer.model.training
    aside = getattr(loader, "aside", None)
    place = None
    if aside is None and keeps_its_place(loader):
        place = copy.deepcopy(loader.state_dict())
    trainer.model.train()
    trainer.passes.update.clear()
    try:
        yield loader if aside is None else aside()
    finally:
        restore(parts, state)
        trainer.model.train(mode)
        if place is not None:
            loader.load_state_dict(place)


def endless(loader: Iterable) -> Iterator:
    """The batches of a loader, epoch after epoch.

    Raises:
        DataError: an epoch has no batch.
    """
    while True:
        batch = None
        for batch in loader:
            yield batch
        if batch is None:
            raise DataError(
                "there is nothing to go through",
                got="a loader that gave no batch",
                rule="at least one batch in an epoch",
                fix="a smaller batch_size, or drop_last=False",
            )
