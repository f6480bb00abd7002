"""`tito evaluate --figures`: what a run has come to, as pictures in a folder.

Knows which figure is written under which name; what is in them is said by `inspection`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tinytorch import inspection, nn
from tinytorch.base.files import make_folder
from tinytorch.cli.runs import SavedModel
from tinytorch.data.dataset import ImageDataset
from tinytorch.training import History

SHOWN = 10  # mistakes
SEEN = 3  # images of which feature maps are drawn: the first ones


def write_learning(folder: Path, history: Path) -> list[Path]:
    """What each epoch measured, if there is a history."""
    rows = History.load(history) if history.is_file() else History()
    if not len(rows):
        return []
    return [_saved(folder / "curves.png", inspection.draw_learning_curves(
        inspection.learning_curves(rows), title=str(history.parent.name)
    ))]  # fmt: skip


def write_answers(
    folder: Path, saved: SavedModel, part: ImageDataset, labels: np.ndarray, shares: np.ndarray
) -> list[Path]:
    """The confusion matrix, the worst mistakes, filters and feature maps.

    Args:
        folder: where they are written.
        saved: the model.
        part: the images it was asked about.
        labels: (N,) their classes.
        shares: (N, K) the model's probabilities.

    Returns:
        what was written.
    """
    names = saved.data_set.classes
    title = f"{saved.model} on {saved.data}"
    matrix = inspection.confusion_matrix(labels, shares)
    drawn = {"confusion": inspection.draw_confusion_matrix(matrix, names, title=title)}
    worst = inspection.worst_mistakes(labels, shares, SHOWN)
    if worst:
        images, _ = part.take(np.array([m.index for m in worst]))
        drawn["mistakes"] = inspection.draw_worst_mistakes(images, worst, names, title=title)
    written = [_saved(folder / f"{name}.png", figure) for name, figure in drawn.items()]
    first = next((m for m in saved.network.modules() if isinstance(m, nn.Conv2d)), None)
    if first is not None:
        images, _ = part.take(np.arange(min(SEEN, len(part))))
        maps = inspection.feature_maps(saved.network, images)
        pictures = {
            "filters": inspection.draw_filters(inspection.filters(first)),
            "maps": inspection.draw_feature_maps(images, maps),
        }
        written += [_saved(folder / f"{name}.png", picture) for name, picture in pictures.items()]
    return written


def _saved(path: Path, figure: Any) -> Path:
    make_folder(path.parent)
    inspection.save_figure(path, figure)
    return path
