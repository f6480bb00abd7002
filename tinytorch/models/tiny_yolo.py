"""TinyYOLO: one look at a picture, and for each of its cells a box, a score and a class.

A small network of Redmon's kind, the loss that trains it, and how its answer becomes a list of
boxes. Knows cells and boxes in parts of the picture, never where pictures come from; boxes that
overlap are `nn.boxes`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tinytorch.base.arguments import number, pair, whole
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn import functional as F
from tinytorch.nn.activation import LeakyReLU
from tinytorch.nn.boxes import batched_nms, box_convert
from tinytorch.nn.convolution import Conv2d
from tinytorch.nn.module import Module, Sequential
from tinytorch.nn.normalization import BatchNorm2d
from tinytorch.nn.pooling import MaxPool2d
from tinytorch.tensor.creation import asarray, from_numpy, iota
from tinytorch.tensor.elementwise import clip, exp, floor, log, sigmoid
from tinytorch.tensor.indexing import gather
from tinytorch.tensor.reductions import softmax
from tinytorch.tensor.shaping import concat, stack
from tinytorch.tensor.tensor import Tensor

SLOPE = 0.1  # of the leaky ReLU: Redmon et al. 2016, equation 2
HALVINGS = 3  # a cell is 8 x 8 pixels
PLACED, EMPTY = 5.0, 0.5  # lambda_coord and lambda_noobj: Redmon et al. 2016, section 2.2
# The one prior box: side of a box, in parts of the picture, for which the network says 0. A network
# learns its own mean size by a bias; the prior lets it begin near the size of things in scenes.
PRIOR = 0.25


class TinyYOLO(Module):
    """3x3 convolutions, three halvings, then for each cell of 8 x 8 pixels 5 + K numbers.

        x = (column + sigmoid(t0)) / columns        w = PRIOR * exp(t2)
        y = (row    + sigmoid(t1)) / rows           h = PRIOR * exp(t3)
        score = sigmoid(t4) * softmax(t5, ...)      of each class

    Args:
        classes: K; default 10.
        channels: of the pictures; default 1.
        widths: channels of each convolution, at least three; the first three are followed by a
            halving; default (16, 32, 64, 128, 128).

    Shapes: (N, channels, H, W) -> (N, 5 + classes, H // 8, W // 8), any H and W from 8 on.

    Cost: 246,000 weights and 50 million operations for a picture of 64 x 64.

    Source: Redmon et al. 2016, https://arxiv.org/abs/1506.02640 (a box for each cell; Tiny YOLO's
    convolutions and halvings); Redmon & Farhadi 2018, https://arxiv.org/abs/1804.02767, section 2.1
    (the numbers of a box).

    Differs from the papers: one prior box, one scale; classes exclude each other, as in the second
    (https://arxiv.org/abs/1612.08242).

    Example:
        >>> import tinytorch as tt
        >>> net = TinyYOLO(classes=3).eval()
        >>> net(tt.zeros(2, 1, 64, 64)).shape, sum(p.size for p in net.parameters())
        ((2, 8, 8, 8), 246136)
    """

    def __init__(
        self, classes: int = 10, channels: int = 1,
        widths: Sequence[int] = (16, 32, 64, 128, 128),
    ):  # fmt: skip
        classes = whole("TinyYOLO", "classes", classes, at_least=1)
        sizes = [whole("TinyYOLO", "channels", channels, at_least=1)]
        sizes += [whole("TinyYOLO", "widths", width, at_least=1) for width in widths]
        if len(sizes) <= HALVINGS:
            raise SettingError(
                "TinyYOLO: there are too few convolutions",
                got=f"widths={tuple(widths)}",
                rule=f"at least {HALVINGS}, each of the first {HALVINGS} followed by a halving",
                fix="widths=(16, 32, 64, 128, 128)",
            )
        parts: list[Module] = []
        for i, (before, after) in enumerate(zip(sizes, sizes[1:], strict=False)):
            # No bias: batch norm subtracts the mean, and has a shift of its own.
            parts.append(Conv2d(before, after, 3, padding=1, bias=False))
            parts += [BatchNorm2d(after), LeakyReLU(SLOPE)]
            parts += [MaxPool2d(2)] if i < HALVINGS else []
        self.features = Sequential(*parts)
        self.head = Conv2d(sizes[-1], 5 + classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 5 + classes, H // 8, W // 8)."""
        return self.head(self.features(x))


def yolo_loss(output: Tensor, target: Tensor) -> Tensor:
    """How far the cells with a thing are off, and how sure the empty ones are that they have one.

        5 * sum over things of (sigmoid(t0) - dx)^2 + (sigmoid(t1) - dy)^2
                             + (t2 - log(w / PRIOR))^2 + (t3 - log(h / PRIOR))^2
        + sum over cells of (1 if there is a thing, else 1/2) * cross-entropy of sigmoid(t4)
        + sum over things of cross-entropy of the class

    A thing belongs to the cell of its centre, (dx, dy) is where in the cell. Of two in one cell
    both count.

    Args:
        output: (N, 5 + K, rows, columns), of a TinyYOLO.
        target: float (N, M, 5): for each thing (class, x, y, width, height), centre and sides in
            parts of the picture; rows of class -1 do not count. As `data.Scenes` gives them.

    Returns:
        0-d, the mean over pictures.

    Raises:
        ShapeError: the shapes do not belong together.

    Source: Redmon et al. 2016, https://arxiv.org/abs/1506.02640, equation 3 (sums and their
    weights); Redmon & Farhadi 2018, https://arxiv.org/abs/1804.02767, section 2.1 (squares of t,
    cross-entropy of the score); classes as in https://arxiv.org/abs/1612.08242.

    Example:
        >>> import tinytorch as tt
        >>> nothing = tt.Tensor([[[-1.0, 0, 0, 0, 0]]])
        >>> round(yolo_loss(tt.zeros(1, 7, 2, 2), nothing).item(), 4)     # 4 cells of log(2) / 2
        1.3863
    """
    _check(output, target)
    rows, columns = output.shape[2:]
    label, x, y = target[..., 0], target[..., 1] * columns, target[..., 2] * rows  # (N, M)
    there = (label >= 0.0).astype(output.dtype)
    column, row = (clip(floor(at), 0, n - 1) for at, n in ((x, columns), (y, rows)))
    cell = (row * columns + column).astype("int64")
    flat = output.flatten(2)  # (N, 5 + K, cells)
    places = cell.unsqueeze(1).broadcast_to(cell.shape[0], flat.shape[1], cell.shape[1])
    t = gather(flat, 2, places)  # (N, 5 + K, M)
    sides = log(clip(target[..., 3:], 1e-6) * (1 / PRIOR))  # rows that do not count have none
    wanted = stack([x - column, y - row, sides[..., 0], sides[..., 1]], 1)
    off = concat([sigmoid(t[:, :2]), t[:, 2:4]], 1) - wanted
    classes = F.cross_entropy(t[:, 5:], clip(label, 0.0).astype("int64"), reduction="none")
    things = (PLACED * (off * off).sum(1) + classes) * there

    cells = iota((1, 1, rows * columns), 2)
    full = ((cell.unsqueeze(-1) == cells).astype(output.dtype) * there.unsqueeze(-1)).amax(1)
    sure = F.binary_cross_entropy_with_logits(flat[:, 4], full, reduction="none")
    scores = sure * (EMPTY + (1 - EMPTY) * full)
    return (things.sum() + scores.sum()) * (1 / output.shape[0])


def _check(output: Tensor, target: Tensor) -> None:
    shape, wanted = tuple(output.shape), tuple(target.shape)
    if len(shape) != 4 or shape[1] < 6 or len(wanted) != 3 or wanted[::2] != (shape[0], 5):
        raise ShapeError(
            "yolo_loss: output and target do not belong together",
            got=f"output {shape}, target {wanted}",
            rule="output (N, 5 + K, rows, columns), target (N, M, 5): class, x, y, width, height",
            fix="the things of data.Scenes, and rows of class -1 where a picture has fewer",
        )


def yolo_detections(
    output: Tensor, size: int | tuple[int, int], score_thresh: float = 0.05,
    nms_thresh: float = 0.5, detections_per_img: int = 100,
) -> list[dict[str, Tensor]]:  # fmt: skip
    """The boxes in a TinyYOLO's answer.

    Each cell says one box, of its likeliest class. Those with a low score go, then those that
    overlap a better one of their class.

    Args:
        output: (N, 5 + K, rows, columns).
        size: (H, W) of the pictures, or one number for both: boxes are in pixels.
        score_thresh: least score, in [0, 1]; default 0.05.
        nms_thresh: most IoU of two boxes of a class, in [0, 1]; default 0.5.
        detections_per_img: most boxes of a picture, the best ones; default 100.

    Returns:
        for each picture "boxes" (n, 4) as (x1, y1, x2, y2), "scores" (n,), "labels" int64 (n,),
        the highest score first.

    Raises:
        ShapeError: this is no such answer.
        SettingError: a threshold outside its range.

    Source: names, defaults and form of the answer are those of torchvision's detection models.

    Example:
        >>> import tinytorch as tt
        >>> answer = tt.zeros(1, 7, 2, 2)
        >>> answer[0, 4] = -9.0
        >>> answer[0, 4:6, 1, 0] = 9.0                # below left: sure of a thing of class 0
        >>> found = yolo_detections(answer, (16, 16))[0]
        >>> found["boxes"].tolist(), found["labels"].tolist()
        ([[2.0, 10.0, 6.0, 14.0]], [0])
    """
    least = number("yolo_detections", "score_thresh", score_thresh, "[0, 1]")
    most = whole("yolo_detections", "detections_per_img", detections_per_img, at_least=1)
    if len(output.shape) != 4 or output.shape[1] < 6:
        raise ShapeError(
            "yolo_detections: this is no answer of a TinyYOLO",
            got=f"output {tuple(output.shape)}",
            rule="(N, 5 + K, rows, columns)",
            fix="yolo_detections(model(pictures), (H, W))",
        )
    sides = pair("yolo_detections", "size", size, at_least=1)
    boxes, scores = (x.numpy() for x in _decoded(output.detach(), sides))
    found = []
    for box, score in zip(boxes, scores, strict=True):
        sure = score.max(1) >= least
        box, best, label = box[sure], score.max(1)[sure], score.argmax(1)[sure]
        given = from_numpy(box), from_numpy(best), from_numpy(label)
        kept = batched_nms(*given, nms_thresh).numpy()[:most]
        parts = {"boxes": box, "scores": best, "labels": label}
        found.append({name: from_numpy(x[kept]) for name, x in parts.items()})
    return found


def yolo_boxes(target: Tensor, size: int | tuple[int, int]) -> list[dict[str, Tensor]]:
    """The boxes that are known, in the form of those that `yolo_detections` finds.

    Args:
        target: (N, M, 5) as `yolo_loss` takes it.
        size: (H, W) of the pictures, or one number for both: boxes are in pixels.

    Returns:
        for each picture "boxes" (n, 4) as (x1, y1, x2, y2) and "labels" int64 (n,).

    Example:
        >>> import tinytorch as tt
        >>> known = yolo_boxes(tt.Tensor([[[3, 0.5, 0.5, 0.25, 1], [-1, 0, 0, 0, 0]]]), 8)[0]
        >>> known["boxes"].tolist(), known["labels"].tolist()
        ([[3.0, 0.0, 5.0, 8.0]], [3])
    """
    height, width = pair("yolo_boxes", "size", size, at_least=1)
    rows = asarray(target).detach().numpy()
    if rows.ndim != 3 or rows.shape[2] != 5:
        raise ShapeError(
            "yolo_boxes: these are no things",
            got=f"target {rows.shape}",
            rule="(N, M, 5): class, x, y, width, height",
            fix="target[None] for one picture",
        )
    known = []
    for things in rows:
        there = things[things[:, 0] >= 0]
        sides = there[:, 1:] * np.array([width, height, width, height], there.dtype)
        boxes = box_convert(from_numpy(sides), "cxcywh", "xyxy")
        known.append({"boxes": boxes, "labels": from_numpy(there[:, 0].astype(np.int64))})
    return known


def _decoded(output: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Corners of each cell's box in pixels (N, cells, 4), and scores of its classes."""
    (height, width), (rows, columns) = size, output.shape[2:]
    x = (sigmoid(output[:, 0]) + iota((rows, columns), 1)) * (width / columns)
    y = (sigmoid(output[:, 1]) + iota((rows, columns), 0)) * (height / rows)
    # no box is larger than the picture; exp of an untrained answer may have no end
    sides = exp(clip(output[:, 2:4], max=math.log(1 / PRIOR))) * PRIOR
    boxes = stack([x, y, sides[:, 0] * width, sides[:, 1] * height], -1).flatten(1, 2)
    scores = sigmoid(output[:, 4:5]) * softmax(output[:, 5:], 1)  # (N, K, rows, columns)
    return box_convert(boxes, "cxcywh", "xyxy"), scores.flatten(2).transpose(1, 2)
