"""Training steps of two residual networks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks import training_step
from benchmarks.cases import Side, numbers

TITLE = "training steps, ResNet-20 on 32 x 32 batch 128, ResNet-18 on 64 x 64 batch 32, AdamW"
CLASSES = 10


@dataclass(frozen=True)
class Size:
    """What differs between the two.

    Args:
        batch: pictures of a step.
        side: their height and width.
        stages: (blocks, channels) of each stage.
        first: window of the first convolution, its stride, and that of the pooling after it.
        projects: whether a shortcut that changes the sizes has a convolution of its own.
    """

    batch: int
    side: int
    stages: tuple[tuple[int, int], ...]
    first: tuple[int, int, int]
    projects: bool


SIZES = {
    "resnet20": Size(128, 32, ((3, 16), (3, 32), (3, 64)), (3, 1, 1), False),
    "resnet18": Size(32, 64, ((2, 64), (2, 128), (2, 256), (2, 512)), (7, 2, 2), True),
}


def settings() -> list[dict]:
    """Both networks in float32 and bf16."""
    return [
        {"name": f"{m} {p}", "model": m, "precision": p} for m in SIZES for p in ("float32", "bf16")
    ]


def our_model(name: str):
    """tinytorch.models' network of that name."""
    from tinytorch import models

    return getattr(models, name)(classes=CLASSES)


def their_model(name: str):
    """The network in PyTorch, with the same names of weights."""
    from torch import nn
    from torch.nn.functional import pad, relu

    size = SIZES[name]

    class Block(nn.Module):
        def __init__(self, before: int, width: int, stride: int):
            super().__init__()
            self.stride, self.added = stride, width - before
            self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            self.downsample = None
            if size.projects and self.added:
                conv = nn.Conv2d(before, width, 1, stride, bias=False)
                self.downsample = nn.Sequential(conv, nn.BatchNorm2d(width))

        def forward(self, x):
            out = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
            return relu(out + self.shortcut(x))

        def shortcut(self, x):
            if self.downsample is not None:
                return self.downsample(x)
            if not self.added:
                return x
            half = self.added // 2
            return pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            window, stride, pooled = size.first
            width = before = size.stages[0][1]
            self.conv1 = nn.Conv2d(3, width, window, stride, window // 2, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.maxpool = nn.MaxPool2d(3, 2, 1) if pooled > 1 else nn.Identity()
            stages = []
            for i, (blocks, width) in enumerate(size.stages, 1):
                first = Block(before, width, 1 if i == 1 else 2)
                stage = nn.Sequential(first, *(Block(width, width, 1) for _ in range(blocks - 1)))
                self.add_module(f"layer{i}", stage)
                stages.append(stage)
                before = width
            self.stages = stages
            self.add_module("fc" if size.projects else "linear", nn.Linear(before, CLASSES))

        def forward(self, x):
            x = self.maxpool(relu(self.bn1(self.conv1(x))))
            for stage in self.stages:
                x = stage(x)
            last = self.fc if size.projects else self.linear
            return last(x.mean((2, 3)))

    return Network()


def inputs(setting: dict) -> dict[str, np.ndarray]:
    """Weights, random pictures and labels."""
    import tinytorch as tt

    tt.manual_seed(0)
    size = SIZES[setting["model"]]
    labels = np.random.default_rng(2).integers(0, CLASSES, size.batch)
    batch = {"x": numbers((size.batch, 3, size.side, size.side), 1), "y": labels}
    return training_step.with_weights(our_model(setting["model"]), batch)


def ours(setting: dict, arrays: dict) -> Side:
    """Our model, one program a step."""
    model = our_model(setting["model"])
    return training_step.ours(model, lambda x: x, arrays, setting["precision"])


def peer(setting: dict, variant: str, arrays: dict) -> Side:
    """The same model of torch.nn."""
    model = their_model(setting["model"])
    return training_step.theirs(model, lambda x: x, arrays, setting["precision"], variant)


def variants(setting: dict) -> list[str]:
    """Both ways PyTorch can be run, in both layouts of images."""
    return training_step.variants(setting["precision"], training_step.LAYOUTS)


def tolerance(setting: dict) -> float:
    """See training_step; batch norm divides by deviations, which doubles it."""
    return 2 * training_step.tolerance(setting["precision"])


def work(setting: dict) -> tuple[int, int]:
    """Forward and two gradients of every convolution, the first without its input's."""
    convolutions, last = layers(setting["model"])
    first, *rest = (2 * k * k * a * b * side * side for a, b, k, stride, side in convolutions)
    return SIZES[setting["model"]].batch * (2 * first + 3 * sum(rest) + 6 * last * CLASSES), 0


def layers(name: str) -> tuple[list[tuple[int, int, int, int, int]], int]:
    """Every convolution as (channels in, channels, window, stride, side of its output), in the
    order in which they run, and the features of the linear layer."""
    size = SIZES[name]
    window, stride, pooled = size.first
    before, side = size.stages[0][1], size.side // stride
    found = [(3, before, window, stride, side)]
    side //= pooled
    for i, (blocks, width) in enumerate(size.stages):
        for j in range(blocks):
            stride = 2 if i and not j else 1
            side //= stride
            found += [(before, width, 3, stride, side), (width, width, 3, 1, side)]
            if size.projects and before != width:
                found.append((before, width, 1, stride, side))
            before = width
    return found, before
