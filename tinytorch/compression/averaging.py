"""Several models as one: their weights averaged, or their answers.

Knows weights by name and models that give logits, never what they are for. The exponential average
over the steps of one training is `training.EMA`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tinytorch.base.arguments import whole
from tinytorch.base.dtypes import float64
from tinytorch.base.errors import ArgumentTypeError, DataError, SettingError
from tinytorch.nn.functional import log_softmax
from tinytorch.nn.module import Module, ModuleList, evaluating
from tinytorch.nn.normalization import BatchNorm1d, BatchNorm2d
from tinytorch.tensor.creation import asarray
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.reductions import logsumexp
from tinytorch.tensor.shaping import stack
from tinytorch.tensor.tensor import Tensor
from tinytorch.training.trainer import Callback, Trainer


def average_weights(models: Sequence[Module]) -> Module:
    """A copy of the first model whose weights are the mean of all: as fast and small as one.

    It is good where the models lie in one valley: checkpoints of one training, or models that were
    fine-tuned from the same weights. Floating-point buffers are averaged too; after models with
    batch norm call `refresh_batch_norm`, as the averaged weights have other statistics.

    Args:
        models: at least one, with the same names and shapes.

    Raises:
        SettingError: there is none, or their parts differ.

    Cost: one pass over all weights; sums are float64.

    Source: Izmailov et al. 2018, https://arxiv.org/abs/1803.05407 (SWA); Wortsman et al. 2022,
    https://arxiv.org/abs/2203.05482 (uniform soup).

    Example:
        >>> import tinytorch as tt
        >>> a, b = tt.nn.Linear(2, 1), tt.nn.Linear(2, 1)
        >>> mean = average_weights([a, b])
        >>> abs(mean.weight - (a.weight + b.weight) / 2).max().item() < 1e-7
        True
    """
    found = _models("average_weights", models)
    states = [model.state_dict() for model in found]
    shapes = [{name: (tuple(x.shape), x.dtype) for name, x in state.items()} for state in states]
    for i, other in enumerate(shapes):
        if other != shapes[0]:
            names = sorted(n for n in {*other, *shapes[0]} if other.get(n) != shapes[0].get(n))
            raise SettingError(
                "average_weights: these models are not alike",
                got=f"{', '.join(map(repr, names[:3]))} differs between models 0 and {i}",
                rule="the same names, shapes and number types",
                fix="checkpoints of one model; Ensemble(models) for different ones",
            )
    mean = copy.deepcopy(found[0])
    with no_grad():
        for name, own in mean.state_dict().items():
            if own.dtype.is_float:
                wide = stack([state[name].astype(float64) for state in states], 0)
                own.assign_(wide.mean(0).astype(own.dtype))
    return mean


def _models(owner: str, models: Any) -> list[Module]:
    several = isinstance(models, (list, tuple)) or type(models) is ModuleList
    found: list[Any] = list(models) if several else [models]
    wrong = [type(m).__name__ for m in found if not several or not isinstance(m, Module)]
    if wrong:
        raise ArgumentTypeError(
            f"{owner}: these are no models",
            got=", ".join(wrong),
            rule="a list of Modules",
            fix=f"{owner}([first, second])",
        )
    if not found:
        raise SettingError(
            f"{owner}: there is no model",
            got="an empty list",
            rule="at least one",
            fix=f"{owner}([model])",
        )
    return found


def refresh_batch_norm(model: Module, loader: Iterable) -> Module:
    """Compute the running statistics of batch norms anew; returns the model.

    They become the mean over the batches (`momentum=None` for the time); everything else is in
    evaluation mode and nothing is trained.

    Args:
        model: any module; without batch norms nothing happens.
        loader: gives batches (input, ..., target), as the Trainer takes them.

    Raises:
        DataError: there is no batch.

    Source: Izmailov et al. 2018, https://arxiv.org/abs/1803.05407, algorithm 1, last lines.

    Example:
        >>> import numpy as np, tinytorch as tt
        >>> norm = tt.nn.BatchNorm1d(1)
        >>> x = np.array([[1.0], [5.0]], np.float32)
        >>> refresh_batch_norm(norm, [(x, x)]).running_mean.item()
        3.0
    """
    norms = [m for m in model.modules() if isinstance(m, (BatchNorm1d, BatchNorm2d))]
    norms = [m for m in norms if m.running_mean is not None]
    before = [(m, m.momentum) for m in norms]
    batches = 0
    try:
        with no_grad(), evaluating(model):
            for norm in norms:
                norm.train()
                norm.momentum = None
                count = norm.num_batches_tracked  # at 0 the first batch replaces what there was
                if count is not None:
                    count.zero_()
            for batch in loader if norms else ():
                model(*map(asarray, batch[:-1]))
                batches += 1
    finally:
        for norm, momentum in before:
            norm.momentum = momentum
    if norms and not batches:
        raise DataError(
            "refresh_batch_norm: there is no batch",
            got="a loader that gives none",
            rule="at least one batch: the statistics are those of the data",
            fix="the loader of the training data",
        )
    return model


class WeightAverage(Callback):
    """The mean of the weights after each epoch from `start` on: SWA. Give it to a Trainer.

    Args:
        start: epochs that are left out, at least 0: until the loss is near its floor.

    Cost: a copy of the weights in float64; one pass over them an epoch.

    Source: Izmailov et al. 2018, https://arxiv.org/abs/1803.05407, algorithm 1; with a constant or
    cyclic rate, after about three quarters of the training.

    Example:
        >>> import numpy as np, tinytorch as tt
        >>> from tinytorch.training.history import Silent
        >>> model, average = tt.nn.Linear(2, 2), WeightAverage(start=2)
        >>> trainer = tt.training.Trainer(model, tt.optim.SGD(lr=0.1), compile=False,
        ...                               callbacks=[average], progress=Silent())
        >>> _ = trainer.train([(np.eye(2, dtype=np.float32), np.array([0, 1]))], epochs=5)
        >>> average.count, average.averaged(model).weight.shape
        (3, (2, 2))
    """

    def __init__(self, start: int = 0):
        self.start = whole("WeightAverage", "start", start, at_least=0)
        self.count = 0
        self.sums: dict[str, np.ndarray] = {}

    def end_epoch(self, trainer: Trainer, row: dict[str, float]) -> None:
        """Take the weights in."""
        if trainer.run.epoch >= self.start:
            self.take(trainer.model)

    def take(self, model: Module) -> None:
        """Take a model's weights in."""
        self.count += 1
        for name, x in model.state_dict().items():
            if x.dtype.is_float:
                wide = x.astype(float64).numpy()
                self.sums[name] = self.sums[name] + wide if name in self.sums else wide.copy()

    def averaged(self, model: Module) -> Module:
        """A copy of a model with the mean of what was taken in; see `refresh_batch_norm`.

        Raises:
            SettingError: no epoch was taken in.
        """
        if not self.count:
            raise SettingError(
                "WeightAverage: nothing was averaged",
                got=f"no epoch, start={self.start}",
                rule="a training that is longer than `start`",
                fix="WeightAverage(start=0)",
            )
        mean = copy.deepcopy(model)
        with no_grad():
            for name, own in mean.state_dict().items():
                if name in self.sums:
                    own.assign_(Tensor(self.sums[name] / self.count).astype(own.dtype))
        return mean

    def state_dict(self) -> dict[str, Any]:
        """The sums, and how many."""
        return {"count": self.count, **{f"sum.{n}": Tensor(x) for n, x in self.sums.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take what `state_dict` gave."""
        self.count = int(state["count"])
        self.sums = {
            n.removeprefix("sum."): np.array(asarray(x).numpy())
            for n, x in state.items()
            if n.startswith("sum.")
        }


class Ensemble(Module):
    """Several models that are asked together: the mean of their probabilities, as logits.

        out = log(mean over models of softmax(model(x)))

    softmax of it is that mean, so that it goes into cross-entropy, accuracy and `distill` as any
    model's logits.

    Args:
        models: at least one; they give logits of the same shape (..., K).

    Shapes: the models' inputs -> (..., K).

    Cost: all of them.

    Source: Hansen, Salamon 1990; Lakshminarayanan et al. 2017, https://arxiv.org/abs/1612.01474,
    section 2.4.

    Example:
        >>> import tinytorch as tt
        >>> both = Ensemble([tt.nn.Linear(4, 3), tt.nn.Linear(4, 3)])
        >>> p = both(tt.ones(2, 4)).softmax(-1)
        >>> wanted = sum(m(tt.ones(2, 4)).softmax(-1) for m in both.models) / 2
        >>> abs(p - wanted).max().item() < 1e-6
        True
    """

    def __init__(self, models: Sequence[Module]):
        self.models = ModuleList(_models("Ensemble", models))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Logits (..., K) whose softmax is the mean probability."""
        answers = [log_softmax(model(*inputs), -1) for model in self.models]
        if len({tuple(a.shape) for a in answers}) > 1:
            raise SettingError(
                "Ensemble: the models do not give the same",
                got=", ".join(str(tuple(a.shape)) for a in answers),
                rule="logits of one shape (..., K)",
                fix="models of the same classes",
            )
        return logsumexp(stack(answers, 0), 0) - float(np.log(len(answers)))
