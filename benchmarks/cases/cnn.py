"""A training step of a small convolutional network on images of CIFAR's size."""

from __future__ import annotations

import numpy as np

from benchmarks import training_step
from benchmarks.cases import Side, numbers

TITLE = "training step, CNN of 4 convolutions 3x3 (32-32-64-64) with batch norm, batch 64, AdamW"
CHANNELS = (3, 32, 32, 64, 64)
BATCH, SIDE_LENGTH, CLASSES = 64, 32, 10
FEATURES = CHANNELS[-1] * (SIDE_LENGTH // 4) ** 2


def settings() -> list[dict]:
    """float32 and bf16."""
    return [{"name": f"cnn {p}", "precision": p} for p in ("float32", "bf16")]


def define(nn):
    """The network in either framework's nn; both take the same names."""
    blocks = []
    for i, (a, b) in enumerate(zip(CHANNELS, CHANNELS[1:], strict=False)):
        blocks += [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()]
        if i % 2:
            blocks.append(nn.MaxPool2d(2))
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(FEATURES, CLASSES))


def inputs(setting: dict) -> dict[str, np.ndarray]:
    """Weights, random images and labels."""
    import tinytorch as tt

    tt.manual_seed(0)
    labels = np.random.default_rng(2).integers(0, CLASSES, BATCH)
    images = numbers((BATCH, CHANNELS[0], SIDE_LENGTH, SIDE_LENGTH), 1)
    return training_step.with_weights(define(tt.nn), {"x": images, "y": labels})


def ours(setting: dict, arrays: dict, compiled: bool = True) -> Side:
    """Our layers."""
    from tinytorch import nn

    return training_step.ours(define(nn), lambda x: x, arrays, setting["precision"], compiled)


def peer(setting: dict, variant: str, arrays: dict) -> Side:
    """torch.nn's layers."""
    from torch import nn

    return training_step.theirs(define(nn), lambda x: x, arrays, setting["precision"], variant)


def variants(setting: dict) -> list[str]:
    """Both ways PyTorch can be run, in both layouts of images."""
    return training_step.variants(setting["precision"], training_step.LAYOUTS)


def tolerance(setting: dict) -> float:
    """See training_step; batch norm divides by deviations, which doubles it."""
    return 2 * training_step.tolerance(setting["precision"])


def work(setting: dict) -> tuple[int, int]:
    """Forward and two gradients of every convolution, the first without its input's."""
    total, area = 0, SIDE_LENGTH**2
    for i, (a, b) in enumerate(zip(CHANNELS, CHANNELS[1:], strict=False)):
        total += BATCH * area * 2 * 9 * a * b * (3 if i else 2)
        area //= 4 if i % 2 else 1
    return total + 6 * BATCH * FEATURES * CLASSES, 0
