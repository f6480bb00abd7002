"""`tito train cifar10`: does its recipe reach the course's 75 %, and what do its filters look like?

The same classes that the command line uses, with the settings of its recipe. The picture shows the
filters of the first convolution and, for three test pictures, what the first two stages make of
them (rows S4-58, S4-59, S4-60).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import tinytorch as tt
from benchmarks.kept import Record
from benchmarks.png import as_bytes, sheet, write_png
from tinytorch.cli.learning import Learning
from tinytorch.cli.recipe import recipe_for
from tinytorch.cli.run_folder import RunFolder, Settings
from tinytorch.training.progress import PlainLines

MILESTONE = 0.75  # of the course, "Achieve 75% accuracy milestone"
SEED, SHOWN = 0, (0, 4, 8)  # test pictures
COLUMNS = 16


def run(folder: Path, log: Path) -> dict:
    """Train as tito does, measure, draw."""
    recipe = recipe_for("cifar10", "cnn")
    settings = Settings("cifar10", "cnn", **vars(recipe), seed=SEED, data_dir=str(folder))
    record = Record(log, "Does `tito train cifar10` reach 75 %?", vars(settings) | {"data_dir": ""})
    learning = Learning(settings, PlainLines())
    with tempfile.TemporaryDirectory() as place:
        history = learning.learn(RunFolder.begin(settings, Path(place) / "run"), resume=False)
    for row in history:
        record.row(**row)
    found = learning.evaluate()["accuracy"]
    record.row(test_accuracy=found, weights=sum(p.size for p in learning.model.parameters()))
    text = f"{100 * found:.2f} % after {len(history)} epochs"
    text += f", {sum(history['seconds']):.0f} s of a shared machine"
    record.claim("a CNN reaches 75 % on CIFAR-10", "course, module 9", text, found >= MILESTONE)
    filters, maps = pictures(learning)
    write_png(record.picture("-filters"), filters)
    write_png(record.picture("-maps"), maps)
    return record.keep()


def pictures(learning: Learning) -> tuple[np.ndarray, np.ndarray]:
    """The first filters in colour, and maps of the first two stages, each spread over 0..1."""
    model = learning.model.eval()
    stage = model.stages[0]
    filters = spread(stage.conv1.weight.numpy())
    images, _ = learning.parts["test"].take(np.array(SHOWN))
    rows = []
    with tt.no_grad():
        first = stage(tt.Tensor(images))
        second = model.stages[1](first)
    for i, image in enumerate(images):
        rows.append(np.broadcast_to(image.mean(0), (1, 1, 32, 32)))
        for maps in (first, second):
            chosen = maps.numpy()[i, : COLUMNS - 1, None]
            rows.append(spread(chosen.repeat(32 // chosen.shape[-1], 2).repeat(
                32 // chosen.shape[-1], 3)))  # fmt: skip
        rows.append(np.zeros((1, 1, 32, 32), np.float32))  # to the end of the row
    return sheet(as_bytes(filters), 8, scale=12), sheet(as_bytes(np.concatenate(rows)), COLUMNS)


def spread(maps: np.ndarray) -> np.ndarray:
    """Each picture from its least number, 0, to its largest, 1."""
    low, high = (f(maps, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    return (maps - low) / np.maximum(high - low, 1e-9)
