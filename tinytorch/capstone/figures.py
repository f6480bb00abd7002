"""Figures of a capstone: what each step contributes, which variants are worth it, what goes wrong.

Knows which findings are drawn by which function of `inspection`, and the names of the files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tinytorch import inspection
from tinytorch.base.errors import MissingError
from tinytorch.capstone.challenge import RUNNING
from tinytorch.capstone.findings import Findings
from tinytorch.capstone.measurement import answers
from tinytorch.capstone.workshop import Workshop
from tinytorch.inspection.figures import save_figure
from tinytorch.tensor.tensor import Tensor

FOLDER = "figures"
MISTAKES = 10  # shown


def draw_figures(workshop: Workshop, found: Findings, place: Path) -> dict[str, str]:
    """Draw what was found, into `figures/` of a folder.

    Args:
        workshop: has the final model and the test data.
        found: journey and ablation.
        place: the run's folder.

    Returns:
        what is seen -> the file, beginning at the folder; empty where matplotlib is not installed.
    """
    try:
        return _ablation(found, place) | _worth(found, place) | _wrong(workshop, place)
    except MissingError:
        return {}


def _save(place: Path, name: str, figure: Any) -> str:
    file = f"{FOLDER}/{name}.png"
    save_figure(place / file, figure)
    return file


def _ablation(found: Findings, place: Path) -> dict[str, str]:
    """What remains of everything together without one step."""
    every = [r for r in found.ablation if r.label == "all" or r.label.startswith("all but ")]
    together = [every[-1], *every[:-1]]
    # Line by line everything takes a hundred times as long: no bar would be left beside that one.
    fast = [row for row in together if "acceleration" in row.steps]
    drawn: dict[str, str] = {}
    for name, unit, rows in (("accuracy", "%", together), ("milliseconds", "ms", fast)):
        if rows:
            values = {row.label: float(getattr(row.found, name)) for row in rows}
            figure = inspection.draw_ablation_chart(
                inspection.ablation_chart(values, "first"), value=f"{name}, {unit}"
            )
            title = f"Ablation: {name} of all steps together, and without each"
            drawn[title] = _save(place, f"ablation-{name}", figure)
    return drawn


def _worth(found: Findings, place: Path) -> dict[str, str]:
    """The variants that no other one beats: each model once, run as fast as it can be."""
    rows = list({row.steps: row for row in (*found.journey, *found.ablation)}.values())
    most = max(len(set(row.steps) & set(RUNNING)) for row in rows)
    fast = [row for row in rows if len(set(row.steps) & set(RUNNING)) == most]
    drawn: dict[str, str] = {}
    for name, unit in (("bytes", "bytes"), ("milliseconds", "ms")):
        figure = inspection.draw_pareto_front(
            [getattr(row.found, name) for row in fast], [row.found.accuracy for row in fast],
            [row.label.removeprefix("+ ") for row in fast], cost=unit, quality="accuracy, %",
        )  # fmt: skip
        drawn[f"Pareto front: accuracy against {name}"] = _save(place, f"pareto-{name}", figure)
    return drawn


def _wrong(workshop: Workshop, place: Path) -> dict[str, str]:
    """What the final model takes for what."""
    test = workshop.test
    logits, labels = answers(workshop.model(workshop.challenge.steps), test)
    names = tuple(getattr(test, "classes", ())) or None
    matrix = inspection.confusion_matrix(labels, logits)
    drawn = {
        "Confusion matrix of the final model": _save(
            place, "confusion", inspection.draw_confusion_matrix(matrix, names)
        )
    }
    surest = inspection.worst_mistakes(labels, Tensor(logits).softmax(1).numpy(), MISTAKES)
    pictures = np.array([test[m.index][0] for m in surest])
    if pictures.ndim == 4 and pictures.shape[1] in (1, 3):  # and not what is no picture
        figure = inspection.draw_worst_mistakes(pictures, surest, names)
        drawn["Where the final model is surest, and wrong"] = _save(place, "mistakes", figure)
    return drawn
