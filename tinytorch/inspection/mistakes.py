"""What a classifier takes for what, and where it was surest and wrong all the same.

Knows labels, answers and probabilities, never the model that gave them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tinytorch.base.arguments import one_of, whole
from tinytorch.base.errors import ArgumentError, ShapeError
from tinytorch.inspection.figures import axes_of, figure_of, new_figure
from tinytorch.inspection.given import check_names, floats, numbers_of_classes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUM = 1e-3  # how far from 1 probabilities of float32 or float16 may add up
WRITTEN = 20  # classes up to which the numbers stand in the fields


def confusion_matrix(
    labels: Any, predictions: Any, classes: int | None = None, normalize: str | None = None
) -> np.ndarray:
    """How often each class is taken for each other: entry [i, j] counts class i answered as j.

    Args:
        labels: (N,) the true classes, counted from 0.
        predictions: (N,) the answers; or (N, K) a number for each class, of which the largest is
            the answer (logits or probabilities).
        classes: K, how many there are; default None: as many as occur.
        normalize: "true" divides each row by its sum, "pred" each column, "all" by the number of
            samples; default None: counts. What has no sample is 0.

    Returns:
        (K, K) int64, or float64 shares.

    Raises:
        ShapeError, ArgumentError: lengths that differ; what is no number of a class.
        SettingError: `normalize` is something else.

    Source: scikit-learn's `confusion_matrix`, whose rows are the truth too.

    Example:
        >>> confusion_matrix([0, 0, 1, 2], [0, 1, 1, 1])
        array([[1, 1, 0],
               [0, 1, 0],
               [0, 1, 0]])
    """
    owner = "confusion_matrix"
    if classes is not None:
        whole(owner, "classes", classes, at_least=1)
    truth = numbers_of_classes(owner, "labels", labels, classes)
    said = np.asarray(predictions) if not hasattr(predictions, "detach") else predictions
    if len(said.shape) == 2:
        scores = floats(owner, "predictions", said, "(N, K)")
        said, classes = scores.argmax(1), max(scores.shape[1], classes or 0)
    said = numbers_of_classes(owner, "predictions", said, classes)
    _check_lengths(owner, truth, len(said))
    k = 1 + int(max(truth.max(), said.max())) if classes is None else classes
    counts = np.bincount(truth * k + said, minlength=k * k).reshape(k, k)
    if normalize is None:
        return counts
    axes = {"true": 1, "pred": 0, "all": None}
    sums = counts.sum(axes[one_of(owner, "normalize", normalize, tuple(axes))], keepdims=True)
    return counts / np.maximum(sums, 1)


@dataclass(frozen=True)
class Mistake:
    """A sample that was answered wrongly.

    Args:
        index: which sample.
        label: its class.
        answer: the class that was said.
        probability: how sure the answer was, in [0, 1].
    """

    index: int
    label: int
    answer: int
    probability: float


def worst_mistakes(labels: Any, probabilities: Any, count: int = 10) -> list[Mistake]:
    """The samples of which a model was surest, and wrong.

    Args:
        labels: (N,) the true classes, counted from 0.
        probabilities: (N, K) of each class; rows add up to 1.
        count: how many at most, at least 1; default 10.

    Returns:
        the mistakes, the surest first; samples that are equally sure in their order.

    Raises:
        ArgumentError: rows that are no probabilities; what is no number of a class.
        ShapeError: lengths that differ.

    Example:
        >>> sure = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]
        >>> worst_mistakes([1, 1, 1], sure)
        [Mistake(index=0, label=1, answer=0, probability=0.9),
         Mistake(index=2, label=1, answer=0, probability=0.6)]
    """
    owner = "worst_mistakes"
    whole(owner, "count", count, at_least=1)
    p = floats(owner, "probabilities", probabilities, "(N, K)")
    sums = p.sum(1)
    if p.min() < 0 or np.abs(sums - 1).max() > SUM:
        row = int(np.abs(sums - 1).argmax()) if p.min() >= 0 else int(p.min(1).argmin())
        raise ArgumentError(
            f"{owner}: these are no probabilities",
            got=f"row {row} adds up to {sums[row]:.4g}, its least number is {p[row].min():.4g}",
            rule="numbers in [0, 1], each row adds up to 1",
            fix="logits.softmax(1)",
        )
    truth = numbers_of_classes(owner, "labels", labels, p.shape[1])
    _check_lengths(owner, truth, len(p))
    answers = p.argmax(1)
    surest = p.max(1)
    wrong = np.flatnonzero(answers != truth)
    order = wrong[np.argsort(-surest[wrong], kind="stable")][:count]
    return [Mistake(int(i), int(truth[i]), int(answers[i]), float(surest[i])) for i in order]


def _check_lengths(owner: str, truth: np.ndarray, answers: int) -> None:
    if len(truth) != answers:
        raise ShapeError(
            f"{owner}: there are not as many answers as labels",
            got=f"{len(truth)} labels, {answers} answers",
            rule="one answer for each label",
            fix="answers and labels of the same samples, in the same order",
        )


# --- drawn ---


def draw_confusion_matrix(
    matrix: Any, names: Sequence[str] | None = None, *, title: str = "", axes: Axes | None = None
) -> Figure:
    """A confusion matrix as coloured fields; up to 20 classes the numbers stand in them.

    Colours are shares of each row, so that rare classes are seen too.

    Args:
        matrix: (K, K), what `confusion_matrix` gave.
        names: of the classes; default their numbers.
        title: stands above.
        axes: where to draw; default a new figure.

    Returns:
        the figure, for `save_figure`.

    Raises:
        MissingError: matplotlib is not installed.
        ArgumentError, ShapeError: a matrix that is not square; another number of names.

    Example:
        >>> figure = draw_confusion_matrix([[8, 2], [0, 10]], ["cat", "dog"])
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['8', '2', '0', '10']
    """
    owner = "draw_confusion_matrix"
    counts = floats(owner, "matrix", matrix, "(K, K)")
    k = len(counts)
    if counts.shape != (k, k) or counts.min() < 0:
        raise ShapeError(
            f"{owner}: this is no confusion matrix",
            got=f"matrix {counts.shape}, least number {counts.min():g}",
            rule="(K, K) counts or shares, none below 0",
            fix="confusion_matrix(labels, predictions)",
        )
    shown = check_names(owner, names, k)
    sums = counts.sum(1, keepdims=True)
    shares = counts / np.where(sums > 0, sums, 1)
    side = 2.5 + 0.45 * min(k, WRITTEN)
    axes = axes_of(axes, side, side)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(k), shown, rotation=90 if max(map(len, shown)) > 2 else 0)
    axes.set_yticks(range(k), shown)
    axes.set(xlabel="answer", ylabel="truth", title=title)
    whole_numbers = bool((counts == np.rint(counts)).all())
    for i, j in np.ndindex(k, k) if k <= WRITTEN else ():
        text = f"{counts[i, j]:.0f}" if whole_numbers else f"{counts[i, j]:.2f}"
        colour = "white" if shares[i, j] > 0.5 else "black"
        axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=8)
    return figure_of(axes)


def draw_worst_mistakes(
    images: Any, mistakes: Sequence[Mistake], names: Sequence[str] | None = None, *,
    columns: int = 5, title: str = "",
) -> Figure:  # fmt: skip
    """The pictures that a model was surest of, and wrong: answer, how sure, and the truth.

    Args:
        images: (M, C, H, W) in [0, 1], C = 1 or 3: one for each mistake, in the order of
            `mistakes`: images[[m.index for m in mistakes]].
        mistakes: what `worst_mistakes` gave, at least one.
        names: of the classes; default their numbers.
        columns: pictures in a row, at least 1; default 5.
        title: stands above.

    Returns:
        the figure, for `save_figure`.

    Raises:
        MissingError: matplotlib is not installed.
        ShapeError: images that are not those of the mistakes.

    Example:
        >>> figure = draw_worst_mistakes(np.zeros((1, 1, 8, 8)), [Mistake(3, 1, 0, 0.9)])
        >>> figure.axes[0].get_title()
        '0, 90 % sure\\nit is 1'
    """
    owner = "draw_worst_mistakes"
    whole(owner, "columns", columns, at_least=1)
    pictures = floats(owner, "images", images, "(M, C, H, W)")
    if len(pictures) != len(mistakes) or pictures.shape[1] not in (1, 3):
        raise ShapeError(
            f"{owner}: these are not the images of the mistakes",
            got=f"images {pictures.shape}, {len(mistakes)} mistakes",
            rule="(M, C, H, W) with C = 1 or 3, one for each mistake",
            fix="images[[m.index for m in mistakes]]",
        )
    classes = 1 + max(max(m.label, m.answer) for m in mistakes)
    shown = check_names(owner, names, classes if names is None else max(classes, len(names)))
    rows = -(-len(mistakes) // columns)
    figure = new_figure(1.6 * columns, 2.0 * rows)
    figure.suptitle(title)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid:
        axes.set_axis_off()
    for axes, picture, m in zip(grid, np.clip(pictures, 0, 1), mistakes, strict=False):
        axes.imshow(picture.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
        sure = f"{shown[m.answer]}, {100 * m.probability:.0f} % sure"
        axes.set_title(f"{sure}\nit is {shown[m.label]}", fontsize=8)
    return figure
