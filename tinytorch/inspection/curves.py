"""Learning curves: what a training run measured from epoch to epoch, as points and drawn.

Knows names and numbers, never models; a History of `training` is such a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinytorch.base.errors import DataError
from tinytorch.inspection.figures import figure_of, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOT_DRAWN = ("epoch", "seconds")  # what a row says of itself


def learning_curves(history: Any, *names: str) -> dict[str, np.ndarray]:
    """The points of each curve of a training run.

    Args:
        history: rows of numbers by name, one for each epoch: a `History`, or dictionaries; or lists
            of numbers by name, as Keras keeps them.
        names: columns; default None: all but "epoch" and "seconds".

    Returns:
        name -> (points, 2): the epoch (the row's "epoch", or its number from 1) and the value. What
        is not finite is left out.

    Raises:
        DataError: there is no such point.

    Example:
        >>> rows = [{"loss": 2.0, "val_loss": 2.5}, {"loss": 1.0, "val_loss": 2.0}]
        >>> learning_curves(rows, "val_loss")["val_loss"].tolist()
        [[1.0, 2.5], [2.0, 2.0]]
        >>> learning_curves({"accuracy": [0.5, 0.75]})["accuracy"].tolist()
        [[1.0, 0.5], [2.0, 0.75]]
    """
    rows = _rows_of_columns(history) if isinstance(history, Mapping) else list(history)
    found = dict.fromkeys(name for row in rows for name in row if name not in NOT_DRAWN)
    curves: dict[str, np.ndarray] = {}
    for name in names or found:
        points = np.array(
            [(row.get("epoch", i), row[name]) for i, row in enumerate(rows, 1) if name in row],
            np.float64,
        ).reshape(-1, 2)
        curves[name] = points[np.isfinite(points).all(1)]
    empty = [name for name, points in curves.items() if not len(points)]
    if empty or not curves:
        raise DataError(
            "learning_curves: there is nothing to draw",
            got=f"no finite number for {', '.join(empty) or 'any name'} in {len(rows)} rows",
            rule="at least one point; columns: " + (", ".join(found) or "none"),
            fix="train for an epoch, or name a column of the history",
        )
    return curves


def _rows_of_columns(columns: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    longest = max(map(len, columns.values()), default=0)
    return [{n: c[i] for n, c in columns.items() if i < len(c)} for i in range(longest)]


def draw_learning_curves(
    curves: Mapping[str, Any], *, title: str = "", axes: Iterable[Axes] | None = None
) -> Figure:
    """Curves, those of one kind in one field: "loss" and "val_loss" in that of losses.

    Args:
        curves: name -> (points, 2), what `learning_curves` gave; of several runs too, by names of
            their own: {"adam loss": ..., "sgd loss": ...}.
        title: stands above.
        axes: one for each kind, in the order of their first curves; default a new figure.

    Returns:
        the figure, for `save_figure`.

    Raises:
        MissingError: matplotlib is not installed.
        DataError: there is no curve.

    Example:
        >>> rows = [{"loss": 2.0, "val_loss": 2.5}, {"loss": 1.0, "val_loss": 2.0}]
        >>> figure = draw_learning_curves(learning_curves(rows))
        >>> [line.get_label() for line in figure.axes[0].lines]
        ['loss', 'val_loss']
    """
    kinds: dict[str, list[str]] = {}
    for name in curves:
        kinds.setdefault(name.replace("_", " ").split()[-1], []).append(name)
    if not kinds:
        raise DataError(
            "draw_learning_curves: there is no curve",
            got="{}",
            rule="at least one",
            fix="draw_learning_curves(learning_curves(history))",
        )
    if axes is None:
        figure = new_figure(5.0 * len(kinds), 3.5)
        figure.suptitle(title)
        axes = figure.subplots(1, len(kinds), squeeze=False).flat
    fields = list(axes)
    for field, (kind, names) in zip(fields, kinds.items(), strict=True):
        for name in names:
            points = np.asarray(curves[name])
            # A single point is no line: it gets a mark.
            mark = "o" if len(points) == 1 else ""
            field.plot(points[:, 0], points[:, 1], marker=mark, label=name)
        field.set(xlabel="epoch", ylabel=kind)
        field.grid(alpha=0.3)
        field.legend(frameon=False)
    return figure_of(fields[0])
