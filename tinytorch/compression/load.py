"""Compressed models from what was saved of them: the state's names and shapes say what each is.

Knows the names under which forms of weights keep their parts; never how they were made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinytorch.base.errors import ShapeError, short
from tinytorch.compression.channels import like, resized
from tinytorch.compression.recorded import check_model
from tinytorch.compression.replaced import weights_of
from tinytorch.nn.module import Module, Parameter
from tinytorch.nn.weight_forms import FactoredWeight, MaskedWeight, SharedWeight, SparseWeight
from tinytorch.tensor.assignment import as_given
from tinytorch.tensor.tensor import Tensor


def load_compressed(model: Module, state: Mapping[str, Any]) -> Module:
    """A copy of a model with the sizes, forms and numbers of a compressed one that was saved.

    For what `prune`, `store_sparse`, `prune_channels`, `factorize`, `share_weights` made, one after
    the other too: nothing but the state is needed, and the model as it was made first.

    Args:
        model: made as the one that was compressed.
        state: what `state_dict()` of the compressed one gave, or a file of it.

    Raises:
        SettingError: a missing or unknown name.
        ShapeError: arrays that are not of this model, smaller; parts that contradict each other.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch import compression, nn
        >>> small = compression.prune_channels(nn.MLP([8, 16, 4]), tt.ones(1, 8), 0.75)
        >>> saved = compression.factorize(small, 1).state_dict()
        >>> compression.load_compressed(nn.MLP([8, 16, 4]), saved).layers[0].weight
        FactoredWeight((4, 8), rank=1)
    """
    check_model("load_compressed", model)
    given = {name: as_given(x) for name, x in state.items()}
    new: dict[int, Any] = {}
    for name, _, weight in weights_of(model):
        form = _form(name, given) if isinstance(weight, Parameter) else None
        if form is not None:
            _check_smaller(name, form.shape, weight.shape)
            new[id(weight)] = form
    for name, tensor in model._state().items():
        shape = tuple(given.get(name, tensor).shape)
        if shape != tuple(tensor.shape) and id(tensor) not in new:
            _check_smaller(name, shape, tensor.shape)
            new[id(tensor)] = like(tensor, tensor.detach()[tuple(slice(n) for n in shape)])
    small = resized(model, new)
    small.load_state_dict(given)
    return small


def _check_smaller(name: str, shape: tuple[int, ...], before: tuple[int, ...]) -> None:
    if len(shape) != len(before) or any(n > m for n, m in zip(shape, before, strict=True)):
        raise ShapeError(
            "load_compressed: this is not of a smaller model of this kind",
            got=f"{short(name)} {shape}",
            rule=f"as {tuple(before)}, or smaller",
            fix="the model as it was made before it was compressed",
        )


def _form(name: str, given: Mapping[str, Tensor]) -> Any:
    """The form in which a weight was saved; None for a plain one."""

    begins = f"{name}."
    parts = {n.removeprefix(begins): x for n, x in given.items() if n.startswith(begins)}
    if parts.keys() == {"values", "mask"}:
        return MaskedWeight(parts["values"], parts["mask"])
    if parts.keys() == {"left", "right"}:
        return FactoredWeight(parts["left"], parts["right"])
    if "sizes" not in parts:
        return None
    shape = tuple(int(n) for n in parts.pop("sizes").numpy())
    if parts.keys() == {"codebook", "codes"}:
        return SharedWeight.stored(shape, parts["codebook"], parts["codes"])
    for kind in ("gaps", "bitmap"):
        if parts.keys() == {"values", kind}:
            return SparseWeight.stored(shape, kind, parts[kind], parts["values"])
    return None
