"""`tito train cifar10`: does its recipe reach the course's 75 %, and what do its filters look like?

The same classes that the command line uses, with the settings of its recipe. The pictures show
the filters of the first convolution and what the stages make of three test pictures (rows S4-58,
S4-59, S4-60).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.record import Record
from tinytorch import inspection
from tinytorch.cli.learning import Pictures
from tinytorch.cli.recipes import recipe_for
from tinytorch.cli.runs import RunFolder, Settings
from tinytorch.training.history import PlainLines

MILESTONE = 0.75  # of the course, "Achieve 75% accuracy milestone"
SEED, SHOWN = 0, (1, 4, 13)  # test pictures


def run(folder: Path, log: Path) -> dict:
    """Train as tito does, measure, draw."""
    recipe = recipe_for("cifar10", "cnn")
    settings = Settings("cifar10", "cnn", **vars(recipe), seed=SEED, data_dir=str(folder))
    record = Record(log, "Does `tito train cifar10` reach 75 %?", vars(settings) | {"data_dir": ""})
    learning = Pictures(settings, PlainLines())
    with tempfile.TemporaryDirectory() as place:
        history = learning.learn(RunFolder.begin(settings, Path(place) / "run"), resume=False)
    for row in history:
        record.row(**row)
    found = learning.evaluate()["accuracy"]
    record.row(test_accuracy=found, weights=sum(p.size for p in learning.model.parameters()))
    text = f"{100 * found:.2f} % after {len(history)} epochs"
    text += f", {sum(history['seconds']):.0f} s of a shared machine"
    record.claim("a CNN reaches 75 % on CIFAR-10", "course, module 9", text, found >= MILESTONE)
    model = learning.model.eval()
    drawn = inspection.draw_filters(inspection.filters(model.stages[0].conv1))
    inspection.save_figure(record.picture("-filters"), drawn)
    images, _ = learning.parts["test"].take(np.array(SHOWN))
    maps = inspection.feature_maps(model, images, model.stages)
    drawn = inspection.draw_feature_maps(images, maps)
    inspection.save_figure(record.picture("-maps"), drawn)
    return record.keep()
