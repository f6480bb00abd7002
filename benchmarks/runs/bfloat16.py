"""Does training in bfloat16 reach float32's accuracy, on digits, on pictures and on text?

The same network from the same weights over the same batches, with `precision="float32"` and
`"bf16"`: a CNN on MNIST, a CNN on CIFAR-10, and a GPT over the characters of Shakespeare (Kalamkar
et al. 2019, https://arxiv.org/abs/1905.12322: bfloat16 needs neither scaling nor other rates). The
lower bound is one-sided: bfloat16 may turn out better.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np

import tinytorch as tt
from benchmarks import learning
from benchmarks.learning import Arrays
from benchmarks.record import Record
from tinytorch import nn
from tinytorch.data import load_cifar10, load_tiny_shakespeare
from tinytorch.models import CNN, GPT, GPTConfig

ARCHIVE = ""
PRECISIONS = ("float32", "bf16")
SEEDS = (0, 1)
FULL = {"SEEDS": tuple(range(8))}
PICTURES = {
    "MNIST": {"widths": (32, 64), "epochs": 2, "batch": 128, "rate": 3e-3},
    "CIFAR-10": {"widths": (32, 64), "epochs": 4, "batch": 128, "rate": 3e-3},
}
TEXT = {"layers": 4, "heads": 4, "size": 128, "length": 128, "windows": 20_000, "batch": 32,
        "rate": 2e-3}  # fmt: skip
TEST_WINDOWS = learning.TEST_BATCH


class _Positions(nn.Module):
    """A GPT as a classifier of positions: tokens (B, T) -> logits (B, V, T)."""

    def __init__(self, vocabulary: int):
        self.gpt = GPT(GPTConfig(vocabulary, TEXT["layers"], TEXT["heads"], TEXT["size"],
                                 TEXT["length"]))  # fmt: skip

    def forward(self, tokens: tt.Tensor) -> tt.Tensor:
        return self.gpt(tokens).permute(0, 2, 1)


def run(folder: Path, log: Path) -> dict:
    """Three data sets, two precisions, every seed."""
    record = Record(log, "Does training in bfloat16 reach float32's accuracy?", {
        "pictures": PICTURES, "text": TEXT, "seeds": SEEDS, "optimizer": "AdamW, half a cosine",
    })  # fmt: skip
    for name, load in (("MNIST", learning.mnist), ("CIFAR-10", _cifar)):
        given, data = PICTURES[name], (load(folder, "train"), load(folder, "test"))
        channels, side = data[0][0].shape[1:3]
        found = _trained(
            record, name, data, given,
            lambda c=channels, s=side, w=given["widths"]: CNN(s, c, widths=w),
        )  # fmt: skip
        right = {p: float(np.mean([row["test_accuracy"] for row in found[p]])) for p in PRECISIONS}
        # three deviations of the difference of two shares of `n` test pictures each
        n = len(data[1][1]) * len(SEEDS)
        bound = 3 * math.sqrt(2 * right["float32"] * (1 - right["float32"]) / n)
        text = f"{100 * right['bf16']:.2f} % for {100 * right['float32']:.2f} %"
        record.claim(f"{name}: bfloat16 reaches float32's accuracy", "Kalamkar et al. 2019",
                     f"{text}, up to {100 * bound:.2f} points",
                     right["bf16"] >= right["float32"] - bound)  # fmt: skip
    data, vocabulary = _shakespeare(folder)
    found = _trained(record, "Shakespeare", data, TEXT | {"epochs": 1},
                     lambda: _Positions(vocabulary))  # fmt: skip
    loss = {p: [row["test_loss"] for row in found[p]] for p in PRECISIONS}
    # three deviations of the mean, from what seeds alone change
    bound = 3 * float(np.std(loss["float32"], ddof=1)) / math.sqrt(len(SEEDS))
    mine, theirs = (float(np.mean(loss[p])) for p in ("bf16", "float32"))
    record.claim("Shakespeare: bfloat16 reaches float32's loss", "Kalamkar et al. 2019",
                 f"{mine:.4f} for {theirs:.4f} nats a character, up to {bound:.4f}",
                 mine <= theirs + bound)  # fmt: skip
    return record.keep()


def _trained(
    record: Record, name: str, data: tuple[Arrays, Arrays], given: dict,
    make: Callable[[], nn.Module],
) -> dict[str, list[dict]]:  # fmt: skip
    """The last row of every training, by precision."""
    found: dict[str, list[dict]] = {precision: [] for precision in PRECISIONS}
    for seed in SEEDS:
        for precision in PRECISIONS:
            tt.manual_seed(seed)
            model = make()
            optimizer = tt.optim.AdamW(model.parameters(), lr=given["rate"])
            rows = learning.learn(
                model, optimizer, *data, epochs=given["epochs"], batch=given["batch"], seed=seed,
                cool=learning.half_cosine, precision=precision,
            )  # fmt: skip
            answers = data[1][1][0].size  # a picture has one, a window of text one a position
            last = rows[-1] | {"test_accuracy": rows[-1]["test_accuracy"] / answers}
            found[precision].append(last)
            record.row(data=name, precision=precision, seed=seed, **last)
    return found


def _cifar(folder: Path, split: str) -> Arrays:
    data = load_cifar10(split == "train", folder / "cifar-10-batches-bin")
    return data.take(np.arange(len(data)))


def _shakespeare(folder: Path) -> tuple[tuple[Arrays, Arrays], int]:
    """Windows of the first nine tenths, of the last tenth for the test, and the vocabulary."""
    text = load_tiny_shakespeare(folder / "text")
    letters = sorted(set(text))
    numbers = np.searchsorted(np.array(letters), np.array(list(text)))
    split, length = len(numbers) * 9 // 10, TEXT["length"]
    begins = np.random.default_rng(0).integers(0, split - length - 1, TEXT["windows"])
    later = split + np.arange(TEST_WINDOWS) * ((len(numbers) - split - length - 1) // TEST_WINDOWS)

    def windows(begins: np.ndarray) -> Arrays:
        at = begins[:, None] + np.arange(length)
        return numbers[at], numbers[at + 1]

    return (windows(begins), windows(later)), len(letters)
