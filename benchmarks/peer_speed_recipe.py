"""The recipe of `speed_recipe` in PyTorch at its best: its network, optimizers and steps.

Same first weights and the same pictures of each step, so that losses can be compared. Convolutions
with channels last, fused SGD, Newton and Schulz's steps in float32. Knows PyTorch and the settings;
a process of its own runs it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import speed_recipe
from benchmarks.speed_recipe import LENGTHS, Length, loader_of, rates, share_left, step_seconds
from tinytorch.data import CIFAR10_MEAN, CIFAR10_STD, load_cifar10
from tinytorch.models.whitened import EPS, MOMENTUM
from tinytorch.optim.muon import COEFFICIENTS
from tinytorch.optim.muon import EPS as MUON_EPS


class Group(nn.Module):
    """As `tinytorch.models.whitened.Group`."""

    def __init__(self, channels_in: int, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels, eps=EPS, momentum=MOMENTUM)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels, eps=EPS, momentum=MOMENTUM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, channels, H // 2, W // 2)."""
        x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)), approximate="tanh")
        return F.gelu(self.norm2(self.conv2(x)), approximate="tanh")


class Network(nn.Module):
    """As `tinytorch.models.WhitenedCNN`, with the same names of weights."""

    def __init__(self, length: Length):
        super().__init__()
        a, b, c = length.widths
        self.whiten = nn.Conv2d(3, 24, 2)
        self.groups = nn.ModuleList([Group(24, a), Group(a, b), Group(b, c)])
        self.head = nn.Linear(c, 10, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, 32, 32) -> (N, 10)."""
        x = F.gelu(self.whiten(F.pad(x, (0, 1, 0, 1))), approximate="tanh")
        for group in self.groups:
            x = group(x)
        return self.head(F.max_pool2d(x, x.shape[2:]).flatten(1)) / x.shape[1]


class Muon(torch.optim.Optimizer):
    """As `tt.optim.Muon` after `tt.optim.renorm_`."""

    def __init__(self, params: Any, lr: float):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """Move every filter."""
        momentum = speed_recipe.MUON_MOMENTUM
        for group in self.param_groups:
            for p in group["params"]:
                g = p.grad
                p.mul_(len(p) ** 0.5 / p.norm())
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                m.mul_(momentum).add_(g, alpha=1 - momentum)
                u = momentum * m + (1 - momentum) * g
                p.sub_(orthogonal(u.reshape(len(u), -1)).view_as(p), alpha=group["lr"])


def orthogonal(x: torch.Tensor) -> torch.Tensor:
    """As `tinytorch.optim.muon.orthogonal`."""
    a, b, c = COEFFICIENTS
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / x.norm().clamp_min(MUON_EPS)
    for _ in range(speed_recipe.MUON_STEPS):
        square = x @ x.T
        x = a * x + (b * square + c * (square @ square)) @ x
    return x.T if tall else x


class Training:
    """The network with given weights, its optimizers and its step.

    Args:
        length: which.
        weights: by name.
        compiled: whether forward and loss go through `torch.compile`.
    """

    def __init__(self, length: Length, weights: dict[str, np.ndarray], compiled: bool):
        self.length, self.net = length, Network(length)
        self.net.load_state_dict({n: torch.from_numpy(x) for n, x in weights.items()})
        self.net = self.net.to(memory_format=torch.channels_last)
        named, rate = dict(self.net.named_parameters()), rates(length)
        self.bias = named["whiten.bias"]
        for name, p in named.items():
            p.requires_grad = name != "whiten.weight" and not ("norm" in name and "weight" in name)
        shifts = [p for n, p in named.items() if "norm" in n and n.endswith("bias")]
        first = {"lr": rate["shifts"], "weight_decay": rate["shifts decay"]}
        last = {"lr": rate["head"], "weight_decay": rate["head decay"]}
        self.sgd = torch.optim.SGD(
            [{"params": [self.bias], **first}, {"params": shifts, **first},
             {"params": [self.net.head.weight], **last}],
            momentum=speed_recipe.MOMENTUM, nesterov=True, fused=True,
        )  # fmt: skip
        self.muon = Muon([p for n, p in named.items() if "conv" in n], rate["filters"])
        groups = (*self.sgd.param_groups, *self.muon.param_groups)
        self.first = [(group, group["lr"]) for group in groups]
        mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (CIFAR10_MEAN, CIFAR10_STD))
        self.scale, self.shift = 1 / (255 * std), mean / std
        self.loss: Callable = torch.compile(self._loss) if compiled else self._loss

    def _loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        x = (images.float() * self.scale - self.shift).contiguous(memory_format=torch.channels_last)
        return F.cross_entropy(self.net(x), labels, label_smoothing=speed_recipe.SMOOTHING)

    def step(self, images: np.ndarray, labels: np.ndarray, number: int, steps: int) -> float:
        """One step of so many; gives the loss."""
        bias_steps = steps * self.length.bias_epochs // self.length.epochs
        self.bias.requires_grad = number < bias_steps
        for i, (group, rate) in enumerate(self.first):
            group["lr"] = rate * share_left(number, steps if i else bias_steps)
        loss = self.loss(torch.from_numpy(images), torch.from_numpy(labels))
        loss.backward()
        for optimizer in (self.sgd, self.muon):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss.item()


def main() -> None:
    """Some steps of a training: an order in JSON, losses and seconds in a file."""
    order = json.loads(sys.argv[1])
    torch.set_num_threads(order["threads"])
    length = LENGTHS[order["length"]]
    with np.load(order["start"]) as file:
        training = Training(length, dict(file), order["compiled"])
    loader = loader_of(load_cifar10(True, order["folder"], as_bytes=True), length, order["seed"])
    steps, losses, times = length.epochs * len(loader), list[float](), list[float]()
    for images, labels in loader:
        began = time.perf_counter()
        losses.append(training.step(images, labels, len(losses), steps))
        times.append(time.perf_counter() - began)
        if len(losses) == order["steps"]:
            break
    found = {"losses": losses, **step_seconds(times)}
    Path(order["out"]).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
