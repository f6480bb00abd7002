"""Does a tenth of ResNet-20, pruned, taught and as bytes, keep 95 % of its accuracy on CIFAR-10?

The challenge "SwiftCNN" of the founding documents, worked: the trained ResNet-20 loses the inner
channels of its blocks (`compression.prune_channels`), what is left is a `models.SwiftCNN` and
learns from the whole network (`compression.distill`), its norms are folded and its weights and
activations become bytes. Size is counted in bytes: parameters and saved buffers of the int8 network
over those of the float32 ResNet-20, and beside it of the two native libraries, code included.

A training that is cut off goes on from its last checkpoint when the run is called again.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np

import tinytorch as tt
from benchmarks.record import Record
from benchmarks.runs.native import measured
from tinytorch import compression, data, models
from tinytorch.nn.module import Module
from tinytorch.storage import safetensors
from tinytorch.training import Checkpoints
from tinytorch.training.history import History, PlainLines

ARCHIVE = ""
WEIGHTS = "resnet-cifar10/resnet20-12fca82f.safetensors"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what the weights were trained with
REMOVED = {  # leaves the widths of SwiftCNN: 8 of 16, 16 of 32, 20 of 64
    f"layer{stage}.{block}.conv1": ratio
    for stage, ratio in ((1, 0.5), (2, 0.5), (3, 0.6875))
    for block in range(3)
}
EPOCHS, BATCH, RATE, MOMENTUM, DECAY = 4, 128, 0.05, 0.9, 5e-4
TEMPERATURE, ALPHA, SEED, CALIBRATION = 4.0, 0.9, 0, 512
TEST_BATCH, PICTURES = 250, 10_000
STATES = Path(tempfile.gettempdir()) / "tinytorch-swift-cnn"  # of a run that is not finished
LEAST_ACCURACY, MOST_BYTES, MOST_MILLISECONDS = 0.95, 0.1, 1.0
DOCUMENTS = "the founding documents"
FULL = {"EPOCHS": 30}


def run(folder: Path, log: Path) -> dict:
    """Prune, teach, round, measure."""
    record = Record(log, "Does a tenth of ResNet-20 keep 95 % of its accuracy?", {
        "removed": sorted(set(REMOVED.values())), "epochs": EPOCHS, "batch": BATCH, "rate": RATE,
        "momentum": MOMENTUM, "decay": DECAY, "temperature": TEMPERATURE, "alpha": ALPHA,
        "optimizer": "SGD (Nesterov), one cycle", "seed": SEED, "calibration": CALIBRATION,
    })  # fmt: skip
    normalize = data.Normalize(MEAN, STD)
    train, test = (data.load_cifar10(part, folder) for part in (True, False))
    pictures, labels = normalize(test.take(np.arange(PICTURES)), data.Stream())
    picture = pictures[:1]
    teacher = models.resnet20().eval()
    teacher.load_state_dict(safetensors.load(folder / WEIGHTS))
    swift = models.SwiftCNN()
    pruned = compression.prune_channels(teacher, tt.Tensor(picture), REMOVED)
    swift.load_state_dict(pruned.state_dict())
    _note(record, "ResNet-20", teacher, pictures, labels)
    _note(record, "pruned", swift.eval(), pictures, labels)
    history = _taught(swift, teacher, train, normalize)
    if history.stopped:
        raise SystemExit("stopped; called again it goes on")
    for row in history:
        record.row(**row)
    _note(record, "SwiftCNN", swift.eval(), pictures, labels)
    shown = normalize(train.take(np.arange(CALIBRATION)), data.Stream())[0]
    folded = compression.fold_batch_norm(swift, tt.Tensor(picture))
    byte = compression.quantize(folded, calibration=[tt.Tensor(shown)])
    _note(record, "SwiftCNN, int8", byte, pictures, labels)
    _claims(record)
    kept = record.keep()
    shutil.rmtree(STATES, ignore_errors=True)
    return kept


def _taught(swift: Module, teacher: Module, train: object, normalize: data.Normalize) -> History:
    """A row for each epoch."""
    changes = data.Compose([data.RandomCrop(32, padding=4), data.RandomFlip(), normalize])
    loader = data.DataLoader(
        train, BATCH, shuffle=True, seed=SEED, drop_last=True, transform=changes, workers=1
    )
    optimizer = tt.optim.SGD(
        swift.train().parameters(), RATE, MOMENTUM, weight_decay=DECAY, nesterov=True
    )
    schedule = tt.optim.OneCycleLR(optimizer, RATE, EPOCHS * len(loader))
    return compression.distill(
        swift, teacher, loader, EPOCHS, temperature=TEMPERATURE, alpha=ALPHA, optimizer=optimizer,
        schedule=schedule, schedule_every="step", progress=PlainLines(), resume=True,
        checkpoint=Checkpoints(STATES, keep=1, every_seconds=30),
    )  # fmt: skip


def _note(
    record: Record, name: str, model: Module, pictures: np.ndarray, labels: np.ndarray
) -> None:
    """Accuracy in percent, bytes, arithmetic, and the native library of this processor."""
    program, right = tt.compile(model, freeze=True), 0
    with tt.no_grad():
        for i in range(0, len(pictures), TEST_BATCH):
            answer = program(tt.Tensor(pictures[i : i + TEST_BATCH])).numpy().argmax(1)
            right += int((answer == labels[i : i + TEST_BATCH]).sum())
    there = measured(model, "host", pictures[:1])
    record.row(
        model=name, accuracy=100 * right / len(pictures), bytes=compression.bytes_of(model),
        flop=compression.flops_of(model, tt.Tensor(pictures[:1])), library_bytes=1e6
        * there["file_mb"], median_ms=there["median_ms"], process_mb=there["process_mb"],
    )  # fmt: skip


def _claims(record: Record) -> None:
    rows = {row["model"]: row for row in record.rows if "model" in row}
    teacher, swift = rows["ResNet-20"], rows["SwiftCNN, int8"]
    share = swift["accuracy"] / teacher["accuracy"]
    record.claim(
        "95 % of the accuracy of our ResNet", DOCUMENTS,
        f"{swift['accuracy']:.2f} of {teacher['accuracy']:.2f} %, which is {100 * share:.1f} %",
        share >= LEAST_ACCURACY,
    )  # fmt: skip
    size, library = (swift[key] / teacher[key] for key in ("bytes", "library_bytes"))
    record.claim(
        "at most 10 % of its size", DOCUMENTS,
        f"{swift['bytes']:,} of {teacher['bytes']:,} bytes, {100 * size:.1f} %; of the library, "
        f"code included, {100 * library:.1f} %", size <= MOST_BYTES,
    )  # fmt: skip
    record.claim(
        "less than 1 ms a picture", f"{DOCUMENTS}, of an iPhone",
        f"{swift['median_ms']:.3f} ms, one thread of this processor; ResNet-20 in float32 "
        f"{teacher['median_ms']:.3f} ms", swift["median_ms"] < MOST_MILLISECONDS,
    )  # fmt: skip
