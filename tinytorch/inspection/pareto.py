"""The Pareto front: which models are worth their cost, and a chart of all of them.

Knows costs and qualities, never what they are of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinytorch.base.errors import ShapeError
from tinytorch.inspection.figures import axes_of, figure_of
from tinytorch.inspection.given import check_names, floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def pareto_front(costs: Any, qualities: Any) -> np.ndarray:
    """The models that no other one beats: none is as good at as little cost, and better in one.

    Args:
        costs: (N,) less is better: bytes, milliseconds.
        qualities: (N,) more is better: accuracy.

    Returns:
        their places (F,) int64, the cheapest first; of equals all.

    Raises:
        ShapeError, ArgumentError: lengths that differ; numbers that are not finite.

    Cost: N^2 comparisons.

    Source: https://en.wikipedia.org/wiki/Pareto_front, of two aims.

    Example:
        >>> pareto_front([100, 25, 30, 50], [0.94, 0.90, 0.89, 0.93])
        array([1, 3, 0])
    """
    c, q = _points("pareto_front", costs, qualities)
    as_good = (c <= c[:, None]) & (q >= q[:, None])  # [i, j]: j is as good as i in both
    better = (c < c[:, None]) | (q > q[:, None])
    front = np.flatnonzero(~(as_good & better).any(1))
    return front[np.argsort(c[front], kind="stable")]


def _points(owner: str, costs: Any, qualities: Any) -> tuple[np.ndarray, np.ndarray]:
    c, q = floats(owner, "costs", costs, "(N,)"), floats(owner, "qualities", qualities, "(N,)")
    if len(c) != len(q):
        raise ShapeError(
            f"{owner}: there are not as many qualities as costs",
            got=f"{len(c)} costs, {len(q)} qualities",
            rule="one of each for each model",
            fix="costs and qualities of the same models, in the same order",
        )
    return c, q


def draw_pareto_front(
    costs: Any, qualities: Any, names: Sequence[str] | None = None, *, cost: str = "bytes",
    quality: str = "accuracy", title: str = "", axes: Axes | None = None,
) -> Figure:  # fmt: skip
    """All models as points, those of the front joined by a line; costs on a logarithmic scale
    where all are above 0.

    Args:
        costs: (N,) less is better.
        qualities: (N,) more is better.
        names: of the models; default their numbers.
        cost: what the costs are.
        quality: what the qualities are.
        title: stands above.
        axes: where to draw; default a new figure.

    Returns:
        the figure, for `save_figure`.

    Raises:
        MissingError: matplotlib is not installed.
        ShapeError, ArgumentError: as `pareto_front`; another number of names.

    Example:
        >>> figure = draw_pareto_front([400, 100, 200], [0.94, 0.93, 0.9], ["fp32", "int8", "half"])
        >>> figure.axes[0].lines[0].get_xdata().tolist()
        [100.0, 400.0]
    """
    owner = "draw_pareto_front"
    c, q = _points(owner, costs, qualities)
    shown = check_names(owner, names, len(c))
    front = pareto_front(c, q)
    axes = axes_of(axes, 6.5, 4.5)
    # Between two models of the front one has the quality of the cheaper.
    axes.plot(c[front], q[front], drawstyle="steps-post", color="#0072B2", marker="o")
    beaten = np.setdiff1d(np.arange(len(c)), front)
    axes.plot(c[beaten], q[beaten], "o", color="grey")
    there: dict[tuple[float, float], list[str]] = {}
    for x, y, name in zip(c.tolist(), q.tolist(), shown, strict=True):
        there.setdefault((x, y), []).append(name)
    for place, together in there.items():  # names of one place would lie on each other
        axes.annotate(
            ", ".join(together), place, xytext=(4, 4), textcoords="offset points", fontsize=9
        )
    if c.min() > 0:
        axes.set_xscale("log")
    axes.set(xlabel=cost, ylabel=quality, title=title)
    axes.margins(x=0.15, y=0.1)
    axes.grid(alpha=0.3)
    return figure_of(axes)
