"""Pictures of what a convolutional network has learned: filters, and maps of images.

Knows weights and outputs of layers; `png` writes the files.
"""

from __future__ import annotations

import numpy as np

import tinytorch as tt
from benchmarks.png import as_bytes, sheet
from tinytorch import nn

COLUMNS = 16


def spread(pictures: np.ndarray) -> np.ndarray:
    """Each picture (N, C, H, W) from its least number, 0, to its largest, 1."""
    low, high = (f(pictures, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    return (pictures - low) / np.maximum(high - low, 1e-9)


def filters(layer: nn.Conv2d, scale: int = 12) -> np.ndarray:
    """The filters of a convolution of 1 or 3 channels, side by side, in colour if there is any."""
    return sheet(as_bytes(spread(layer.weight.numpy())), 8, scale)


def maps(network: nn.Module, layers: list[nn.Module], images: np.ndarray) -> np.ndarray:
    """For each image a row for each layer: the image, then the layer's first maps.

    Args:
        network: in evaluation mode.
        layers: parts of it whose outputs are (N, C, h, w).
        images: (N, C, H, W), as the network takes them.
    """
    found: list[np.ndarray] = []
    handles = [
        layer.register_forward_hook(lambda module, inputs, output: found.append(output.numpy()))
        for layer in layers
    ]
    with tt.no_grad():
        network(tt.Tensor(images))
    for handle in handles:
        handle.remove()
    side, pictures = images.shape[-1], []
    for i, image in enumerate(images):
        for output in found:
            chosen = output[i, : COLUMNS - 1, None]
            factor = side // chosen.shape[-1]
            drawn = spread(np.concatenate([
                image.mean(0)[None, None], chosen.repeat(factor, 2).repeat(factor, 3),
            ]))  # fmt: skip
            blank = np.zeros((COLUMNS - len(drawn), 1, side, side), np.float32)
            pictures += [drawn, blank]
    return sheet(as_bytes(np.concatenate(pictures)), COLUMNS)
