"""A model whose weights have 8 or 4 bits: which weights of which layers, and what is left alone.

Knows the layers that can hold a QuantizedWeight; how one is rounded and used is in `nn/quantized`,
how the scales of activations are read off data in `observe`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tinytorch.base.arguments import one_of
from tinytorch.base.errors import ArgumentTypeError, SettingError
from tinytorch.compression.fake import FakeQuantizedWeight
from tinytorch.compression.observe import Observer, batches_of, observe
from tinytorch.compression.replaced import uses_of
from tinytorch.nn.embedding import Embedding
from tinytorch.nn.module import Module, Parameter
from tinytorch.nn.quantized import BITS, QuantizedWeight, StaticRounding


def quantize(
    model: Module, kind: str = "int8", group: int | None = None, *, skip: Iterable[str] = (),
    calibration: Any = None, observer: Observer | str = "mse",
) -> Module:  # fmt: skip
    """A copy of a model whose weights have 8 or 4 bits, for inference.

    Linear layers, the projections of attention, embeddings (a row of the table is a channel) and
    convolutions get a `nn.QuantizedWeight` in the place of `weight`; a weight that several layers
    share stays one. Biases, norms and other layers keep their numbers. The copy is in evaluation
    mode and none of its parameters asks for a gradient; training through it is refused. The model
    that is given does not change.

        int8   a scale for each output channel; activations are rounded to int8 on the fly, one
               scale for each token, and multiplied as bytes, exactly
        int4   a scale for each group of numbers; the same, for convolutions float32

    With `calibration` the scales of activations are known before (static quantisation): the model
    is shown these batches, an observer notes what goes into each layer, and at run time no maximum
    is computed. Activations after ReLU have no sign. A compiled program then keeps bytes between
    layers where nothing else reads the floats. Fold batch norms first (`fold_batch_norm`): the
    bytes are the same, and four vectors of floats a norm are saved.

    A model from `fake_quantize` becomes the static model that it was trained to be.

    To load a saved one: make the model, quantize it the same way, `load_state_dict`; of a static
    one, `quantize(model, calibration=state)` takes the scales from the state in place of data.

    Args:
        model: any module.
        kind: "int8" or "int4"; default "int8".
        group: numbers of a channel that share a scale: 32, 64 or 128; None: 64 for int4, the whole
            channel for int8.
        skip: dotted names of parts that stay as they are, with all below them.
        calibration: batches as the Trainer takes them, of which inputs are used (a few hundred
            samples are enough), or the state of a model that was calibrated; default None: dynamic.
        observer: how a scale is chosen: "mse", "minmax", "percentile", or an `Observer`.

    Returns:
        the copy. Weights take a quarter (int8), or 1 / 7.1 (int4 in groups of 32) to 1 / 7.5.

    Raises:
        SettingError: another kind or group; a part to skip that does not exist; nothing to do; a
            layer that the calibration data do not reach.
        DataError: calibration without data, or with numbers that are not finite.

    Cost: of calibration, an eager call for each batch and two passes over the activations.

    Source: as `nn.QuantizedWeight`; static: Jacob et al. 2018, https://arxiv.org/abs/1712.05877.

    Differs from PyTorch: torch.ao.quantization.quantize_dynamic takes one scale for all activations
    of a tensor; torchao's quantize_ changes the model in place.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch import compression, nn
        >>> net = nn.Sequential(nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10))
        >>> small = compression.quantize(net, "int4")
        >>> small(tt.zeros(2, 256)).shape, compression.bytes_of(net), compression.bytes_of(small)
        ((2, 10), 68392, 9340)
        >>> static = compression.quantize(net, calibration=[tt.ones(8, 256)])
        >>> static[0].weight.input.unsigned, static(tt.ones(2, 256)).shape
        (True, (2, 10))
    """
    if not isinstance(model, Module):
        raise ArgumentTypeError(
            "quantize: this is no model",
            got=type(model).__name__,
            rule="a Module",
            fix="quantize(model, 'int8')",
        )
    one_of("quantize", "kind", kind, tuple(BITS))
    fakes = [m for m in model.modules() if isinstance(m, FakeQuantizedWeight)]
    if fakes:
        _refuse_settings(kind, group, calibration)
        trained = {id(m): m.converted() for m in fakes}
        return copy.deepcopy(model, dict[int, Any](trained)).requires_grad_(False).eval()
    places = places_of("quantize", model, skip)
    inputs: dict[int, StaticRounding] = {}
    if isinstance(calibration, Mapping):
        inputs = _saved(calibration, places)
    elif calibration is not None:
        # Sums of groups are products of bytes with a sign, by one instruction for both.
        signed = kind == "int4" or group is not None
        inputs = roundings("quantize", model, places, calibration, observer, signed)
    small = {
        id(p.weight): QuantizedWeight(p.weight, kind, group, inputs.get(id(p.weight)))
        for p in places
    }
    copied = copy.deepcopy(model, dict[int, Any](small))
    return copied.requires_grad_(False).eval()


def _refuse_settings(kind: str, group: int | None, calibration: Any) -> None:
    if kind != "int8" or group is not None or calibration is not None:
        raise SettingError(
            "quantize: this model was trained for other bytes",
            got=f"kind={kind!r}, group={group}"
            + (", calibration" if calibration is not None else ""),
            rule="what fake_quantize rounded: int8, a scale a channel, its own calibration",
            fix="quantize(model)",
        )


def fake_quantize(
    model: Module, calibration: Any, *, skip: Iterable[str] = (),
    observer: Observer | str = "mse",
) -> Module:  # fmt: skip
    """A copy of a model that trains as if it had 8 bits: for quantisation-aware fine-tuning.

    Weights and what goes into their layers are rounded in the forward pass as the static int8 model
    rounds them; gradients go through (`FakeQuantizedWeight`). Then

        aware = fake_quantize(model, batches)
        fine_tune(aware, loader)
        small = quantize(aware)             answers as `aware` does, to the rounding of float32

    Weights' scales follow the weights; those of activations stay as calibrated. Fold batch norms
    first (`fold_batch_norm`): in training they would divide by other numbers than in evaluation.

    Args:
        model: any module; it does not change.
        calibration: batches as `quantize` takes them.
        skip: dotted names of parts that stay as they are, with all below them.
        observer: how the scales of activations are chosen, as in `quantize`.

    Returns:
        the copy, in the model's mode; its parameters are named "....weight.weight".

    Raises:
        SettingError, DataError: as `quantize` with calibration.

    Source: Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch import compression, nn
        >>> net, x = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)), tt.ones(2, 8)
        >>> aware = compression.fake_quantize(net, [x])
        >>> small = compression.quantize(aware)
        >>> abs(aware(x) - small(x)).max().item() < 1e-6
        True
    """
    places = places_of("fake_quantize", model, skip)
    inputs = roundings("fake_quantize", model, places, calibration, observer)
    fakes = {
        id(p.weight): FakeQuantizedWeight.of(p.weight, inputs.get(id(p.weight))) for p in places
    }
    return copy.deepcopy(model, dict[int, Any](fakes))


@dataclass(frozen=True)
class Place:
    """A weight that may have few bits.

    Args:
        path: dotted name of the first layer that has it, and its name there.
        weight: itself.
        multiplied: whether a layer multiplies by it; else rows of it are looked up.
    """

    path: str
    weight: Parameter
    multiplied: bool


def places_of(owner: str, model: Module, skip: str | Iterable[str] = ()) -> list[Place]:
    """The weights of a model that may have few bits, each once.

    Args:
        owner: who asks, for the message.
        model, skip: as `uses_of` takes them.

    Raises:
        SettingError: there is none; a part to skip that does not exist.
    """
    found: dict[int, Place] = {}
    for path, module, weight in uses_of(model, skip):
        if isinstance(weight, Parameter):
            first = found.get(id(weight), Place(path, weight, False))
            multiplied = first.multiplied or not isinstance(module, Embedding)
            found[id(weight)] = replace(first, multiplied=multiplied)
    if not found:
        raise SettingError(
            f"{owner}: nothing in this model can be quantized",
            got=type(model).__name__,
            rule="Linear, Conv1d, Conv2d, Embedding or attention layers with float weights",
            fix="quantize the model before, not its activations or norms",
        )
    return list(found.values())


def roundings(
    owner: str, model: Module, places: list[Place], calibration: Any, observer: Observer | str,
    signed: bool = False,
) -> dict[int, StaticRounding]:  # fmt: skip
    """How what goes into the layers of these weights becomes bytes, by the id of each weight.

    Args:
        owner: who asks, for messages.
        model: any module.
        places: its weights.
        calibration: batches, as `quantize` takes them.
        observer: how a scale is chosen.
        signed: whether all bytes have a sign.

    Raises:
        SettingError: the data do not reach a layer.
    """
    chosen = observer if isinstance(observer, Observer) else Observer(observer)
    wanted = [p for p in places if p.multiplied]
    seen = observe(model, [p.weight for p in wanted], chosen, batches_of(owner, calibration))
    for place in wanted:
        if not seen[id(place.weight)].seen:
            raise SettingError(
                f"{owner}: the calibration data do not reach a layer",
                got=f"nothing went into {place.path}",
                rule="each layer whose activations are rounded sees at least one batch",
                fix=f"data that go through it, or skip=[{place.path.rpartition('.')[0]!r}]",
            )
    return {id(p.weight): seen[id(p.weight)].rounding(signed) for p in wanted}


def _saved(state: Mapping[str, Any], places: list[Place]) -> dict[int, StaticRounding]:
    """The same out of the state of a model that was calibrated."""
    found: dict[int, StaticRounding] = {}
    for place in (p for p in places if p.multiplied):
        keys = {f"{place.path}.input.{StaticRounding.names[u]}": u for u in (False, True)}
        key = next((key for key in keys if key in state), None)
        if key is None:
            raise SettingError(
                "quantize: the state has no scale for what goes into a layer",
                got=f"no {' or '.join(keys)}",
                rule="the state of a model that was quantized with calibration, of the same layers",
                fix="calibration=batches; the same skip; batch norms folded as they were there",
            )
        rounding = found[id(place.weight)] = StaticRounding(1.0, keys[key])
        rounding.load_state_dict({StaticRounding.names[keys[key]]: state[key]})
    return found


def bytes_of(model: Module) -> int:
    """Bytes of all parameters and saved buffers, each once: what a file of the model holds.

    Args:
        model: any module.
    """
    held = {id(x): x.size * x.dtype.itemsize for x in model._state().values()}
    return sum(held.values())
