"""The loop that the kept runs share: epochs of a classifier, measured after each.

Knows batches and rates, never which model; each step is one compiled program.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

import tinytorch as tt
from tinytorch.nn import functional as F

TEST_BATCH = 500  # divides the 10,000 test pictures of MNIST and CIFAR-10

Arrays = tuple[np.ndarray, np.ndarray]


def constant(share: float) -> float:
    """The rate stays what it is."""
    return 1.0


def half_cosine(share: float) -> float:
    """1 falling to 0 along half a cosine (Loshchilov, Hutter 2016, https://arxiv.org/abs/1608.03983)."""
    return 0.5 * (1 + math.cos(math.pi * share))


def shuffled(n: int, seed: int, epoch: int) -> np.ndarray:
    """An order of n samples that depends on seed and epoch alone."""
    return np.random.default_rng([seed, epoch]).permutation(n)


def as_numbers(images: np.ndarray) -> np.ndarray:
    """Bytes as float32 in [0, 1]; numbers stay."""
    return images.astype(np.float32) / 255 if images.dtype == np.uint8 else images


class Classifier:
    """A model, its optimizer and their compiled steps.

    Args:
        model: (N, ...) -> logits (N, K).
        optimizer: or several, each over its part of the parameters.
        loss: of (logits, labels).
        precision: "float32" or "bf16".
    """

    def __init__(self, model, optimizer, loss: Callable = F.cross_entropy,
                 precision: str = "float32"):  # fmt: skip
        self.model = model
        self.optimizers = optimizer if isinstance(optimizer, list) else [optimizer]
        self.rates = [each.lr for each in self.optimizers]
        self.steps = 0

        @tt.compile(precision=precision)
        def step(x, y):
            found = loss(model(x), y)
            found.backward()
            for each in self.optimizers:
                each.step()
                each.zero_grad()
            return found.detach()

        @tt.compile(precision=precision)
        def measure(x, y):
            with tt.no_grad():
                logits = model(x)
                right = (logits.argmax(axis=1).astype("int64") == y).astype("float32").sum()
                return right, F.cross_entropy(logits, y)

        self.step, self.measure = step, measure

    def set_rate(self, share: float) -> None:
        """Every optimizer's first rate times `share`."""
        for each, rate in zip(self.optimizers, self.rates, strict=True):
            each.lr = rate * share

    def epoch(
        self,
        data: Arrays,
        batch: int,
        seed: int,
        number: int,
        of: int,
        cool: Callable = constant,
        transform: Callable | None = None,
    ) -> list[float]:
        """One pass over whole batches in a seeded order; the loss of each step."""
        x, y = data
        order, steps = shuffled(len(x), seed, number), len(x) // batch
        rng = np.random.default_rng([seed, number, 1])
        self.model.train()
        losses = []
        for i in range(steps):
            self.set_rate(cool((number + i / steps) / of))
            part = order[i * batch : (i + 1) * batch]
            images = x[part] if transform is None else transform(x[part], rng)
            losses.append(self.step(as_numbers(images), y[part]))
        self.steps += steps
        return [loss.item() for loss in losses]

    def test(self, data: Arrays) -> tuple[float, float]:
        """(share of right answers, mean loss) in evaluation mode."""
        x, y = data
        self.model.eval()
        right, loss = 0.0, 0.0
        for i in range(0, len(x), TEST_BATCH):
            found = self.measure(as_numbers(x[i : i + TEST_BATCH]), y[i : i + TEST_BATCH])
            right += found[0].item()
            loss += found[1].item() * len(x[i : i + TEST_BATCH])
        return right / len(x), loss / len(x)


def learn(model, optimizer, train: Arrays, test: Arrays, *, epochs: int, batch: int, seed: int = 0,
          cool: Callable = constant, transform: Callable | None = None, precision: str = "float32",
          loss: Callable = F.cross_entropy) -> list[dict]:  # fmt: skip
    """Train and measure after each epoch.

    Returns:
        rows with epoch, steps, loss, test_accuracy, test_loss, seconds of training.
    """
    classifier, rows = Classifier(model, optimizer, loss, precision), []
    for number in range(epochs):
        began = time.perf_counter()
        losses = classifier.epoch(train, batch, seed, number, epochs, cool, transform)
        seconds = time.perf_counter() - began
        right, off = classifier.test(test)
        rows.append({
            "epoch": number + 1, "steps": classifier.steps, "loss": float(np.mean(losses)),
            "test_accuracy": right, "test_loss": off, "seconds": round(seconds, 2),
        })  # fmt: skip
    return rows


def mnist(folder, split: str, count: int | None = None) -> Arrays:
    """Images (N, 1, 28, 28) in [0, 1] and labels of MNIST, the first `count` or all."""
    from tinytorch.data import load_mnist

    data = load_mnist(split, folder)
    return data.take(np.arange(len(data) if count is None else count))
