"""What do nine tenths of the weights being 0 cost in accuracy, and what do they gain?

CIFAR-10: the network that comes trained loses its smallest weights by a cubic schedule, while it is
trained on with what a ResNet-20 thinks of each picture. Training is checkpointed after each epoch
beside the record: the same command goes on. Products: a sparse matrix and the same one with all its
zeros, compiled, frozen, in turns; then a convolution as windows times its sparse filters.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import tinytorch as tt
from benchmarks.learning import TEST_BATCH, as_numbers
from benchmarks.record import Record
from tinytorch import compression, models, nn
from tinytorch.compression.replaced import weights_of
from tinytorch.data import ArrayDataset, DataLoader, load_cifar10
from tinytorch.nn.module import Module
from tinytorch.optim import AdamW, OneCycleLR
from tinytorch.storage import safetensors
from tinytorch.tensor.assignment import as_given
from tinytorch.tensor.sparse import compressed_rows, sparse_linear
from tinytorch.training import Trainer
from tinytorch.training.history import PlainLines

ARCHIVE = ""
TEACHER = "resnet-cifar10/resnet20-12fca82f.safetensors"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what the teacher was trained with
SPARSITY, EPOCHS, BATCH, RATE, SEED = 0.9, 18, 128, 5e-3, 0
GROWS = 0.4  # part of the steps in which masks grow; the rest trains what is left
TEMPERATURE, ALPHA = 4.0, 0.9
IMAGES = 50_000
SIZES = ((128, 128), (256, 256), (256, 784), (512, 512), (1024, 1024), (4096, 4096))
SPARSITIES, BATCHES = (0.8, 0.9, 0.95), (1, 64)
SECONDS = 0.3  # of each pair of products
ALLOWED_POINTS, ALLOWED_BYTES = 1.5, 0.15  # row "90 % unstructured sparsity"


def run(folder: Path, log: Path) -> dict:
    """Products first, then the training that takes minutes."""
    record = Record(log, "What do nine tenths of zeros cost in accuracy, and what do they gain?", {
        "sparsity": SPARSITY, "epochs": EPOCHS, "batch": BATCH, "rate": RATE, "seed": SEED,
        "part of the steps in which masks grow": GROWS, "temperature": TEMPERATURE, "alpha": ALPHA,
        "images": IMAGES, "optimizer": "AdamW, one cycle",
    })  # fmt: skip
    _products(record)
    _accuracy(record, folder, log.with_name(log.name.partition(".")[0] + ".checkpoints"))
    return record.keep()


# accuracy


def _accuracy(record: Record, folder: Path, place: Path) -> None:
    images, labels = _arrays(folder, "train", IMAGES)
    test = _arrays(folder, "test")
    before = models.pretrained("cifar10")
    small = pruned(before, _with_opinions(images, labels, folder, place), place)
    stored = compression.store_sparse(small)
    points = [100 * _right(m, test) for m in (before, stored)]
    sizes = [
        [w.size * 4 for _, _, w in weights_of(before)],
        [_bytes(w) for _, _, w in weights_of(stored)],
    ]
    for name, _, weight in weights_of(small):
        record.row(weight=name, places=weight.size, kept=1 - weight.sparsity)
    record.row(dense=points[0], sparse=points[1], sparsity=compression.sparsity_of(small))
    lost, part = points[0] - points[1], sum(sizes[1]) / sum(sizes[0])
    asked, found = "what was asked", f"{points[0]:.2f} to {points[1]:.2f} %, one seed"
    record.claim("90 % zeros cost at most 1.5 points", asked, found, lost <= ALLOWED_POINTS)
    found = f"{100 * part:.1f} % of the bytes of its weights"
    record.claim("stored they take at most 15 %", asked, found, part <= ALLOWED_BYTES)


def pruned(model: Module, train: tuple[np.ndarray, np.ndarray], place: Path) -> Module:
    """A copy of a model, most of its weights 0, trained on.

    Args:
        model: as it was.
        train: pictures, and for each the teacher's logits and the label behind them.
        place: folder of checkpoints.
    """
    tt.manual_seed(SEED)
    small = compression.prune(model, 0.0).train()
    steps = EPOCHS * (len(train[0]) // BATCH)
    optimizer = AdamW(small.parameters(), lr=RATE)
    trainer = Trainer(
        small, optimizer, loss=_taught, metrics={}, schedule_every="step",
        schedule=OneCycleLR(optimizer, RATE, steps, pct_start=0.1),
        callbacks=[compression.Pruning(SPARSITY, end=max(1, int(GROWS * steps)))],
        progress=PlainLines(),
    )  # fmt: skip
    loader = DataLoader(ArrayDataset(*train), BATCH, shuffle=True, drop_last=True, seed=SEED)
    trainer.train(loader, EPOCHS, checkpoint=place / "training", resume=True)
    return small.eval()


def _taught(output: tt.Tensor, target: tt.Tensor) -> tt.Tensor:
    """The loss of distillation; the label lies behind the teacher's logits."""
    label = target[:, -1].astype("int64")
    return compression.distillation_loss(output, target[:, :-1], label, TEMPERATURE, ALPHA)


def _with_opinions(
    images: np.ndarray, labels: np.ndarray, folder: Path, place: Path
) -> tuple[np.ndarray, np.ndarray]:
    """The pictures, and for each what the teacher thinks of it, and its label, one array."""
    kept = place / f"opinions-{len(images)}.safetensors"
    if not kept.exists():
        place.mkdir(parents=True, exist_ok=True)
        teacher = models.resnet20()
        teacher.load_state_dict(safetensors.load(folder / TEACHER))
        mean, std = (np.array(x, np.float32).reshape(1, 3, 1, 1) for x in (MEAN, STD))
        logits = _answers(teacher.eval(), (images - mean) / std)
        safetensors.save(kept, {"logits": tt.Tensor(logits)})
    logits = as_given(safetensors.load(kept)["logits"]).numpy()
    return images, np.concatenate([logits, labels[:, None].astype(np.float32)], axis=1)


def _arrays(folder: Path, part: str, count: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    data = load_cifar10(part == "train", folder)
    images, labels = data.take(np.arange(count or len(data)))
    return as_numbers(images), labels


def _answers(model: Module, images: np.ndarray) -> np.ndarray:
    program = tt.compile(model, freeze=True)
    with tt.no_grad():
        parts = [
            program(tt.Tensor(images[i : i + TEST_BATCH])).numpy()
            for i in range(0, len(images), TEST_BATCH)
        ]
    return np.concatenate(parts)


def _right(model: Module, test: tuple[np.ndarray, np.ndarray]) -> float:
    return float((_answers(model, test[0]).argmax(1) == test[1]).mean())


def _bytes(weight: object) -> int:
    return weight.nbytes if isinstance(weight, nn.SparseWeight) else 4 * weight.size


# products


def _products(record: Record) -> None:
    gains: dict[tuple, float] = {}
    for n, k in SIZES:
        for sparsity in SPARSITIES:
            draw = np.random.default_rng(n)
            w = draw.standard_normal((n, k), np.float32) * (draw.random((n, k)) >= sparsity)
            for m in BATCHES:
                x = tt.Tensor(draw.standard_normal((m, k), np.float32))
                sparse, dense = _in_turns(_of_numbers(w), _of_all(w), x)
                gains[n, k, sparsity, m] = dense / sparse
                record.row(n=n, k=k, sparsity=sparsity, batch=m, sparse_us=sparse, dense_us=dense,
                           times=dense / sparse)  # fmt: skip
    _convolutions(record)
    for m in BATCHES:
        large = {key: g for key, g in gains.items() if key[3] == m and key[2] == SPARSITY}
        text = ", ".join(f"{n} x {k} {g:.2f}" for (n, k, *_), g in large.items())
        record.claim(
            f"a linear layer of 90 % zeros is faster, batch {m}", "what was asked",
            f"times as fast as dense: {text}", all(g > 1 for g in large.values()),
        )  # fmt: skip


def _of_numbers(w: np.ndarray) -> Callable:
    """x @ w.T by the numbers that are not 0, whether it is said to pay or not."""
    columns, starts = compressed_rows(tt.Tensor(np.flatnonzero(w)), w.shape)
    values = tt.Tensor(w[w != 0])
    return lambda x: sparse_linear(x, values, columns, starts)


def _of_all(w: np.ndarray) -> Callable:
    weight = tt.Tensor(w)
    return lambda x: x @ weight.T


def _convolutions(record: Record) -> None:
    """Of one pixel, as a linear layer of each; of 3 x 3, as windows times the filters."""
    for size, filters, side, kernel, count in ((256, 1024, 14, 1, 1), (64, 64, 16, 3, 16)):
        draw = np.random.default_rng(0)
        shape = (filters, size * kernel**2)
        w = draw.standard_normal(shape, np.float32) * (draw.random(shape) >= SPARSITY)
        dense = nn.Conv2d(size, filters, kernel, padding=kernel // 2, bias=False)
        dense.weight = tt.Tensor(w.reshape(filters, size, kernel, kernel))
        x = tt.Tensor(draw.standard_normal((count, size, side, side), np.float32))
        sparse_us, dense_us = _in_turns(_of_windows(_of_numbers(w), kernel), dense, x)
        name = f"{size} to {filters} channels, {kernel} x {kernel}, {count} of {side} x {side}"
        record.row(convolution=name, sparse_us=sparse_us, dense_us=dense_us,
                   times=dense_us / sparse_us)  # fmt: skip


def _of_windows(linear: Callable, kernel: int) -> Callable:
    """Each tap of a window beside the others, (N, H W, C taps), times the filters."""

    def product(x: tt.Tensor) -> tt.Tensor:
        n, c, h, w = x.shape
        edge = (0, 0, kernel // 2, kernel // 2)
        wide = tt.pad(x, edge, edge) if kernel > 1 else x
        taps = [wide[:, :, i : i + h, j : j + w] for i in range(kernel) for j in range(kernel)]
        windows = tt.stack(taps, 2).reshape(n, c * kernel**2, h * w)
        return linear(windows.permute(0, 2, 1)).permute(0, 2, 1).reshape(n, -1, h, w)

    return product


def _in_turns(first: Callable, second: Callable, x: tt.Tensor) -> tuple[float, float]:
    """Microseconds of a call of each, compiled: medians of turns."""
    calls = [tt.compile(f, freeze=True) for f in (first, second)]
    times: list[list[float]] = [[], []]
    with tt.no_grad():
        for call in calls:
            call(x)
        end = time.perf_counter() + SECONDS
        while time.perf_counter() < end or len(times[0]) < 5:
            for call, taken in zip(calls, times, strict=True):
                begin = time.perf_counter()
                call(x)
                taken.append(time.perf_counter() - begin)
    a, b = (1e6 * float(np.median(taken)) for taken in times)
    return a, b
