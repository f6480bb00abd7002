"""What a network of pictures looks for: its filters, and what its layers make of images.

Knows weights and outputs of layers, never how they were trained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from math import prod
from typing import Any

import numpy as np

from tinytorch.base.arguments import whole
from tinytorch.base.errors import ArgumentTypeError, SettingError, ShapeError
from tinytorch.inspection.given import floats
from tinytorch.inspection.pictures import sheet, spread
from tinytorch.nn.convolution import Conv2d
from tinytorch.nn.module import Module, evaluating
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.tensor import Tensor


def filters(layer: Module, shape: tuple[int, int, int] | None = None) -> np.ndarray:
    """What the channels of a layer look for, as images: each from its least weight to its largest.

    Args:
        layer: with a `weight` (K, C, h, w), as Conv2d has; or (K, features), as Linear has, which
            reads images.
        shape: (C, h, w) of these images, for a weight (K, C h w); default None: the weight's own.

    Returns:
        (K, C, h, w) in [0, 1] for C = 1 or 3; else each channel by itself, (K C, 1, h, w).

    Raises:
        ArgumentTypeError: no layer with a weight.
        ShapeError: the weight is no image.

    Source: Zeiler, Fergus 2014, https://arxiv.org/abs/1311.2901, figure 6.

    Example:
        >>> from tinytorch import nn
        >>> filters(nn.Conv2d(3, 8, 5)).shape, filters(nn.Conv2d(8, 2, 3)).shape
        ((8, 3, 5, 5), (16, 1, 3, 3))
        >>> filters(nn.Linear(784, 10), shape=(1, 28, 28)).shape
        (10, 1, 28, 28)
    """
    weight: Any = getattr(layer, "weight", None)
    if weight is None:
        raise ArgumentTypeError(
            "filters: this layer has no weight",
            got=type(layer).__name__,
            rule="a convolution, or a Linear that reads images",
            fix="filters(model.get_submodule('...')), a layer of the model",
        )
    weight = weight[:]  # of few bits or of low rank: as the numbers for which it stands
    fitting = len(weight.shape) == 2 and shape is not None and prod(shape) == weight.shape[1]
    if len(weight.shape) != 4 and not fitting:
        raise ShapeError(
            "filters: these weights are no images",
            got=f"weight {tuple(weight.shape)}, shape={shape}",
            rule="(K, C, h, w), or (K, C h w) with shape=(C, h, w)",
            fix="filters(model.conv1), or filters(linear, shape=(1, 28, 28))",
        )
    images = floats("filters", "weight", weight, "(K, ...)" if fitting else "(K, C, h, w)")
    images = images.reshape(len(images), *shape) if fitting and shape is not None else images
    if images.shape[1] not in (1, 3):
        images = images.reshape(-1, 1, *images.shape[2:])
    return spread(images)


def feature_maps(
    model: Module, images: Any, layers: Iterable[str | Module] | None = None
) -> dict[str, np.ndarray]:
    """What layers of a model make of images, in evaluation mode.

    Args:
        model: takes images.
        images: (N, C, H, W), as the model takes them.
        layers: dotted names of its parts, or the parts themselves; default None: each Conv2d.

    Returns:
        name of each layer -> (N, channels, h, w), in the order of `named_modules()`.

    Raises:
        SettingError: there is no such part, or none at all.
        ShapeError: a part's output is no images; or it was never called.

    Cost: one eager call of the model.

    Source: torchvision's `create_feature_extractor` gives such a table.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import CNN
        >>> found = feature_maps(CNN(8, widths=(4, 6)), tt.zeros(2, 1, 8, 8), ["stages.0"])
        >>> {name: maps.shape for name, maps in found.items()}
        {'stages.0': (2, 4, 4, 4)}
    """
    given = floats("feature_maps", "images", images, "(N, C, H, W)").astype(np.float32)
    chosen = _parts(model, layers)
    found: dict[str, np.ndarray] = {}

    def keep(name: str) -> Any:
        def hook(module: Module, inputs: tuple, output: Any) -> None:
            shape = tuple(getattr(output, "shape", ()))
            if not isinstance(output, Tensor) or len(shape) != 4:
                raise ShapeError(
                    "feature_maps: what this layer gives are no images",
                    got=f"{name}: {type(output).__name__} {shape}",
                    rule="(N, channels, h, w)",
                    fix="layers=None: each Conv2d",
                )
            found.setdefault(name, floats("feature_maps", name, output, "(N, C, h, w)"))

        return hook

    with ExitStack() as held, no_grad(), evaluating(model):
        for name, part in chosen.items():
            held.enter_context(part.register_forward_hook(keep(name)))
        model(Tensor(given))
    for name in chosen:
        if name not in found:
            raise SettingError(
                "feature_maps: the model does not call this part",
                got=name,
                rule="a layer that the images go through",
                fix="the parts inside of it, by their names",
            )
    return {name: found[name] for name in chosen}


def _parts(model: Module, layers: Iterable[str | Module] | None) -> dict[str, Module]:
    names = {id(part): name for name, part in model.named_modules()}
    if layers is None:
        wanted = [part for part in model.modules() if isinstance(part, Conv2d)]
    else:
        wanted = [model.get_submodule(x) if isinstance(x, str) else x for x in layers]
    strange = [type(part).__name__ for part in wanted if id(part) not in names]
    if strange or not wanted:
        raise SettingError(
            "feature_maps: these are no parts of the model",
            got=", ".join(strange) or "none",
            rule="names of named_modules(), or the parts themselves, at least one",
            fix="feature_maps(model, images, [name])",
        )
    ids = {id(part) for part in wanted}
    return {name: part for name, part in model.named_modules() if id(part) in ids}


def draw_filters(images: np.ndarray, columns: int = 8, scale: int = 12) -> np.ndarray:
    """Filters side by side, in colour if they have any.

    Args:
        images: what `filters` gave.
        columns: filters in a row; default 8.
        scale: pixels for a weight, in each direction; default 12.

    Returns:
        a picture, (height, width) or (height, width, 3) uint8, for `save_figure`.

    Example:
        >>> from tinytorch import nn
        >>> draw_filters(filters(nn.Conv2d(3, 8, 5))).shape
        (60, 487, 3)
    """
    return sheet(images, columns, scale)


def draw_feature_maps(
    images: Any, maps: Mapping[str, np.ndarray], columns: int = 16, scale: int = 1
) -> np.ndarray:
    """For each image a row for each layer: the image in grey, then the layer's first maps.

    Args:
        images: (N, C, H, W), as the model took them.
        maps: what `feature_maps` gave for them; their sizes are enlarged to the images'.
        columns: pictures in a row, at least 2; default 16.
        scale: pixels for a pixel of an image, in each direction; default 1.

    Returns:
        a picture, (height, width) uint8, for `save_figure`.

    Example:
        >>> maps = {"conv": np.random.default_rng(0).random((2, 4, 4, 4))}
        >>> draw_feature_maps(np.zeros((2, 3, 8, 8)), maps, columns=5).shape
        (17, 44)
    """
    columns = whole("draw_feature_maps", "columns", columns, at_least=2)
    given = floats("draw_feature_maps", "images", images, "(N, C, H, W)")
    height, width = given.shape[2:]
    rows: list[np.ndarray] = []
    for i, image in enumerate(given):
        for output in maps.values():
            chosen = output[i, : columns - 1, None]
            # The nearest pixel of the map, whatever its size.
            down = np.arange(height) * chosen.shape[2] // height
            across = np.arange(width) * chosen.shape[3] // width
            row = np.zeros((columns, 1, height, width))
            row[0] = spread(image.mean(0)[None, None])
            row[1 : 1 + len(chosen)] = spread(chosen[:, :, down][..., across])
            rows.append(row)
    return sheet(np.concatenate(rows), columns, scale)
