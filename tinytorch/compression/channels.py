"""Structured pruning: channels, neurons and heads that are really removed, in any model.

Knows how important a unit is and what sizes a layer keeps; which weights belong to a unit is
derived from the recorded graph (coupling.py), never from names.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tinytorch.base.arguments import number, one_of
from tinytorch.base.errors import GradientError, SettingError, ShapeError, TinyTorchError, short
from tinytorch.compiler.graph.graph import Value
from tinytorch.compression.coupling import Coupling, Unit, makes, units
from tinytorch.compression.recorded import check_model, inputs_of, recorded
from tinytorch.nn.attention import Attention
from tinytorch.nn.convolution import Conv1d, Conv2d, ConvTranspose2d
from tinytorch.nn.embedding import Embedding
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module, Parameter, evaluating
from tinytorch.nn.normalization import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm, RMSNorm
from tinytorch.nn.summary import tensors_in
from tinytorch.tensor.indexing import take
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.tensor import Tensor

IMPORTANCE = ("l1", "l2", "bn_scale", "taylor")
TOLERANCE = 1e-3  # of the largest answer: sums of float32 in another order, some layers deep
Removed = dict[tuple[int, int], set[int]]  # (number of the weight, axis) -> places


def prune_channels(
    model: Module, example: Any, ratio: float | Mapping[str, float], *, importance: str = "l1"
) -> Module:
    """A smaller model of the same classes: of each layer a part of its channels is removed.

    Channels of convolutions, neurons of linear layers, heads of attention and groups of grouped
    convolutions and norms go with all that belongs to them: biases, scales and statistics of norms,
    and what reads them, through shortcuts, concatenations, flattening and depthwise convolutions.
    What is left computes the model in which those numbers are zero, and that is checked on the
    example. Inputs, outputs, and what is averaged over (the numbers of a token that a layer norm
    sees) keep their sizes.

    The importance of a unit, over the weights that make it (not those that read it):

        l1        sum of |w|, of filters and matrices
        l2        sum of w^2, of filters and matrices
        bn_scale  sum of |weight| of the batch norms behind it
        taylor    (sum of w * gradient)^2, of what `loss.backward()` has left in `.grad`

    Args:
        model: any module.
        example: an input, or a tuple of them; its numbers are used for the check.
        ratio: part of the units of each kind that go, in [0, 1); or for parts of the model by
            dotted name: the channels that they, or what is in them, make. The longest name counts.
        importance: what says which: "l1", "l2", "bn_scale" or "taylor"; default "l1".

    Returns:
        the copy, in the mode of the model, which does not change. Its parameters are new: an
        optimizer is made anew. What a model keeps for itself (`config`) says what it was made with;
        `load_compressed` loads what was saved.

    Raises:
        SettingError: a ratio outside its range, a name that is no part or makes nothing that can
            go; a model of which nothing can; no batch norm for "bn_scale".
        GradientError: "taylor" without gradients.
        ShapeError: the model's own code depends on sizes that cannot be told (a fixed slice).

    Cost: recording, one pass over the weights, and two calls.

    Source: Li et al. 2017, https://arxiv.org/abs/1608.08710 (l1); Liu et al. 2017,
    https://arxiv.org/abs/1708.06519 (bn_scale); Molchanov et al. 2019,
    https://arxiv.org/abs/1906.10771, equation 8 (taylor); coupling: Fang et al. 2023,
    https://arxiv.org/abs/2301.12900.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch import compression
        >>> from tinytorch.models import CifarResNet
        >>> net = CifarResNet(1, width=8).eval()
        >>> small = compression.prune_channels(net, tt.ones(1, 3, 8, 8), 0.5)
        >>> small.layer1[0].conv1.weight.shape, small(tt.ones(2, 3, 8, 8)).shape
        ((4, 4, 3, 3), (2, 10))
    """
    owner = "prune_channels"
    check_model(owner, model)
    inputs = inputs_of(owner, example)
    one_of(owner, "importance", importance, IMPORTANCE)
    weights = _Weights(model, inputs)
    removed = weights.removed(_ratios(model, ratio), importance)
    small = resized(model, weights.without(removed))
    _check(model, weights.zeroed(removed), small, inputs)
    return small


def _ratios(model: Module, ratio: Any) -> dict[str, float]:
    """Part of the units that go, by dotted name; "" is everything."""
    given = ratio if isinstance(ratio, Mapping) else {"": ratio}
    for name in given:
        model.get_submodule(name)
    return {n: number("prune_channels", "ratio", r, "[0, 1)") for n, r in given.items()}


class _Weights:
    """The weights of a model, the units they consist of, and which of them go."""

    def __init__(self, model: Module, inputs: tuple[Tensor, ...]):
        recording = recorded(model, inputs)
        named = [*model.named_parameters(), *model.named_buffers()]
        own = {id(t._buffer): (name, t) for name, t in named if t.dtype.is_float}
        self.values: list[Value] = []
        self.names: list[str] = []
        self.tensors: list[Tensor] = []
        for value, source in zip(recording.graph.states, recording.sources, strict=True):
            name, tensor = own.get(id(getattr(source, "_buffer", None)), ("", None))
            if tensor is not None and tuple(tensor.shape) == value.shape:
                self.values.append(value)
                self.names.append(name)
                self.tensors.append(tensor)
        coupling = Coupling(recording.graph, self.values)
        self.made = makes(coupling, self.values)
        self.kinds: dict[frozenset[tuple[int, int]], list[Unit]] = {}
        for unit in units(coupling, self.values):
            self.kinds.setdefault(unit.kind, []).append(unit)
        self.norms = {
            id(module.weight)
            for module in model.modules()
            if isinstance(module, (BatchNorm1d, BatchNorm2d)) and module.weight is not None
        }
        if not self.kinds:
            raise SettingError(
                "prune_channels: there is nothing in this model that can be removed",
                got=f"{type(model).__name__} with {len(self.names)} weights",
                rule="a layer between others, whose channels are neither inputs nor outputs",
                fix="prune(model, sparsity), which removes single weights",
            )

    def removed(self, ratios: dict[str, float], importance: str) -> Removed:
        """The places that go."""
        used: set[str] = set()
        out: Removed = {}
        for kind, several in self.kinds.items():
            name = self._named(kind, ratios)
            if name is None:
                continue
            used.add(name)
            count = int(ratios[name] * len(several) + 1e-9)
            if not count:
                continue
            order = np.argsort([self._importance(unit, importance) for unit in several])
            room = {slot: self.tensors[slot[0]].shape[slot[1]] for slot in kind}
            for i in order[:count]:
                places = several[int(i)].places
                if any(room[slot] <= len(p) for slot, p in places.items()):
                    break  # of nothing the last part goes
                for slot, mine in places.items():
                    out.setdefault(slot, set()).update(mine)
                    room[slot] -= len(mine)
        if unused := [name for name in ratios if name not in used]:
            raise SettingError(
                "prune_channels: a part makes nothing that can be removed",
                got=", ".join(map(short, unused)),
                rule="parts that make channels for others: "
                + ", ".join(sorted({self.names[k[0]] for kind in self.kinds for k in kind})[:5]),
                fix="leave it out; what it makes is the model's output, or averaged over",
            )
        return out

    def _named(self, kind: Iterable[tuple[int, int]], ratios: dict[str, float]) -> str | None:
        """The longest given name of a part that makes these units."""
        made = [self.names[n] for n, axis in kind if self.made(n, axis)]
        fits = [r for r in ratios for name in made if not r or name.startswith(f"{r}.")]
        return max(fits, key=len, default=None)

    def _importance(self, unit: Unit, importance: str) -> float:
        made = [slot for slot in unit.places if self.made(*slot)]
        several = [slot for slot in made if len(self.tensors[slot[0]].shape) > 1] or made
        if importance == "bn_scale":
            several = [slot for slot in made if id(self.tensors[slot[0]]) in self.norms]
            if not several:
                raise SettingError(
                    "prune_channels: no batch norm says how important a channel is",
                    got=", ".join(sorted(self.names[n] for n, _ in made)),
                    rule="bn_scale is of channels behind which there is a batch norm",
                    fix='importance="l1", or a ratio for the parts that have one',
                )
        if importance == "taylor":
            several = [s for s in made if isinstance(self.tensors[s[0]], Parameter)]
        total = 0.0
        for slot in several:
            w = self._numbers(slot, unit.places[slot])
            if importance == "taylor":
                total += float((w * self._numbers(slot, unit.places[slot], True)).sum())
            else:
                total += float((w * w if importance == "l2" else np.abs(w)).sum())
        return total * total if importance == "taylor" else total

    def _numbers(self, slot: tuple[int, int], places: list[int], gradient: bool = False):
        shown = self.tensors[slot[0]]
        shown = shown.grad if gradient else shown.detach()
        if shown is None:
            raise GradientError(
                "prune_channels: there is no gradient that says how important a weight is",
                got=f"{self.names[slot[0]]}.grad is None",
                rule="taylor multiplies weights by their gradients",
                fix="loss.backward() on some batches before, without zero_grad()",
            )
        return shown.numpy().take(places, slot[1]).astype(np.float64)

    def without(self, removed: Removed) -> dict[int, Tensor]:
        """id of a weight -> what is left of it."""
        new: dict[int, Tensor] = {}
        for (n, axis), places in removed.items():
            tensor = self.tensors[n]
            kept = [i for i in range(tensor.shape[axis]) if i not in places]
            now = new.get(id(tensor), tensor).detach()
            new[id(tensor)] = like(tensor, take(now, Tensor(np.array(kept)), axis))
        return new

    def zeroed(self, removed: Removed) -> dict[int, Tensor]:
        """id of a weight -> the same with zeros for what is removed."""
        new: dict[int, Tensor] = {}
        for (n, axis), places in removed.items():
            tensor = self.tensors[n]
            keep = np.ones(tensor.shape[axis], np.float32)
            keep[list(places)] = 0.0
            factor = Tensor(keep.reshape(-1, *(1,) * (len(tensor.shape) - axis - 1)))
            now = new.get(id(tensor), tensor).detach()
            new[id(tensor)] = like(tensor, now * factor.astype(tensor.dtype))
        return new


def like(tensor: Tensor, numbers: Tensor) -> Tensor:
    """A Parameter or Tensor, as the other is, of these numbers."""
    if not isinstance(tensor, Parameter):
        return Tensor(numbers)
    return Parameter(numbers).requires_grad_(tensor.requires_grad)


def resized(model: Module, new: Mapping[int, Any]) -> Module:
    """A copy of a model with other tensors, by the ids of its own; layers know their sizes."""
    small = copy.deepcopy(model, dict(new))
    for module in small.modules():
        for kind, fit in _SIZES.items():
            if isinstance(module, kind):
                fit(module)
    for parameter in small.parameters():
        parameter.grad = None
    return small


def _check(
    model: Module, zeroed: dict[int, Tensor], small: Module, inputs: tuple[Tensor, ...]
) -> None:
    """Refuse a model that answers otherwise than the one whose removed numbers are zero."""
    reference = copy.deepcopy(model, dict(zeroed))
    problem = ""
    with no_grad(), evaluating(reference, small):
        right = tensors_in(reference(*inputs))
        try:
            found = tensors_in(small(*inputs))
        except TinyTorchError as error:
            problem = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            found = []
    if not problem:
        if [x.shape for x in found] != [x.shape for x in right]:
            problem = "answers of another shape"
        elif not all(map(_near, found, right)):
            problem = "other answers than the model with zeros in their place"
    if problem:
        raise ShapeError(
            "prune_channels: the model cannot do without its channels",
            got=problem,
            rule="its code takes sizes from layers and shapes, not from numbers of its own",
            fix="ratio={...} for the parts whose channels nothing else counts",
        )


def _near(a: Tensor, b: Tensor) -> bool:
    x, y = a.numpy().astype(np.float64), b.numpy().astype(np.float64)
    return bool(np.abs(x - y).max(initial=0.0) <= TOLERANCE * (np.abs(y).max(initial=0.0) + 1e-6))


# --- what layers keep of their sizes ---


def _set(module: Module, **sizes: Any) -> None:
    for name, value in sizes.items():
        if getattr(module, name) != value:
            setattr(module, name, value)


def _fit_linear(module: Any) -> None:
    out, into = module.weight.shape
    _set(module, in_features=into, out_features=out)


def _fit_convolution(module: Any) -> None:
    filters, depth = module.weight.shape[:2]
    groups = filters // (module.out_channels // module.groups)
    groups = groups if module.groups > 1 else 1
    _set(module, groups=groups, out_channels=filters, in_channels=depth * groups)


def _fit_transposed(module: Any) -> None:
    channels, depth = module.weight.shape[:2]
    groups = channels // (module.in_channels // module.groups) if module.groups > 1 else 1
    _set(module, groups=groups, in_channels=channels, out_channels=depth * groups)


def _fit_batch_norm(module: Any) -> None:
    known = module.running_mean if module.weight is None else module.weight
    if known is not None:
        _set(module, num_features=known.shape[0])


def _fit_group_norm(module: Any) -> None:
    if module.weight is not None:
        channels, size = module.weight.shape[0], module.num_channels // module.num_groups
        _set(module, num_groups=channels // size, num_channels=channels)


def _fit_norm(module: Any) -> None:
    if module.weight is not None:
        _set(module, normalized_shape=tuple(module.weight.shape))


def _fit_embedding(module: Any) -> None:
    rows, size = module.weight.shape
    _set(module, num_embeddings=rows, embedding_dim=size)


def _fit_attention(module: Any) -> None:
    shared = module.num_heads // module.kv_heads
    if module._is_joint:
        heads = module.in_proj_weight.shape[0] // module.head_size
        kv_heads = heads // (shared + 2)
    else:
        kv_heads = module.k_proj_weight.shape[0] // module.head_size
    _set(module, num_heads=shared * kv_heads, kv_heads=kv_heads)


_SIZES: dict[type[Module], Callable[[Any], None]] = {
    Linear: _fit_linear,
    Conv1d: _fit_convolution,
    Conv2d: _fit_convolution,
    ConvTranspose2d: _fit_transposed,
    BatchNorm1d: _fit_batch_norm,
    BatchNorm2d: _fit_batch_norm,
    GroupNorm: _fit_group_norm,
    LayerNorm: _fit_norm,
    RMSNorm: _fit_norm,
    Embedding: _fit_embedding,
    Attention: _fit_attention,
}
