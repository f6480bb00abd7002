"""A model whose weights have another form: which weights may have one, and the copy that has it.

Knows layers and their weights; what a form is and how it is made is its file's matter.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from tinytorch.base.errors import SettingError
from tinytorch.compression.recorded import check_model
from tinytorch.nn.attention import Attention
from tinytorch.nn.convolution import Conv1d, Conv2d
from tinytorch.nn.embedding import Embedding
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module, Parameter
from tinytorch.nn.quantized import QuantizedWeight
from tinytorch.nn.weight_forms import DenseForm
from tinytorch.tensor.tensor import Tensor

# layer -> its weights that may have another form
_WEIGHTS: dict[type[Module], tuple[str, ...]] = {
    Linear: ("weight",),
    Embedding: ("weight",),
    Conv2d: ("weight",),
    Conv1d: ("weight",),
    Attention: tuple(f"{name}_proj_weight" for name in ("in", "q", "k", "v")),
}
_HELD = (Parameter, DenseForm, QuantizedWeight)  # what says the numbers for which it stands
# (dotted name, the layer, the weight) -> the form that takes the weight's place, None: it stays
Make = Callable[[str, Module, Any], Any]


def uses_of(model: Module, skip: str | Iterable[str] = ()) -> Iterator[tuple[str, Module, Any]]:
    """(dotted name, layer, weight) wherever a layer has a weight that may have another form.

    Args:
        model: any module.
        skip: dotted names of parts that are left out, with all below them and what they share.

    Raises:
        SettingError: a part to skip that does not exist.
    """
    left = [model.get_submodule(path) for path in ([skip] if isinstance(skip, str) else skip)]
    kept = {id(module) for top in left for module in top.modules()}
    shared = {id(x) for top in left for m in top.modules() for x in vars(m).values()}
    for path, module in model.named_modules():
        names = next((names for kind, names in _WEIGHTS.items() if isinstance(module, kind)), ())
        for name in () if id(module) in kept else names:
            weight = getattr(module, name, None)
            if weight is not None and id(weight) not in shared:
                yield f"{path}.{name}".removeprefix("."), module, weight


def weights_of(model: Module, skip: str | Iterable[str] = ()) -> Iterator[tuple[str, Module, Any]]:
    """Those of `uses_of` whose weight says the numbers for which it stands, each weight once."""
    seen: set[int] = set()
    for name, module, weight in uses_of(model, skip):
        if isinstance(weight, _HELD) and id(weight) not in seen:
            seen.add(id(weight))
            yield name, module, weight


def numbers_of(weight: Any) -> np.ndarray:
    """What a Parameter or a form stands for, as an array."""
    if isinstance(weight, DenseForm):
        weight = weight.dense()
    elif isinstance(weight, QuantizedWeight):
        weight = weight.dequantize()
    return weight.detach().astype("float32").numpy()


def replaced(owner: str, model: Any, make: Make, skip: str | Iterable[str] = ()) -> Module:
    """A copy of a model in which weights have another form; what is shared stays shared.

    Args:
        owner: who asks, for messages.
        model: any module.
        make: gives the form of a weight, or None.
        skip: dotted names of parts that stay as they are.

    Raises:
        SettingError: no weight of it may have, or has got, another form; no such part to skip.
    """
    check_model(owner, model)
    new: dict[int, Any] = {}
    for name, module, weight in weights_of(model, skip):
        form = make(name, module, weight)
        if form is not None:
            new[id(weight)] = form
    if not new:
        raise SettingError(
            f"{owner}: no weight of this model can be replaced",
            got=f"{type(model).__name__}, {len(list(model.parameters()))} parameters",
            rule="weights of Linear, Conv1d, Conv2d, Embedding or attention, for which it pays",
            fix="a model with such layers, and skip=() for the parts that are meant",
        )
    return copy.deepcopy(model, new)


def dense(model: Module) -> Module:
    """A copy of a model whose weights are plain Parameters, whatever form they had.

    The end of pruning, sharing and factorizing: files have the names and sizes of the model that
    was never compressed, and pruned weights are zeros in them.

    Args:
        model: any module; quantized weights become the floats for which they stand.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch import compression, nn
        >>> net = compression.prune(nn.Linear(4, 2), 0.5)
        >>> list(net.state_dict())[1:], list(compression.dense(net).state_dict())
        (['weight.values', 'weight.mask'], ['weight', 'bias'])
    """
    check_model("dense", model)
    new: dict[int, Any] = {
        id(weight): Parameter(Tensor(numbers_of(weight)))
        for _, _, weight in weights_of(model)
        if not isinstance(weight, Parameter)
    }
    return copy.deepcopy(model, new)


def sparsity_of(model: Module, *, skip: str | Iterable[str] = ()) -> float:
    """Part of the numbers that are 0, of the weights of Linear, convolution, embedding, attention.

    Args:
        model: any module.
        skip: dotted names of parts that do not count.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch import compression, nn
        >>> compression.sparsity_of(compression.prune(nn.MLP([20, 10, 5]), 0.9))
        0.9
    """
    check_model("sparsity_of", model)
    zeros = total = 0
    for _, _, weight in weights_of(model, skip):
        array = numbers_of(weight)
        zeros += array.size - int(np.count_nonzero(array))
        total += array.size
    return zeros / total if total else 0.0
