"""What does each way to make a network smaller cost, and what does it gain?

A CNN on MNIST, several seeds, each step on the same trained network: batch norms folded, int8 with
scales on the fly and read off data, trained with rounding; a small student with and without its
teacher, trained alike; weights of the last epochs averaged; the seeds asked together. Accuracy on
all test pictures, bytes, and the time of a compiled call for one picture and for 64.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import tinytorch as tt
from benchmarks.learning import Arrays, mnist
from benchmarks.record import Record
from tinytorch import compression
from tinytorch.data import ArrayDataset, DataLoader
from tinytorch.models import CNN
from tinytorch.nn.module import Module
from tinytorch.optim import AdamW
from tinytorch.optim.schedules import CosineAnnealingLR
from tinytorch.training import Trainer
from tinytorch.training.history import Silent

ARCHIVE = ""
WIDTHS, STUDENT = (16, 32), (2, 4)
IMAGES, EPOCHS, BATCH, RATE = 12000, 6, 128, 3e-3
AWARE_EPOCHS, CALIBRATION, SEEDS = 1, 256, (0, 1, 2)
TEMPERATURE, ALPHA = 4.0, 0.9
AVERAGED = 3  # of the last epochs
TEST_BATCH = 500
FULL = {"IMAGES": 60000, "EPOCHS": 15, "SEEDS": (0, 1, 2, 3, 4)}


def run(folder: Path, log: Path) -> dict:
    """All steps for each seed, then the means."""
    record = Record(log, "What does each way to make a network smaller cost and gain?", {
        "network": WIDTHS, "student": STUDENT, "images": IMAGES, "epochs": EPOCHS, "batch": BATCH,
        "rate": RATE, "epochs with rounding": AWARE_EPOCHS, "calibration images": CALIBRATION,
        "temperature": TEMPERATURE, "alpha": ALPHA, "averaged epochs": AVERAGED, "seeds": SEEDS,
        "optimizer": "AdamW, half a cosine",
    })  # fmt: skip
    train, test = mnist(folder, "train", IMAGES), mnist(folder, "test")
    found: dict[str, list[dict]] = {}
    teachers = []
    for seed in SEEDS:
        steps = one_seed(train, seed)
        teachers.append(steps["trained"])
        for step, model in steps.items():
            _note(record, found, step, seed, model, test)
    _note(record, found, "ensemble of the seeds", None, compression.Ensemble(teachers), test)
    _claims(record, found)
    return record.keep()


def one_seed(train: Arrays, seed: int) -> dict[str, Module]:
    """The network and what each step makes of it, by name."""
    tt.manual_seed(seed)
    model, average = CNN(28, 1, 10, WIDTHS), compression.WeightAverage(EPOCHS - AVERAGED)
    _learn(model, train, seed, [average])
    images = train[0][:CALIBRATION]
    folded = compression.fold_batch_norm(model, tt.Tensor(images[:1]))
    aware = compression.fake_quantize(folded, [images])
    compression.fine_tune(
        aware, _loader(train, seed), AWARE_EPOCHS, lr=RATE / 30, progress=Silent()
    )
    mean = compression.refresh_batch_norm(average.averaged(model), _loader(train, seed))
    alone, taught = (_student(seed) for _ in range(2))
    _learn(alone, train, seed)
    optimizer = AdamW(taught.parameters(), lr=RATE)
    compression.distill(
        taught, model, _loader(train, seed), EPOCHS, temperature=TEMPERATURE, alpha=ALPHA,
        optimizer=optimizer, schedule=_cooling(optimizer), progress=Silent(),
    )  # fmt: skip
    return {
        "trained": model.eval(),
        "folded": folded,
        "int8 on the fly": compression.quantize(folded),
        **{
            f"int8 static, {observer}": compression.quantize(
                folded, calibration=[images], observer=observer
            )
            for observer in ("minmax", "percentile", "mse")
        },
        "int8 static, trained with rounding": compression.quantize(aware),
        "last epochs averaged": mean.eval(),
        "student alone": alone.eval(),
        "student of the teacher": taught.eval(),
        "student of the teacher, int8": compression.quantize(
            compression.fold_batch_norm(taught, tt.Tensor(images[:1])), calibration=[images]
        ),
    }


def _student(seed: int) -> Module:
    tt.manual_seed(1000 + seed)
    return CNN(28, 1, 10, STUDENT)


def _loader(train: Arrays, seed: int) -> DataLoader:
    return DataLoader(ArrayDataset(*train), BATCH, shuffle=True, drop_last=True, seed=seed)


def _cooling(optimizer: AdamW) -> CosineAnnealingLR:
    return CosineAnnealingLR(optimizer, EPOCHS)


def _learn(model: Module, train: Arrays, seed: int, callbacks: list | None = None) -> None:
    optimizer = AdamW(model.parameters(), lr=RATE)
    trainer = Trainer(
        model, optimizer, schedule=_cooling(optimizer), callbacks=callbacks or [], progress=Silent()
    )
    trainer.train(_loader(train, seed), EPOCHS)


def _note(
    record: Record, found: dict, step: str, seed: int | None, model: Module, test: Arrays
) -> None:
    """Accuracy in percent, bytes, milliseconds of one picture and of 64."""
    program = tt.compile(model, freeze=True)
    images, labels = test
    right = 0
    with tt.no_grad():
        for i in range(0, len(images), TEST_BATCH):
            answer = program(tt.Tensor(images[i : i + TEST_BATCH])).numpy().argmax(1)
            right += int((answer == labels[i : i + TEST_BATCH]).sum())
        row = {
            "step": step, "seed": seed, "accuracy": 100 * right / len(images),
            "bytes": compression.bytes_of(model),
            "ms_1": _milliseconds(lambda: program(tt.Tensor(images[:1])), 200),
            "ms_64": _milliseconds(lambda: program(tt.Tensor(images[:64])), 20),
        }  # fmt: skip
    record.row(**row)
    found.setdefault(step, []).append(row)


def _milliseconds(call: Callable[[], object], count: int) -> float:
    """The median of `count` calls."""
    call()
    times = []
    for _ in range(count):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def _claims(record: Record, found: dict[str, list[dict]]) -> None:
    def mean(step: str, what: str = "accuracy") -> float:
        return float(np.mean([row[what] for row in found[step]]))

    asked, n = "what was asked", len(SEEDS)
    plain, static = mean("folded"), "int8 static, mse"
    lost, ratio = plain - mean(static), mean("trained", "bytes") / mean(static, "bytes")
    record.claim(
        "int8 loses at most 0.5 points", asked,
        f"{plain:.2f} to {mean(static):.2f} %; trained with rounding "
        f"{mean('int8 static, trained with rounding'):.2f} %, {n} seeds", lost <= 0.5,
    )  # fmt: skip
    record.claim("int8 takes 3.9 times fewer bytes", asked, f"{ratio:.2f}", ratio >= 3.9)
    faster = [mean("folded", ms) / mean(static, ms) for ms in ("ms_1", "ms_64")]
    record.claim(
        "int8 is twice as fast as float32", asked,
        f"{faster[0]:.2f} times for one picture, {faster[1]:.2f} for 64", min(faster) >= 2,
    )  # fmt: skip
    gains = [
        b["accuracy"] - a["accuracy"]
        for a, b in zip(found["student alone"], found["student of the teacher"], strict=True)
    ]
    record.claim(
        "a student learns more from its teacher than from labels alone", asked,
        f"{mean('student alone'):.2f} to {mean('student of the teacher'):.2f} %, by seed "
        + ", ".join(f"{g:+.2f}" for g in gains), bool(np.mean(gains) > 0),
    )  # fmt: skip
    together = mean("ensemble of the seeds")
    record.claim(
        "models asked together are better than each", "row S4-104",
        f"{mean('trained'):.2f} to {together:.2f} %", together > mean("trained"),
    )  # fmt: skip
