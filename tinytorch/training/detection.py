"""Mean average precision: how well boxes with scores find boxes that are known.

Knows boxes, scores and classes, never models or pictures; boxes are (x1, y1, x2, y2). Call names
and results are those of torchmetrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinytorch.base.arguments import number, one_of
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn.boxes import box_iou
from tinytorch.tensor.creation import from_numpy
from tinytorch.tensor.tensor import Tensor

COCO = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))  # thresholds of Lin et al. 2014
MOST = 100  # detections of a class in a picture that count: COCO's maxDets
METHODS = {"coco": 101, "voc2007": 11, "voc": None}  # places of recall; None: the whole curve


def average_precision(precision: Any, recall: Any, method: str = "coco") -> float:
    """The area under a precision-recall curve whose precision is made to fall.

        p(r) = largest precision at a recall of at least r; 0 where there is none

        coco      mean of p at r = 0, 0.01, ..., 1
        voc2007   mean of p at r = 0, 0.1, ..., 1
        voc       integral of p from 0 to 1

    Args:
        precision: (N,), right detections / detections, of the best 1, 2, ..., N of them.
        recall: (N,), right detections / what there is to find; never falls.
        method: "coco", "voc2007" or "voc"; default "coco".

    Returns:
        in [0, 1]; 0 of no detections.

    Raises:
        ShapeError: the two do not belong together.

    Source: Everingham et al. 2010, The PASCAL visual object classes challenge, section 4.2 (11
    places); its development kit of 2010 (integral); Lin et al. 2014,
    https://arxiv.org/abs/1405.0312, and cocoapi's cocoeval.py (101 places).

    Example:
        >>> average_precision([1.0, 0.5, 2 / 3], [0.5, 0.5, 1.0], "voc")      # (1 + 2/3) / 2
        0.8333333333333333
    """
    places = METHODS[one_of("average_precision", "method", method, tuple(METHODS))]
    p, r = (np.asarray(x, np.float64) for x in (precision, recall))
    if p.ndim != 1 or p.shape != r.shape:
        raise ShapeError(
            "average_precision: precision and recall do not belong together",
            got=f"precision {p.shape}, recall {r.shape}",
            rule="(N,) each: a point of the curve for each detection",
            fix="np.cumsum(right) / np.arange(1, N + 1), np.cumsum(right) / positives",
        )
    falling = np.append(np.maximum.accumulate(p[::-1])[::-1], 0.0)
    if places is None:
        return float((np.diff(r, prepend=0.0) * falling[:-1]).sum())
    return float(falling[np.searchsorted(r, np.linspace(0, 1, places))].mean())


@dataclass
class _Class:
    """What is known of one class: of each detection its score and whether it is right."""

    scores: list[np.ndarray]  # (n,) of each picture
    right: list[np.ndarray]  # (thresholds, n) bool
    positives: int


class MeanAveragePrecision:
    """The average precision of each class, at several overlaps; then the mean over both.

    In the order of falling scores a detection takes the box of its picture and class, not taken
    yet, with which its IoU is largest; it is right if that is at least the threshold. The curve of
    a class is over the detections of all pictures.

    Args:
        iou_thresholds: overlaps, each in (0, 1]; default COCO's 0.5, 0.55, ..., 0.95.
        method: how a curve becomes a number: as `average_precision`; default "coco". With "voc" and
            "voc2007" a detection is compared with the box it overlaps most, taken or not: a second
            detection of a box is wrong whatever else is near.

    Raises:
        SettingError: thresholds outside their range.

    Cost: the boxes and scores that were added stay in memory as scores and yes or no.

    Source: as `average_precision`; the assignment of COCO is that of cocoeval.py, of VOC that of
    its development kit.

    Differs from torchmetrics: no crowds, no sizes of things apart, results are Python numbers; NaN,
    not -1, of nothing; of equal overlaps the first box is taken, not the last.

    Example:
        >>> metric = MeanAveragePrecision()
        >>> found = [{"boxes": [[0, 0, 10, 8]], "scores": [0.9], "labels": [3]}]
        >>> metric.update(found, [{"boxes": [[0, 0, 10, 10]], "labels": [3]}])
        >>> result = metric.compute()                   # an overlap of 0.8: right at 7 of 10
        >>> round(result["map"], 3), result["map_50"], result["classes"]
        (0.7, 1.0, [3])
    """

    def __init__(self, iou_thresholds: Sequence[float] | None = None, method: str = "coco"):
        given = COCO if iou_thresholds is None else iou_thresholds
        if not isinstance(given, Sequence) or isinstance(given, (str, bytes)) or not given:
            raise SettingError(
                "MeanAveragePrecision: there are no thresholds",
                got=f"iou_thresholds={iou_thresholds!r}",
                rule="a list of numbers in (0, 1], or None",
                fix="iou_thresholds=[0.5]",
            )
        owner = "MeanAveragePrecision"
        self.iou_thresholds = [number(owner, "iou_thresholds", t, "(0, 1]") for t in given]
        self.method = one_of(owner, "method", method, tuple(METHODS))
        self._classes: dict[int, _Class] = {}

    def update(
        self, preds: Sequence[Mapping[str, Any]], target: Sequence[Mapping[str, Any]]
    ) -> None:
        """Count some pictures.

        Args:
            preds: for each picture what was found: "boxes" (n, 4), "scores" (n,), "labels" (n,).
            target: for each picture what is there: "boxes" (m, 4), "labels" (m,).

        Raises:
            ShapeError: lists of different lengths, or shapes that do not belong together.
            SettingError: one of these names is not there.
        """
        if len(preds) != len(target):
            raise ShapeError(
                "MeanAveragePrecision: answers and targets do not belong together",
                got=f"{len(preds)} and {len(target)} pictures",
                rule="one of each for each picture",
                fix="metric.update([found], [known]) for a picture alone",
            )
        for found, known in zip(preds, target, strict=True):
            self._picture(_arrays(found, ("boxes", "labels", "scores")),
                          _arrays(known, ("boxes", "labels")))  # fmt: skip

    def _picture(self, found: list[np.ndarray], known: list[np.ndarray]) -> None:
        (boxes, labels, scores), (truth, classes) = found, known
        overlap = box_iou(from_numpy(boxes), from_numpy(truth)).numpy()  # (n, m)
        for each in np.unique(np.concatenate([labels, classes])):
            mine, there = np.flatnonzero(labels == each), np.flatnonzero(classes == each)
            best = mine[np.argsort(-scores[mine], kind="stable")[:MOST]]
            entry = self._classes.setdefault(int(each), _Class([], [], 0))
            entry.positives += len(there)
            entry.scores.append(scores[best])
            entry.right.append(self._right(overlap[np.ix_(best, there)]))

    def _right(self, overlap: np.ndarray) -> np.ndarray:
        """Which detections, best first, are right at which threshold: (thresholds, n)."""
        n, m = overlap.shape
        right = np.zeros((len(self.iou_thresholds), n), bool)
        for row, threshold in zip(right, self.iou_thresholds, strict=True):
            free = np.ones(m, bool)
            for i in range(n if m else 0):
                open_to = free if self.method == "coco" else np.ones(m, bool)
                at = int(np.where(open_to, overlap[i], -1.0).argmax())
                # cocoeval.py takes off 1e-10 too, so that a threshold of 1 can be reached
                row[i] = free[at] and overlap[i, at] >= min(threshold, 1 - 1e-10)
                free[at] &= not row[i]
        return right

    def compute(self) -> dict[str, Any]:
        """What follows from all pictures so far.

        Returns:
            "map": over classes that occur and thresholds; "map_50" and "map_75", NaN unless these
            are among the thresholds; "classes": those that occur; "map_per_class": of each, over
            thresholds. NaN where nothing is to be found.
        """
        classes = sorted(k for k, entry in self._classes.items() if entry.positives)
        table = np.array([self._of_class(self._classes[k]) for k in classes])
        table = table.reshape(len(classes), len(self.iou_thresholds))
        at = {t: i for i, t in enumerate(self.iou_thresholds)}
        columns = {f"map_{name}": [at[t]] if t in at else [] for name, t in ((50, 0.5), (75, 0.75))}
        return {
            "map": _mean(table),
            **{name: _mean(table[:, column]) for name, column in columns.items()},
            "classes": classes,
            "map_per_class": [_mean(row) for row in table],
        }

    def _of_class(self, entry: _Class) -> list[float]:
        order = np.argsort(-np.concatenate(entry.scores), kind="stable")
        right = np.cumsum(np.concatenate(entry.right, 1)[:, order], 1)  # (thresholds, n)
        counts = np.arange(1, right.shape[1] + 1)
        return [
            average_precision(row / counts, row / entry.positives, self.method) for row in right
        ]

    def reset(self) -> None:
        """Forget all pictures."""
        self._classes.clear()


def _mean(x: np.ndarray) -> float:
    return float(x.mean()) if x.size else float("nan")


def _arrays(given: Mapping[str, Any], names: tuple[str, ...]) -> list[np.ndarray]:
    """The named arrays: boxes (n, 4) float64, labels (n,) and scores (n,)."""
    missing = [n for n in names if not isinstance(given, Mapping) or n not in given]
    if missing:
        raise SettingError(
            "MeanAveragePrecision: something is not said of a picture",
            got=f"no {', '.join(missing)}",
            rule="names and arrays: " + ", ".join(names),
            fix='{"boxes": (n, 4), "scores": (n,), "labels": (n,)}; targets have no scores',
        )
    values = (given[name] for name in names)
    out = [np.asarray(x.detach().numpy() if isinstance(x, Tensor) else x) for x in values]
    out[0] = out[0].reshape(0, 4) if not out[0].size else out[0]
    wanted = [(len(out[0]), 4), (len(out[0]),), (len(out[0]),)]
    if any(x.shape != shape for x, shape in zip(out, wanted, strict=False)):
        raise ShapeError(
            "MeanAveragePrecision: boxes, classes and scores do not belong together",
            got=", ".join(f"{name} {x.shape}" for name, x in zip(names, out, strict=True)),
            rule="boxes (n, 4), labels (n,), scores (n,)",
            fix="boxes.reshape(-1, 4), and one class for each of them",
        )
    return [out[0].astype(np.float64), *out[1:]]
