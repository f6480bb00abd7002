"""boxes.py: overlaps by hand and by counting pixels; which are kept, by a slow definition."""

import numpy as np
import pytest

import tinytorch as tt
from tests.mistakes import mistakes
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.nn.boxes import batched_nms, box_area, box_convert, box_iou, nms

RNG = np.random.default_rng(0)


def some(n: int) -> np.ndarray:
    """Boxes with whole corners, 1 to 9 pixels wide and high, on 20 x 20."""
    low, sides = RNG.integers(0, 11, (n, 2)), RNG.integers(1, 10, (n, 2))
    return np.concatenate([low, low + sides], 1).astype(np.float64)


def pixels(box: np.ndarray) -> np.ndarray:
    """The box drawn on 20 x 20."""
    picture = np.zeros((20, 20), bool)
    x1, y1, x2, y2 = box.astype(int)
    picture[y1:y2, x1:x2] = True
    return picture


def test_overlaps_are_pixels_in_common():
    """Own slow definition: both boxes drawn, pixels of both over pixels of either; exact, a
    quotient of whole numbers."""
    first, second = some(9), some(7)
    wanted = [
        [(pixels(a) & pixels(b)).sum() / (pixels(a) | pixels(b)).sum() for b in second]
        for a in first
    ]
    found = box_iou(tt.from_numpy(first), tt.from_numpy(second))
    assert found.shape == (9, 7) and found.tolist() == wanted
    areas = [pixels(a).sum() for a in first]
    assert box_area(tt.from_numpy(first)).tolist() == areas


def test_corners_of_overlap():
    """By hand: the same box 1, one inside of another its share, touching 0, nothing in nothing."""
    box, inside = [0.0, 0.0, 4.0, 4.0], [1.0, 1.0, 3.0, 3.0]
    beside, empty = [4.0, 0.0, 8.0, 4.0], [9.0, 9.0, 9.0, 9.0]
    found = box_iou(tt.Tensor([box]), tt.Tensor([box, inside, beside, empty]))
    assert found.tolist() == [[1.0, 0.25, 0.0, 0.0]]
    assert np.isnan(box_iou(tt.Tensor([empty]), tt.Tensor([empty])).item())
    assert box_iou(tt.zeros(0, 4), tt.zeros(3, 4)).shape == (0, 3)


def test_the_overlap_has_a_gradient_and_compiles():
    """Closed form: two unit squares shifted by s have (1 - s) / (1 + s), slope -2 / (1 + s)^2."""

    def shifted(s):
        other = tt.stack([s, s * 0, s + 1, s * 0 + 1])[None]
        return box_iou(tt.Tensor([[0.0, 0.0, 1.0, 1.0]]), other)

    s = tt.Tensor(np.float32(0.25), requires_grad=True)
    shifted(s).sum().backward()
    assert s.grad.item() == pytest.approx(-2 / 1.25**2, rel=1e-6)
    assert tt.compile(shifted)(s.detach()).item() == pytest.approx(0.75 / 1.25, rel=1e-6)


@pytest.mark.parametrize("kind", ["xywh", "cxcywh"])
def test_boxes_told_in_another_way(kind):
    """By hand, and the way back; whole numbers and halves are exact."""
    boxes = tt.Tensor([[1.0, 2.0, 4.0, 8.0]])
    wanted = {"xywh": [[1.0, 2.0, 3.0, 6.0]], "cxcywh": [[2.5, 5.0, 3.0, 6.0]]}[kind]
    told = box_convert(boxes, "xyxy", kind)
    assert told.tolist() == wanted
    assert box_convert(told, kind, "xyxy").tolist() == boxes.tolist()
    for between in ("xyxy", "xywh", "cxcywh"):
        through = box_convert(box_convert(told, kind, between), between, kind)
        assert through.tolist() == wanted


def slow_nms(boxes, scores, threshold):
    """Take the best, throw away what overlaps it, again."""
    left = sorted(range(len(boxes)), key=lambda i: (-scores[i], i))
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        overlap = box_iou(tt.from_numpy(boxes[[best]]), tt.from_numpy(boxes)).numpy()[0]
        left = [i for i in left if overlap[i] <= threshold]
    return kept


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 1.0])
def test_the_best_of_what_overlaps_is_kept(threshold):
    """Own slow definition, with equal scores among them; of classes: each class alone."""
    boxes, scores, classes = some(40), RNG.integers(0, 9, 40) / 9, RNG.integers(0, 3, 40)
    given = tt.from_numpy(boxes), tt.from_numpy(scores)
    kept = nms(*given, threshold)
    assert kept.dtype == tt.int64 and kept.tolist() == slow_nms(boxes, scores, threshold)
    wanted = []
    for c in range(3):
        mine = np.flatnonzero(classes == c)
        wanted += [mine[i] for i in slow_nms(boxes[mine], scores[mine], threshold)]
    wanted.sort(key=lambda i: (-scores[i], i))
    assert batched_nms(*given, tt.from_numpy(classes), threshold).tolist() == wanted


def test_no_boxes():
    """Closed form: of nothing, nothing is kept."""
    assert nms(tt.zeros(0, 4), tt.zeros(0), 0.5).tolist() == []


test_mistakes = mistakes(
    (lambda: box_area(tt.zeros(3)), ShapeError, "these are no boxes"),
    (lambda: box_iou(tt.zeros(2, 2, 4), tt.zeros(1, 4)), ShapeError, "one list of boxes"),
    (lambda: nms(tt.zeros(2, 4), tt.zeros(3), 0.5), ShapeError, "boxes and scores do not"),
    (lambda: nms(tt.zeros(2, 4), tt.zeros(2), 1.5), SettingError, "iou_threshold is outside"),
    (lambda: batched_nms(tt.zeros(2, 4), tt.zeros(2), tt.zeros(1), 0.5), ShapeError, "idxs do"),
    (lambda: box_convert(tt.zeros(2, 4), "xyxy", "yxyx"), SettingError, "out_fmt"),
)
