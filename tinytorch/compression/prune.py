"""Unstructured pruning: the smallest weights become zeros and stay zeros while training goes on.

Knows magnitudes, masks and a schedule; how a mask is kept is in `nn/weight_forms`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tinytorch.base.arguments import number, one_of, whole
from tinytorch.base.errors import SettingError
from tinytorch.compression.recorded import check_model
from tinytorch.compression.replaced import numbers_of, replaced, weights_of
from tinytorch.nn.module import Module, Parameter
from tinytorch.nn.weight_forms import MaskedWeight, SparseWeight
from tinytorch.tensor.tensor import Tensor
from tinytorch.training.trainer import Callback, Trainer

SCOPES = ("adaptive", "global", "layer")


def prune(
    model: Module, sparsity: float, *, scope: str = "adaptive", skip: str | Iterable[str] = ()
) -> Module:
    """A copy of a model in which the smallest weights are zeros, and stay zeros.

    Weights of linear layers, convolutions, embeddings and attention become `nn.MaskedWeight`: an
    optimizer made for the copy trains the others on. What is pruned already stays so.
    `dense(model)` gives plain Parameters again, `store_sparse(model)` weights of few bytes.

    Args:
        model: any module with float weights.
        sparsity: part of the numbers that are 0 afterwards, in [0, 1).
        scope: "layer": of each weight the same part; "global": the smallest numbers of all weights
            together; "adaptive", the default: of all together those with the smallest w^2 / (sum
            of the squares of its weight's numbers that are not smaller), which leaves something of
            each weight and more of those that have few numbers.
        skip: dotted names of parts that stay as they are, such as a small last layer.

    Returns:
        the copy, in the mode of the model.

    Raises:
        SettingError: a sparsity outside its range, another scope, no such part, nothing to prune,
            or a layer of which nothing would remain.

    Cost: a partition of all magnitudes; adaptive, each weight is sorted.

    Source: Han et al. 2015, https://arxiv.org/abs/1506.02626; adaptive: Lee et al. 2021,
    https://arxiv.org/abs/2010.07611, equation 1.

    Differs from PyTorch's torch.nn.utils.prune: a copy, and no hooks.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch import compression, nn
        >>> net = nn.Linear(4, 1, bias=False)
        >>> net.weight.data = tt.Tensor([[3.0, -1.0, 2.0, -4.0]])
        >>> compression.prune(net, 0.5).weight.dense().tolist()
        [[3.0, 0.0, 0.0, -4.0]]
    """
    number("prune", "sparsity", sparsity, "[0, 1)")
    one_of("prune", "scope", scope, SCOPES)
    check_model("prune", model)
    small = replaced("prune", model, _masked, skip)
    _mask(small, sparsity, scope, skip)
    return small


def _masked(name: str, layer: Module, weight: Any) -> MaskedWeight | None:
    if isinstance(weight, MaskedWeight):
        return MaskedWeight(weight.values.detach().clone(), weight.mask.clone())
    if not isinstance(weight, Parameter):
        return None
    values = weight.detach()
    return MaskedWeight(values.clone(), np.ones(values.shape, bool))


def _mask(model: Module, sparsity: float, scope: str, skip: str | Iterable[str] = ()) -> None:
    """Give the masks of a model this sparsity."""
    named = [(n, w) for n, _, w in weights_of(model, skip) if isinstance(w, MaskedWeight)]
    sizes = [np.abs(numbers_of(weight)).ravel() for _, weight in named]
    if scope == "adaptive":
        sizes = list(map(_adapted, sizes))
    together = sizes if scope == "layer" else [np.concatenate(sizes)]
    kept = np.concatenate([_largest(group, sparsity) for group in together])
    masks = np.split(kept, np.cumsum([len(group) for group in sizes])[:-1])
    for (name, _), mask in zip(named, masks, strict=True):
        if mask.size and not mask.any():
            raise SettingError(
                "prune: of a layer nothing would remain",
                got=f"{name}: all of its {mask.size} numbers are among the smallest",
                rule=f"a number of each layer that is not 0, at sparsity={sparsity:g}",
                fix=f'scope="layer", a smaller sparsity, or skip=[{name.rpartition(".")[0]!r}]',
            )
    for (_, weight), mask in zip(named, masks, strict=True):
        shaped = mask.reshape(weight.shape)
        weight.mask.assign_(Tensor(shaped))
        values = weight.values.detach()
        weight.values.data = values * Tensor(shaped.astype(np.float32)).astype(values.dtype)


def _adapted(sizes: np.ndarray) -> np.ndarray:
    """Each number's square over the squares of those that are not smaller: 1 for the largest."""
    order = np.argsort(sizes, kind="stable")
    squares = np.square(sizes[order].astype(np.float64))
    rest = np.cumsum(squares[::-1])[::-1]
    out = np.empty(len(sizes))
    out[order] = np.divide(squares, rest, out=np.zeros_like(squares), where=rest > 0)
    return out


def _largest(sizes: np.ndarray, sparsity: float) -> np.ndarray:
    """Which are left when the smallest are gone: exactly so many, at least one."""
    kept = np.ones(len(sizes), bool)
    gone = min(round(sparsity * len(sizes)), len(sizes) - 1)
    if gone > 0:
        kept[np.argpartition(sizes, gone - 1)[:gone]] = False
    return kept


def scheduled_sparsity(
    step: int, sparsity: float, begin: int, end: int, start: float = 0.0
) -> float:
    """The sparsity after a step: it rises quickly at first, when much can go.

        final + (start - final) * (1 - (step - begin) / (end - begin))^3

    Args:
        step: steps taken.
        sparsity: the final one, from `end` on.
        begin, end: steps between which it rises.
        start: up to `begin`; default 0.

    Source: Zhu, Gupta 2017, https://arxiv.org/abs/1710.01878, equation 1.

    Example:
        >>> [round(scheduled_sparsity(t, 0.9, 0, 100), 4) for t in (0, 10, 50, 100, 200)]
        [0.0, 0.2439, 0.7875, 0.9, 0.9]
    """
    way = min(1.0, max(0.0, (step - begin) / (end - begin)))
    return sparsity + (start - sparsity) * (1.0 - way) ** 3


class Pruning(Callback):
    """Prunes while a Trainer trains: masks of a model of `prune` grow by a cubic schedule.

        model = compression.prune(model, 0.0)          masks, of which none is 0 yet
        Trainer(model, optimizer, callbacks=[Pruning(0.9, end=2000)])

    Args:
        sparsity: the final one, in [0, 1).
        begin: steps before the first mask; default 0.
        end: steps after which it is reached, above begin; some training after that is good.
        every: steps between masks, at least 1; default 50.
        scope: as for `prune`.
        skip: parts that are not pruned.

    Cost: a partition of all magnitudes at each mask; nothing is compiled again.

    Source: Zhu, Gupta 2017, https://arxiv.org/abs/1710.01878.

    Example:
        >>> Pruning(0.9, begin=100, end=200, every=50).due(125), Pruning(0.9, end=60).due(60)
        (False, True)
    """

    def __init__(
        self, sparsity: float, *, begin: int = 0, end: int, every: int = 50,
        scope: str = "adaptive", skip: str | Iterable[str] = (),
    ):  # fmt: skip
        self.sparsity = number("Pruning", "sparsity", sparsity, "[0, 1)")
        self.begin = whole("Pruning", "begin", begin, at_least=0)
        self.end = whole("Pruning", "end", end, at_least=self.begin + 1)
        self.every = whole("Pruning", "every", every, at_least=1)
        self.scope = one_of("Pruning", "scope", scope, SCOPES)
        self.skip = (skip,) if isinstance(skip, str) else tuple(skip)

    def due(self, step: int) -> bool:
        """Whether masks change after this step."""
        inside = self.begin <= step <= self.end
        return inside and (step == self.end or (step - self.begin) % self.every == 0)

    def begin_training(self, trainer: Trainer) -> None:
        """Refuse a model without masks."""
        if not any(isinstance(module, MaskedWeight) for module in trainer.model.modules()):
            raise SettingError(
                "Pruning: the model has no masks",
                got=f"{type(trainer.model).__name__} with plain weights",
                rule="a model of compression.prune, and an optimizer of its parameters",
                fix="model = compression.prune(model, 0.0), before the optimizer is made",
            )

    def after_batch(self, trainer: Trainer, values: dict[str, float]) -> None:
        """Prune more, if it is time."""
        if self.due(trainer.steps):
            now = scheduled_sparsity(trainer.steps, self.sparsity, self.begin, self.end)
            _mask(trainer.model, now, self.scope, self.skip)


def store_sparse(model: Module, *, skip: str | Iterable[str] = ()) -> Module:
    """A copy of a model whose weights of many zeros take few bytes, for keeping and for inference.

    Such weights become `nn.SparseWeight`, others plain Parameters, whichever is smaller. Nothing is
    rounded. Large linear layers then multiply by their numbers alone; `report` names those that do
    not. `load_compressed` loads a saved one.

    Args:
        model: as `prune` gave it, or any whose weights have zeros.
        skip: dotted names of parts that stay as they are.

    Returns:
        the copy, in evaluation mode.

    Raises:
        SettingError: no weight gets smaller; no such part.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch import compression, nn
        >>> net = nn.Linear(100, 100, bias=False)
        >>> small = compression.store_sparse(compression.prune(net, 0.9))
        >>> compression.bytes_of(net), compression.bytes_of(small)
        (40000, 5016)
    """
    small = replaced("store_sparse", model, _sparse, skip)
    return small.requires_grad_(False).eval()


def _sparse(name: str, layer: Module, weight: Any) -> Any:
    if not isinstance(weight, (Parameter, MaskedWeight)):
        return None
    array = numbers_of(weight)
    form = SparseWeight(array)
    if form.nbytes < array.size * weight.dtype.itemsize:
        return form
    return Parameter(Tensor(array)) if isinstance(weight, MaskedWeight) else None
