"""How well does a small detector find digits in scenes, whole and as a tenth of its bytes?

Scenes are made of MNIST's pictures (`data.Scenes`), test scenes of its test pictures. A TinyYOLO is
trained, channels are removed until it takes at most a tenth of the bytes, it is trained on, and its
weights become bytes. Mean average precision as COCO counts it; pictures a second of a C program on
one thread, for AVX2 and, emulated, for aarch64, and of Python with all that makes boxes of an
answer. The founding documents ask for 30 pictures a second on a Raspberry Pi, which is not here.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np

import tinytorch as tt
from benchmarks.record import Record
from benchmarks.runs.native import measured
from tinytorch import compression, inspection
from tinytorch.data import ArrayDataset, DataLoader, Scenes, load_mnist
from tinytorch.models import TinyYOLO, yolo_boxes, yolo_detections, yolo_loss
from tinytorch.nn.boxes import box_iou
from tinytorch.nn.module import Module
from tinytorch.training import MeanAveragePrecision, Trainer
from tinytorch.training.history import PlainLines

ARCHIVE = ""
SIZE, SCENES, TEST_SCENES = 64, 6000, 1000
EPOCHS, FINE_EPOCHS, BATCH, RATE, FINE_RATE = 8, 20, 64, 0.01, 0.005
# Of each convolution, what goes: a tenth of the weights in all, numbers of channels that fill
# vectors of eight, and most of it in the last layers, which have most of the weights.
REMOVED = {"features.0": 0.5, "features.4": 0.5, "features.8": 0.625, "features.12": 0.75,
           "features.16": 0.6875}  # fmt: skip
CALIBRATION, SEED, SHOWN = 256, 0, 12
MOST_BYTES, LEAST_FRAMES = 0.1, 30.0
DOCUMENTS = "the founding documents"
FRAMES, EMULATED_FRAMES = 300, 20
ARM_COMPILER, ARM_EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64-static"
GROUND = 0.1  # so that scenes are seen apart
GREY, GREEN, RED = (0.35, 0.35, 0.6), (0.1, 0.9, 0.2), (1.0, 0.2, 0.1)
FULL = {"SCENES": 40000, "EPOCHS": 15, "FINE_EPOCHS": 15}

Arrays = tuple[np.ndarray, ...]


def run(folder: Path, log: Path) -> dict:
    """Train, prune, train on, round, measure each, draw."""
    record = Record(log, "How well does a small detector find digits, whole and as a tenth?", {
        "scene": SIZE, "scenes": SCENES, "test scenes": TEST_SCENES, "epochs": EPOCHS,
        "epochs after pruning": FINE_EPOCHS, "batch": BATCH, "rate": RATE, "rate after": FINE_RATE,
        "removed": REMOVED, "optimizer": "AdamW, one cycle", "seed": SEED,
    })  # fmt: skip
    train, test = (
        Scenes(load_mnist(split, folder), count, SIZE, seed=SEED).take(np.arange(count))
        for split, count in (("train", SCENES), ("test", TEST_SCENES))
    )
    tt.manual_seed(SEED)
    model, picture = TinyYOLO(), tt.Tensor(train[0][:1])
    _learn(model, train, EPOCHS, RATE)
    rows = [_note(record, "trained", model, test)]
    small = compression.prune_channels(model, picture, REMOVED)
    _note(record, "pruned", small, test)
    _learn(small, train, FINE_EPOCHS, FINE_RATE)
    rows.append(_note(record, "pruned, trained on", small, test))
    folded = compression.fold_batch_norm(small, picture)
    byte = compression.quantize(folded, calibration=[tt.Tensor(train[0][:CALIBRATION])])
    rows.append(_note(record, "pruned, trained on, int8", byte, test))
    networks = {"trained": model, "pruned": folded, "pruned, int8": byte}
    _speed(record, networks, test[0][:1])
    _claims(record, rows)
    inspection.save_figure(record.picture(), drawn(byte, test))
    return record.keep()


def _learn(model: Module, train: Arrays, epochs: int, rate: float) -> None:
    loader = DataLoader(ArrayDataset(*train), BATCH, shuffle=True, drop_last=True, seed=SEED)
    optimizer = tt.optim.AdamW(model.train().parameters())
    schedule = tt.optim.OneCycleLR(optimizer, rate, epochs * len(loader))
    trainer = Trainer(model, optimizer, yolo_loss, schedule=schedule, schedule_every="step",
                      progress=PlainLines())  # fmt: skip
    trainer.train(loader, epochs)
    model.eval()


def found(model: Module, pictures: np.ndarray, score: float = 0.01) -> list[dict]:
    """The boxes that a network finds; for a curve of precision unsure ones count too."""
    program = tt.compile(model, freeze=True)
    with tt.no_grad():
        answers = (program(tt.Tensor(pictures[i : i + 100])) for i in range(0, len(pictures), 100))
        return [box for answer in answers for box in yolo_detections(answer, SIZE, score)]


def _note(record: Record, name: str, model: Module, test: Arrays) -> dict:
    metric = MeanAveragePrecision()
    metric.update(found(model.eval(), test[0]), yolo_boxes(test[1], SIZE))
    result = metric.compute()
    row = {
        "model": name, "bytes": compression.bytes_of(model), "map_50": result["map_50"],
        "map_50_95": result["map"], "map_75": result["map_75"],
        "flop": compression.flops_of(model, tt.Tensor(test[0][:1])),
    }  # fmt: skip
    record.row(**row)
    return row


def _speed(record: Record, networks: dict[str, Module], picture: np.ndarray) -> None:
    """Pictures a second, one at a time, on one thread."""
    for name, model in networks.items():
        program = tt.compile(model, target="avx2", threads=1, freeze=True)
        x, times = tt.Tensor(picture), []
        with tt.no_grad():
            for _ in range(FRAMES):
                began = time.perf_counter()
                yolo_detections(program(x), SIZE, 0.5)
                times.append(time.perf_counter() - began)
        there = measured(model, "avx2", picture)
        row = {
            "model": name, "avx2_frames": 1e3 / there["median_ms"], "library_mb": there["file_mb"],
            "process_mb": there["process_mb"], "python_frames": 1 / float(np.median(times)),
        }  # fmt: skip
        if shutil.which(ARM_COMPILER) and shutil.which(ARM_EMULATOR):
            arm = measured(model, "aarch64", picture, (ARM_COMPILER, "-static"), (ARM_EMULATOR,),
                           EMULATED_FRAMES)  # fmt: skip
            row["emulated_aarch64_frames"] = 1e3 / arm["median_ms"]
        record.row(**row)


def _claims(record: Record, rows: list[dict]) -> None:
    whole, pruned, byte = rows
    share = pruned["bytes"] / whole["bytes"]
    record.claim(
        "pruned to at most 10 % of the bytes", DOCUMENTS,
        f"{whole['bytes']:,} to {pruned['bytes']:,} bytes, {100 * share:.1f} %; as int8 "
        f"{100 * byte['bytes'] / whole['bytes']:.1f} %; mAP at 0.5 {whole['map_50']:.3f} to "
        f"{pruned['map_50']:.3f}, int8 {byte['map_50']:.3f}; at 0.5 to 0.95 "
        f"{whole['map_50_95']:.3f}, {pruned['map_50_95']:.3f}, {byte['map_50_95']:.3f}",
        share <= MOST_BYTES,
    )  # fmt: skip
    fast = [row for row in record.rows if "avx2_frames" in row][-1]
    said = f"{fast['model']}: {fast['avx2_frames']:,.0f} in C"
    said += f", {fast['python_frames']:,.0f} in Python with the boxes"
    if "emulated_aarch64_frames" in fast:
        said += f"; {fast['emulated_aarch64_frames']:.0f} in C for aarch64 emulated by qemu, which "
        said += "translates every instruction: no measure of a Pi"
    record.claim(f"{LEAST_FRAMES:g} pictures a second on one thread of AVX2",
                 f"{DOCUMENTS}, of a Pi", said, fast["python_frames"] >= LEAST_FRAMES)  # fmt: skip


def drawn(model: Module, test: Arrays) -> np.ndarray:
    """Some test scenes: what is there in grey, what was found in green, or red where it is not."""
    scale, sheets = 3, []
    known = yolo_boxes(test[1][:SHOWN], SIZE)
    for picture, boxes, truth in zip(
        test[0][:SHOWN], found(model, test[0][:SHOWN], 0.5), known, strict=True
    ):
        scene = np.maximum(picture, GROUND).repeat(scale, 1).repeat(scale, 2).repeat(3, 0)
        for box in truth["boxes"].numpy():
            _frame(scene, box * scale, GREY)
        overlap = box_iou(boxes["boxes"], truth["boxes"]).numpy()
        same = boxes["labels"].numpy()[:, None] == truth["labels"].numpy()
        for box, right in zip(
            boxes["boxes"].numpy(), (same & (overlap >= 0.5)).any(1), strict=True
        ):
            _frame(scene, box * scale, GREEN if right else RED)
        sheets.append(scene)
    return inspection.sheet(np.stack(sheets), columns=4, gap=2)


def _frame(scene: np.ndarray, box: np.ndarray, colour: tuple[float, float, float]) -> None:
    """Draw the edge of a box into (3, H, W)."""
    high = np.array(scene.shape[:0:-1]) - 1
    (x1, y1), (x2, y2) = (np.clip(p.round().astype(int), 0, high) for p in (box[:2], box[2:]))
    for part in (
        scene[:, y1, x1 : x2 + 1], scene[:, y2, x1 : x2 + 1], scene[:, y1 : y2 + 1, x1],
        scene[:, y1 : y2 + 1, x2],
    ):  # fmt: skip
        part[:] = np.array(colour)[:, None]
