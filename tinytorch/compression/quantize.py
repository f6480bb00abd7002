"""A model whose weights have 8 or 4 bits: which weights of which layers, and what is left alone.

Knows the layers that can hold a QuantizedWeight; how one is rounded and used is in `nn/quantized`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

from tinytorch.base.arguments import one_of
from tinytorch.base.errors import ArgumentTypeError, SettingError
from tinytorch.nn.attention import Attention
from tinytorch.nn.convolution import Conv1d, Conv2d
from tinytorch.nn.embedding import Embedding
from tinytorch.nn.linear import Linear
from tinytorch.nn.module import Module, Parameter
from tinytorch.nn.quantized import BITS, QuantizedWeight

_PROJECTIONS = tuple(f"{name}_proj_weight" for name in ("in", "q", "k", "v"))
# layer -> its weights that may have few bits
_WEIGHTS: dict[type[Module], tuple[str, ...]] = {
    Linear: ("weight",),
    Embedding: ("weight",),
    Conv2d: ("weight",),
    Conv1d: ("weight",),
    Attention: _PROJECTIONS,
}


def quantize(
    model: Module, kind: str = "int8", group: int | None = None, *, skip: Iterable[str] = ()
) -> Module:
    """A copy of a model whose weights have 8 or 4 bits, for inference.

    Linear layers, the projections of attention, embeddings (a row of the table is a channel) and
    convolutions get a `nn.QuantizedWeight` in the place of `weight`; a weight that several layers
    share stays one. Biases, norms and other layers keep their numbers. The copy is in evaluation
    mode and none of its parameters asks for a gradient; training through it is refused. The model
    that is given does not change.

        int8   a scale for each output channel; activations are rounded to int8 on the fly, one
               scale for each token, and multiplied as bytes, exactly
        int4   a scale for each group of numbers; the same, for convolutions float32

    To load a saved one: make the model, quantize it the same way, `load_state_dict`.

    Args:
        model: any module.
        kind: "int8" or "int4"; default "int8".
        group: numbers of a channel that share a scale: 32, 64 or 128; None: 64 for int4, the whole
            channel for int8.
        skip: dotted names of parts that stay as they are, with all below them.

    Returns:
        the copy. Weights take a quarter (int8), or 1 / 7.1 (int4 in groups of 32) to 1 / 7.5.

    Raises:
        SettingError: another kind or group; a part to skip that does not exist; nothing to do.

    Source: as `nn.QuantizedWeight`.

    Differs from PyTorch: torch.ao.quantization.quantize_dynamic takes one scale for all activations
    of a tensor; torchao's quantize_ changes the model in place.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch import compression, nn
        >>> net = nn.Sequential(nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10))
        >>> small = compression.quantize(net, "int4")
        >>> small(tt.zeros(2, 256)).shape, compression.bytes_of(net), compression.bytes_of(small)
        ((2, 10), 68392, 9340)
    """
    if not isinstance(model, Module):
        raise ArgumentTypeError(
            "quantize: this is no model",
            got=type(model).__name__,
            rule="a Module",
            fix="quantize(model, 'int8')",
        )
    one_of("quantize", "kind", kind, tuple(BITS))
    left = [model.get_submodule(path) for path in ([skip] if isinstance(skip, str) else skip)]
    kept = {id(module) for top in left for module in top.modules()}
    small: dict[int, object] = {}
    for module in model.modules():
        if id(module) in kept:
            continue
        for name in _names(module):
            weight = getattr(module, name, None)
            if isinstance(weight, Parameter) and id(weight) not in small:
                small[id(weight)] = QuantizedWeight(weight, kind, group)
    if not small:
        raise SettingError(
            "quantize: nothing in this model can be quantized",
            got=type(model).__name__,
            rule="Linear, Conv1d, Conv2d, Embedding or attention layers with float weights",
            fix="quantize the model before, not its activations or norms",
        )
    for top in left:  # what is skipped keeps its own weights, also those it shares
        for parameter in top.parameters():
            small.pop(id(parameter), None)
    copied = copy.deepcopy(model, small)
    return copied.requires_grad_(False).eval()


def _names(module: Module) -> tuple[str, ...]:
    return next((names for kind, names in _WEIGHTS.items() if isinstance(module, kind)), ())


def bytes_of(model: Module) -> int:
    """Bytes of all parameters and saved buffers, each once: what a file of the model holds.

    Args:
        model: any module.
    """
    held = {id(x): x.size * x.dtype.itemsize for x in model._state().values()}
    return sum(held.values())
