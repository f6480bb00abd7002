"""The recipe of the quick CIFAR-10 training in three lengths, and a training by it, timed.

What public speedruns know (sources in `tinytorch/models/whitened.py`): whitened patches, filters
that hand on, Muon for filters of constant length, Nesterov for the rest with more rate for shifts
and the last layer, labels smoothed, rates that fall in a line, images mirrored in turns and moved
by two pixels, views at test time. Knows both sides' settings; the peer's program is in
`peer_speed_recipe.py`.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tinytorch as tt
from tinytorch.data import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    AlternatingFlip,
    Compose,
    DataLoader,
    RandomCrop,
    load_cifar10,
)
from tinytorch.models import WhitenedCNN
from tinytorch.nn import functional as F
from tinytorch.training import mean_over_views

# airbench94_muon.py: rates for a batch of 2,000 pictures. Muon's falls with the root of the batch,
# since its steps have one length whatever the gradient's noise; those of SGD are for a sum over
# pictures. The last layer's is for 256 channels: with fewer the same step moves logits further.
MUON_RATE, MUON_BATCH, MUON_MOMENTUM, MUON_STEPS = 0.24, 2000, 0.6, 3
SHIFT_RATE, HEAD_RATE, HEAD_CHANNELS, MOMENTUM = 0.053, 0.67, 256, 0.85
DECAY, SMOOTHING = 2e-6, 0.2  # weight decay for each picture of a batch
MOVED, PATCHED, TEST_BATCH = 2, 1000, 500  # pixels; pictures that the first filters are made from


@dataclass(frozen=True)
class Length:
    """How large the network is and how long it learns.

    Args:
        asked: test accuracy in percent.
        within: seconds from raw files to it.
        widths: channels of the three groups.
        epochs: passes over the training part.
        batch: pictures in a step.
        bias_epochs: passes in which the shift of the patches learns; then its gradient, which is
            that of the largest images, is left out.
        shift: pixels by which pictures are moved at test time.
    """

    asked: float
    within: float
    widths: tuple[int, int, int]
    epochs: int
    batch: int = 500
    bias_epochs: int = 0
    shift: int = 0


LENGTHS = {
    "small": Length(75.0, 60.0, (16, 64, 64), 2),
    "middle": Length(90.0, 300.0, (32, 128, 128), 5),
    "large": Length(94.0, 1500.0, (64, 256, 256), 8, bias_epochs=3, shift=1),
}


def rates(length: Length) -> dict[str, float]:
    """First rates: of the shift of patches and of norms, of the last layer, of Muon; and the decay
    that goes with the first two, for losses that are means."""
    shifts = SHIFT_RATE * length.batch
    head = HEAD_RATE * length.batch * length.widths[-1] / HEAD_CHANNELS
    decay = DECAY * length.batch
    return {"shifts": shifts, "head": head, "shifts decay": decay / shifts,
            "head decay": decay / head,
            "filters": MUON_RATE * math.sqrt(length.batch / MUON_BATCH)}  # fmt: skip


def share_left(step: int, of: int) -> float:
    """A rate that falls in a line and ends at 0; 0 from then on."""
    return max(0.0, 1.0 - step / of) if of else 0.0


def as_numbers(images) -> tt.Tensor:
    """Bytes (B, 3, 32, 32) as numbers of mean 0 and deviation 1 in each channel."""
    mean, std = (np.array(x, np.float32).reshape(1, 3, 1, 1) for x in (CIFAR10_MEAN, CIFAR10_STD))
    return tt.asarray(images).astype("float32") * tt.Tensor(1 / (255 * std)) - tt.Tensor(mean / std)


class Training:
    """A network, its optimizers and its compiled step.

    Args:
        length: which.
        images: training pictures as bytes, from which the first filters are made.
        seed: of the weights.
        compiled: False runs NumPy.
    """

    def __init__(self, length: Length, images: np.ndarray, seed: int, compiled: bool = True):
        tt.manual_seed(seed)
        self.length = length
        self.net = net = WhitenedCNN(length.widths)
        net.whiten_from(as_numbers(tt.Tensor(images[:PATCHED])))
        named, rate = dict(net.named_parameters()), rates(length)
        self.bias = named["whiten.bias"]
        shifts = [p for n, p in named.items() if "norm" in n and n.endswith("bias")]
        filters = [p for n, p in named.items() if "conv" in n]
        first = {"lr": rate["shifts"], "weight_decay": rate["shifts decay"]}
        last = {"lr": rate["head"], "weight_decay": rate["head decay"]}
        self.sgd = tt.optim.SGD(
            [{"params": [self.bias], **first}, {"params": shifts, **first},
             {"params": [net.head.weight], **last}],
            momentum=MOMENTUM, nesterov=True,
        )  # fmt: skip
        self.muon = tt.optim.Muon(filters, rate["filters"], 0.0, MUON_MOMENTUM, True, MUON_STEPS)
        self.first = [(g, g["lr"]) for g in (*self.sgd.groups, *self.muon.groups)]

        def step(images, labels):
            logits, labels = net(as_numbers(images)), tt.asarray(labels)
            loss = F.cross_entropy(logits, labels, label_smoothing=SMOOTHING)
            loss.backward()
            tt.optim.renorm_(filters)
            for optimizer in (self.sgd, self.muon):
                optimizer.step()
                optimizer.zero_grad()
            return loss.detach()

        def predict(images):
            with tt.no_grad():
                return net(as_numbers(images))

        through = tt.compile if compiled else (lambda function: function)
        self.step, self.predict = through(step), through(predict)

    def set_rates(self, step: int, steps: int) -> None:
        """Those of a step of a training of so many."""
        bias_steps = steps * self.length.bias_epochs // self.length.epochs
        self.bias.requires_grad = step < bias_steps
        for i, (group, rate) in enumerate(self.first):
            group.set_rate(rate * share_left(step, steps if i else bias_steps))

    def accuracy(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
        """Right answers in percent: of the pictures alone, and of all their views."""
        self.net.eval()
        right, by_views = 0, 0
        for i in range(0, len(images), TEST_BATCH):
            part, wanted = images[i : i + TEST_BATCH], labels[i : i + TEST_BATCH]
            answers = list[np.ndarray]()

            def asked(view: np.ndarray, answers: list[np.ndarray] = answers) -> np.ndarray:
                answers.append(self.predict(view).numpy())
                return answers[-1]

            found = mean_over_views(asked, part, self.length.shift)
            by_views += int((found.argmax(1) == wanted).sum())
            right += int((answers[0].argmax(1) == wanted).sum())  # the first view is the picture
        self.net.train()
        return 100 * right / len(images), 100 * by_views / len(images)


def loader_of(train, length: Length, seed: int) -> DataLoader:
    """Whole batches in a new order each pass, mirrored in turns and moved."""
    transform = Compose([AlternatingFlip(seed), RandomCrop(32, MOVED, "reflect")])
    return DataLoader(
        train, length.batch, shuffle=True, seed=seed, drop_last=True, transform=transform
    )


def learn(
    folder: Path, length: Length, seed: int, most_steps: int = 0,
    told: Callable[..., None] = lambda **_: None,
) -> dict:  # fmt: skip
    """Train from raw files on; the clock runs from here to the accuracy.

    Args:
        folder: of the data set.
        length: which.
        seed: of weights and order.
        most_steps: end there, without a test; 0: all of them.
        told: given the numbers of each epoch.

    Returns:
        seconds of each part, the losses, both accuracies.
    """
    marks, times = [time.perf_counter()], list[float]()
    train = load_cifar10(True, folder, as_bytes=True)
    images, labels = load_cifar10(False, folder, as_bytes=True).take(np.arange(10_000))
    marks.append(time.perf_counter())
    training = Training(length, train.take(np.arange(PATCHED))[0], seed)
    loader = loader_of(train, length, seed)
    steps, losses = length.epochs * len(loader), list[float]()
    marks.append(time.perf_counter())
    for epoch in range(length.epochs):
        for batch in loader:
            began = time.perf_counter()
            training.set_rates(len(losses), steps)
            losses.append(training.step(*batch).item())
            times.append(time.perf_counter() - began)
            if len(losses) == most_steps:
                return {"losses": losses, **step_seconds(times)}
        told(epoch=epoch + 1, loss=losses[-1], seconds=time.perf_counter() - marks[0])
    marks.append(time.perf_counter())
    plain, by_views = training.accuracy(images, labels)
    marks.append(time.perf_counter())
    parts = dict(zip(("read", "prepare", "train", "test"), np.diff(marks).tolist(), strict=True))
    return {"seed": seed, "steps": len(losses), "losses": losses, "accuracy": by_views,
            "accuracy of the pictures alone": plain, "seconds": marks[-1] - marks[0],
            **step_seconds(times), **parts}  # fmt: skip


def step_seconds(times: list[float]) -> dict[str, float]:
    """Of the first step, which is compiled, and the median."""
    return {"first step": times[0], "step": float(np.median(times))}


def work(length: Length) -> int:
    """Floating-point operations of a training by windows: forward, and both gradients but that of
    pictures, and after `bias_epochs` that of the patches."""
    first = 2 * 4 * 3 * 24 * 32 * 32  # 2 x 2 windows of 3 channels, 24 filters
    widths, side, forward = (24, *length.widths), 32, []
    for before, width in zip(widths[:-1], widths[1:], strict=True):
        forward += [18 * before * width * side**2, 18 * width * width * (side // 2) ** 2]
        side //= 2
    whole = 2 * first + 3 * sum(forward) + 6 * 10 * widths[-1]
    pictures = length.batch * (50_000 // length.batch)
    without = (length.epochs - length.bias_epochs) * (first + forward[0])
    return pictures * (length.epochs * whole - without)


def main() -> None:
    """One training in a process of its own: an order in JSON, what `learn` gives in a file."""
    order = json.loads(sys.argv[1])
    length = LENGTHS[order["length"]]
    start = order.get("start")
    if start is not None:  # what the peer begins with
        train = load_cifar10(True, order["folder"], as_bytes=True)
        net = Training(length, train.take(np.arange(PATCHED))[0], order["seed"]).net
        np.savez(start, **{name: x.numpy() for name, x in net.state_dict().items()})
    found = learn(Path(order["folder"]), length, order["seed"], order.get("steps", 0), _show)
    Path(order["out"]).write_text(json.dumps(found), encoding="utf-8")


def _show(**values: object) -> None:
    print(values, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
