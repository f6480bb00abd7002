"""Ablation: what each step of a recipe contributes, with how certain that is, and a chart of it.

Knows names and measured numbers, never what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tinytorch.base.arguments import one_of
from tinytorch.base.errors import ArgumentError
from tinytorch.inspection.figures import axes_of, figure_of
from tinytorch.inspection.given import floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AGAINST = ("before", "first")


@dataclass(frozen=True)
class AblationRow:
    """One step of a recipe.

    Args:
        name: of the step.
        value: what was measured with it, the mean over the seeds.
        gain: how much larger that is than what it is compared with; 0 for the first row.
        deviation: of the gain from seed to seed (of a sample: n - 1); None with one seed.
    """

    name: str
    value: float
    gain: float
    deviation: float | None


def ablation_chart(
    values: Mapping[str, float | Sequence[float]], against: str = "before"
) -> list[AblationRow]:
    """What each step contributes, seed by seed.

    The same seeds are compared with each other: a gain is the mean of the differences, and its
    deviation is theirs, in which what a seed does to both cancels.

    Args:
        values: name of each step -> what was measured, a number or one for each seed, the same
            seeds in the same order; in the order in which the steps were taken.
        against: "before": each with the step before it, for steps that add up; "first": each with
            the first, for a whole recipe and what remains of it without one part. Default "before".

    Returns:
        a row for each step.

    Raises:
        ArgumentError: no steps, or not as many seeds in each.
        SettingError: `against` is something else.

    Example:
        >>> for row in ablation_chart({"baseline": [0.80, 0.82], "flips": [0.85, 0.85]}):
        ...     print(row.name, round(row.value, 3), round(row.gain, 3), row.deviation)
        baseline 0.81 0.0 None
        flips 0.85 0.04 0.014...
    """
    owner = "ablation_chart"
    one_of(owner, "against", against, AGAINST)
    steps = {
        name: floats(owner, f"values of {name!r}", np.atleast_1d(np.asarray(x)), "(seeds,)")
        for name, x in values.items()
    }
    if len({len(x) for x in steps.values()}) != 1:
        raise ArgumentError(
            f"{owner}: the steps were not measured with the same seeds",
            got=", ".join(f"{name}: {len(x)}" for name, x in steps.items()) or "no step",
            rule="at least one step, and as many numbers in each",
            fix='ablation_chart({"baseline": [0.80, 0.82], "flips": [0.85, 0.85]})',
        )
    measured = list(steps.values())
    compared = [measured[0], *measured] if against == "before" else [measured[0]] * len(measured)
    rows: list[AblationRow] = []
    for (name, x), other in zip(steps.items(), compared, strict=False):
        gains = x - other
        deviation = float(gains.std(ddof=1)) if rows and len(gains) > 1 else None
        rows.append(AblationRow(name, float(x.mean()), float(gains.mean()), deviation))
    return rows


def draw_ablation_chart(
    rows: Sequence[AblationRow], *, value: str = "accuracy", title: str = "",
    axes: Axes | None = None,
) -> Figure:  # fmt: skip
    """A bar for each step, from what it is compared with to what it came to.

    Args:
        rows: what `ablation_chart` gave.
        value: what was measured, and its unit.
        title: stands above.
        axes: where to draw; default a new figure.

    Returns:
        the figure, for `save_figure`: gains blue, losses orange, the deviation over the seeds as a
        line.

    Raises:
        MissingError: matplotlib is not installed.
        ArgumentError: there is no row.

    Example:
        >>> rows = ablation_chart({"baseline": 0.8, "flips": 0.85})
        >>> figure = draw_ablation_chart(rows)
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['0.8', '0.85 (+0.05)']
    """
    if not rows:
        raise ArgumentError(
            "draw_ablation_chart: there is no row",
            got="[]",
            rule="at least one step",
            fix='draw_ablation_chart(ablation_chart({"baseline": 0.8, "flips": 0.85}))',
        )
    axes = axes_of(axes, 7.0, 1.2 + 0.4 * len(rows))
    places = range(len(rows))
    starts = [row.value - row.gain for row in rows]
    ends = [row.value for row in rows]
    room = (max(ends + starts) - min(ends + starts)) or abs(ends[0]) or 1.0
    # Blue and orange: told apart by the colour-blind too (Okabe, Ito 2008).
    colours = ["#0072B2" if row.gain >= 0 else "#D55E00" for row in rows]
    axes.barh(places, [row.gain for row in rows], left=starts, color=colours,
              xerr=[row.deviation or 0.0 for row in rows])  # fmt: skip
    axes.plot(ends[:1], [0], "|", color="black", markersize=16)  # the first has no bar
    for place, row in zip(places, rows, strict=True):
        gain = "" if not place else f" ({row.gain:+.3g})"
        right = max(row.value, row.value - row.gain) + (row.deviation or 0.0)
        axes.text(right + room / 50, place, f"{row.value:.4g}{gain}", va="center", fontsize=9)
    axes.set_yticks(places, [row.name for row in rows])
    axes.invert_yaxis()
    axes.set(xlabel=value, title=title)
    axes.set_xlim(min(starts + ends) - room / 10, max(starts + ends) + room * 0.35)
    axes.grid(axis="x", alpha=0.3)
    return figure_of(axes)
