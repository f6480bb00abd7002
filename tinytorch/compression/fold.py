"""Batch norm folded into the layer before it: one layer less, the same answers in evaluation.

Knows convolutions, linear layers and batch norms; which norm follows which layer, and whether
anything else reads what lies between, is read from the recorded graph, not from names.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from tinytorch.base.errors import SettingError
from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.record.recorder import Recorder
from tinytorch.compression.recorded import check_model, inputs_of, recorded
from tinytorch.nn.convolution import Conv1d, Conv2d, ConvTranspose2d
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module, Parameter
from tinytorch.nn.normalization import BatchNorm1d, BatchNorm2d
from tinytorch.nn.shapes import Identity
from tinytorch.nn.summary import Watcher, watching
from tinytorch.tensor.interpreter import current
from tinytorch.tensor.tensor import Tensor

_NORMS = (BatchNorm1d, BatchNorm2d)
_LAYERS = (Conv1d, Conv2d, ConvTranspose2d, Linear)


class _Seen(Watcher):
    """Of each call of a module: what it was given and gave, and which nodes are its own."""

    def __init__(self, own: Any):
        super().__init__(own)
        self.calls: list[tuple[Value | None, Value | None, int, int]] = []
        self._given: Value | None = None

    def around(self, module: Any, inputs: tuple, named: dict) -> Any:
        """As Watcher, the first input noted."""
        self._given = _value(inputs[0]) if inputs else None
        return super().around(module, inputs, named)

    def watch(self, module: Any, call: Callable[[], Any]) -> Any:
        """What the module gives."""
        given, recorder = self._given, current()
        start = len(recorder.graph.nodes) if isinstance(recorder, Recorder) else 0
        out = call()
        stop = len(recorder.graph.nodes) if isinstance(recorder, Recorder) else 0
        self.calls.append((given, _value(out), start, stop))
        return out


def _value(x: Any) -> Value | None:
    value = x._value if isinstance(x, Tensor) else None
    return value if isinstance(value, Value) else None


def fold_batch_norm(model: Module, example: Any) -> Module:
    """A copy of a model without the batch norms that stand behind a convolution or linear layer.

        scale = weight / sqrt(running_var + eps)
        layer.weight = layer.weight * scale          of each output channel
        layer.bias = (layer.bias - running_mean) * scale + bias

    A norm is folded where it alone reads what the layer gives, and each is called once; others
    stay. The copy is in evaluation mode and answers as the model did there, to rounding. It can be
    trained on, but not as before: a norm in training uses the batch's own statistics.

    Args:
        model: any module.
        example: an input, or a tuple of them; only its shapes matter.

    Returns:
        the copy; the model that is given does not change. A folded norm is an `nn.Identity`.

    Raises:
        SettingError: there is no norm that can be folded.

    Cost: one pass over the weights.

    Source: Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3.2, equation 14.

    Differs from PyTorch's torch.nn.utils.fuse_conv_bn_eval, which is given the pairs.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        >>> folded = fold_batch_norm(net, tt.zeros(1, 3, 8, 8))
        >>> [type(part).__name__ for part in folded], folded[0].bias.shape
        (['Conv2d', 'Identity', 'ReLU'], (8,))
    """
    pairs = _pairs(check_model("fold_batch_norm", model), inputs_of("fold_batch_norm", example))
    if not pairs:
        raise SettingError(
            "fold_batch_norm: there is no batch norm that can be folded",
            got=type(model).__name__,
            rule="a batch norm with running statistics right behind a convolution or linear layer,"
            " the only one that reads its output",
            fix="fold_batch_norm of a model with such layers; others need none",
        )
    memo: dict[int, Any] = {}
    for layer, norm in pairs:
        memo[id(layer)], memo[id(norm)] = _folded(layer, norm), Identity()
    return copy.deepcopy(model, memo).eval()


def _pairs(model: Module, inputs: tuple[Tensor, ...]) -> list[tuple[Module, Module]]:
    """(layer, norm) of each norm that can be folded."""
    with watching(model, _Seen) as seen:
        graph = recorded(model, inputs).graph
    users, results = graph.users(), set(graph.outputs)
    made = {
        calls[0][1]: module
        for module in model.modules()
        if isinstance(module, _LAYERS) and len(calls := seen[id(module)].calls) == 1
    }
    weights = [id(layer.weight) for layer in made.values()]
    found: list[tuple[Module, Module]] = []
    for norm in model.modules():
        if not isinstance(norm, _NORMS) or norm.running_mean is None:
            continue
        calls = seen[id(norm)].calls
        given, _, start, stop = calls[0] if len(calls) == 1 else (None, None, 0, 0)
        layer = made.get(given)
        if layer is None or given is None or not isinstance(layer.weight, Parameter):
            continue
        inside: set[Node] = set(graph.nodes[start:stop])
        alone = given not in results and all(user in inside for user in users[given])
        features = not isinstance(layer, Linear) or len(given.shape) == 2
        if alone and features and weights.count(id(layer.weight)) == 1:
            found.append((layer, norm))
    return found


def _folded(layer: Any, norm: Any) -> Module:
    """A copy of a layer with the scale and shift of a norm; in float64, rounded once."""
    mean, variance = (t.numpy().astype(np.float64) for t in (norm.running_mean, norm.running_var))
    scale = 1.0 / np.sqrt(variance + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight.detach().numpy()
    weight = layer.weight.detach()
    bias = 0.0 if layer.bias is None else layer.bias.detach().numpy().astype(np.float64)
    shift = (bias - mean) * scale
    if norm.bias is not None:
        shift = shift + norm.bias.detach().numpy()
    w = weight.numpy().astype(np.float64)
    if isinstance(layer, ConvTranspose2d):  # (C, K / groups, ...): the channels of each group
        parts = w.reshape(layer.groups, -1, *w.shape[1:])
        by_group = scale.reshape(layer.groups, 1, -1, *(1,) * (w.ndim - 2))
        w = (parts * by_group).reshape(w.shape)
    else:
        w = w * scale.reshape(-1, *(1,) * (w.ndim - 1))
    small = copy.deepcopy(layer)
    small.weight = Parameter(Tensor(w).astype(weight.dtype))
    small.bias = Parameter(Tensor(shift).astype(weight.dtype))
    return small
