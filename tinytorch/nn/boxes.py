"""Boxes in pictures: how two of them overlap, and which of many that overlap are kept.

A box is (x1, y1, x2, y2), left, top, right, bottom, in pixels or in parts of the picture. Knows
corners and scores, never networks; names are those of torchvision.ops.
"""

from __future__ import annotations

import numpy as np

from tinytorch.base.arguments import explain_all as _explain_all
from tinytorch.base.arguments import number, one_of
from tinytorch.base.errors import ShapeError
from tinytorch.tensor.creation import asarray, from_numpy
from tinytorch.tensor.elementwise import clip, maximum, minimum
from tinytorch.tensor.shaping import concat
from tinytorch.tensor.tensor import Tensor

__all__ = ["batched_nms", "box_area", "box_convert", "box_iou", "nms"]

FORMATS = ("xyxy", "cxcywh", "xywh")


def _boxes(owner: str, boxes: Tensor) -> Tensor:
    """A float Tensor (..., 4)."""
    boxes = asarray(boxes)
    if not boxes.shape or boxes.shape[-1] != 4:
        raise ShapeError(
            f"{owner}: these are no boxes",
            got=f"shape {tuple(boxes.shape)}",
            rule="(..., 4): x1, y1, x2, y2",
            fix="boxes.reshape(-1, 4)",
        )
    return boxes if boxes.dtype.is_float else boxes.astype("float32")


def _listed(owner: str, boxes: Tensor) -> Tensor:
    """A float Tensor (N, 4)."""
    boxes = _boxes(owner, boxes)
    if len(boxes.shape) != 2:
        raise ShapeError(
            f"{owner}: one list of boxes is taken at a time",
            got=f"shape {tuple(boxes.shape)}",
            rule="(N, 4)",
            fix="boxes.reshape(-1, 4), or a call for each picture",
        )
    return boxes


def box_convert(boxes: Tensor, in_fmt: str, out_fmt: str) -> Tensor:
    """Boxes told in another way.

        xyxy      left, top, right, bottom
        xywh      left, top, width, height
        cxcywh    centre, width, height

    Args:
        boxes: (..., 4).
        in_fmt: how they are told: "xyxy", "xywh" or "cxcywh".
        out_fmt: how they are wanted.

    Returns:
        (..., 4).

    Example:
        >>> import tinytorch as tt
        >>> box_convert(tt.Tensor([[4.0, 5.0, 2.0, 6.0]]), "cxcywh", "xyxy").tolist()
        [[3.0, 2.0, 5.0, 8.0]]
    """
    one_of("box_convert", "in_fmt", in_fmt, FORMATS)
    one_of("box_convert", "out_fmt", out_fmt, FORMATS)
    boxes = _boxes("box_convert", boxes)
    if in_fmt == out_fmt:
        return boxes
    first, second = boxes[..., :2], boxes[..., 2:]
    low = first - second * 0.5 if in_fmt == "cxcywh" else first
    size = second - first if in_fmt == "xyxy" else second
    if out_fmt == "cxcywh":
        return concat([low + size * 0.5, size], -1)
    return concat([low, size if out_fmt == "xywh" else low + size], -1)


def box_area(boxes: Tensor) -> Tensor:
    """Width times height.

    Args:
        boxes: (..., 4).

    Returns:
        (...); a box whose sides are exchanged counts as its sides say, below 0.

    Example:
        >>> import tinytorch as tt
        >>> box_area(tt.Tensor([[0.0, 0.0, 2.0, 3.0]])).tolist()
        [6.0]
    """
    boxes = _boxes("box_area", boxes)
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Intersection over union of every box of one list with every box of another.

        common = max(0, min(right) - max(left)) * max(0, min(bottom) - max(top))
        iou    = common / (area1 + area2 - common)

    Args:
        boxes1: (N, 4).
        boxes2: (M, 4).

    Returns:
        (N, M) in [0, 1]; NaN where both are empty.

    Raises:
        ShapeError: no lists of boxes.

    Cost: 13 operations a pair.

    Source: Everingham et al. 2010, The PASCAL visual object classes challenge, section 4.2.

    Example:
        >>> import tinytorch as tt
        >>> a, b = tt.Tensor([[0.0, 0.0, 2.0, 2.0]]), tt.Tensor([[1.0, 0.0, 3.0, 2.0]])
        >>> round(box_iou(a, b).item(), 4)
        0.3333
    """
    a = _listed("box_iou", boxes1)[:, None]
    b = _listed("box_iou", boxes2)[None]
    sides = clip(minimum(a[..., 2:], b[..., 2:]) - maximum(a[..., :2], b[..., :2]), 0.0)
    common = sides[..., 0] * sides[..., 1]
    return common / (box_area(a) + box_area(b) - common)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression: of boxes that overlap the one with the highest score is kept.

        in the order of falling scores: a box is kept if no kept one has a larger IoU with it

    Args:
        boxes: (N, 4).
        scores: (N,); of equal ones the earlier comes first.
        iou_threshold: most overlap of two that are kept, in [0, 1].

    Returns:
        int64 (kept,): places in `boxes`, the highest score first.

    Raises:
        ShapeError: boxes and scores do not belong together.
        SettingError: a threshold outside its range.

    Cost: N^2 overlaps; runs in NumPy, since nobody knows beforehand how many are kept.

    Source: Felzenszwalb et al. 2010, Object detection with discriminatively trained part-based
    models, section 6.2.

    Example:
        >>> import tinytorch as tt
        >>> boxes = tt.Tensor([[0.0, 0, 10, 10], [1, 0, 10, 10], [20, 20, 30, 30]])
        >>> nms(boxes, tt.Tensor([0.8, 0.9, 0.3]), 0.5).tolist()
        [1, 2]
    """
    return _kept("nms", boxes, scores, None, iou_threshold)


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """`nms` within each class: boxes of different classes do not suppress each other.

    Args:
        boxes: (N, 4).
        scores: (N,).
        idxs: integers (N,), the class of each box.
        iou_threshold: most overlap of two of a class that are kept, in [0, 1].

    Returns:
        int64 (kept,): places in `boxes`, the highest score first.

    Raises:
        ShapeError: boxes, scores and classes do not belong together.
        SettingError: a threshold outside its range.

    Example:
        >>> import tinytorch as tt
        >>> boxes, scores = tt.Tensor([[0.0, 0, 10, 10], [0, 0, 10, 10]]), tt.Tensor([0.8, 0.9])
        >>> batched_nms(boxes, scores, tt.tensor([1, 2]), 0.5).tolist()
        [1, 0]
    """
    return _kept("batched_nms", boxes, scores, idxs, iou_threshold)


def _kept(
    owner: str, boxes: Tensor, scores: Tensor, idxs: Tensor | None, iou_threshold: float
) -> Tensor:
    """Places of the boxes that no better one (of their class) suppresses."""
    most = number(owner, "iou_threshold", iou_threshold, "[0, 1]")
    boxes = _listed(owner, boxes).detach()
    order = np.argsort(-_beside(owner, "scores", scores, boxes).astype(np.float64), kind="stable")
    suppresses = box_iou(boxes, boxes).numpy() > most
    if idxs is not None:
        classes = _beside(owner, "idxs", idxs, boxes)
        suppresses &= classes[:, None] == classes
    kept: list[int] = []
    gone = np.zeros(len(order), bool)
    for place in order:
        if not gone[place]:
            kept.append(place)
            gone |= suppresses[place]
    return from_numpy(np.array(kept, np.int64))


def _beside(owner: str, name: str, x: Tensor, boxes: Tensor) -> np.ndarray:
    """One number for each box, (N,)."""
    values = asarray(x).detach().numpy()
    if values.shape != boxes.shape[:1]:
        raise ShapeError(
            f"{owner}: boxes and {name} do not belong together",
            got=f"boxes {tuple(boxes.shape)}, {name} {tuple(values.shape)}",
            rule=f"boxes (N, 4) and {name} (N,)",
            fix=f"one of {name} for each box",
        )
    return values


_explain_all(globals(), __all__)
