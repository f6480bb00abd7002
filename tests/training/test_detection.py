"""detection.py: average precision by hand, and against what cocoapi says."""

import numpy as np
import pytest

import tinytorch as tt
from tests.mistakes import mistakes
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.training import MeanAveragePrecision, average_precision

BOX, BELOW = [0, 0, 10, 10], [0, 4, 10, 14]  # they overlap by 3/7
FAR = [50, 50, 60, 60]


def found(boxes, scores, labels=None) -> list[dict]:
    return [{"boxes": boxes, "scores": scores, "labels": labels or [0] * len(boxes)}]


def known(boxes, labels=None) -> list[dict]:
    return [{"boxes": boxes, "labels": [0] * len(boxes) if labels is None else labels}]


def measured(preds, target, **settings) -> dict:
    metric = MeanAveragePrecision(**settings)
    metric.update(preds, target)
    return metric.compute()


@pytest.mark.parametrize(
    ("method", "wanted"),
    [("voc", 5 / 6), ("voc2007", (6 + 5 * 2 / 3) / 11), ("coco", (51 + 50 * 2 / 3) / 101)],
)
def test_right_wrong_right_of_two(method, wanted):
    """By hand: precision 1 up to a recall of 1/2, 2/3 from there to 1; 6 of 11 and 51 of 101 places
    lie at 1/2 or below."""
    assert average_precision([1, 1 / 2, 2 / 3], [1 / 2, 1 / 2, 1], method) == pytest.approx(wanted)
    preds = found([BOX, FAR, BELOW], [0.9, 0.8, 0.7])
    result = measured(preds, known([BOX, BELOW]), method=method)
    assert result["map"] == pytest.approx(wanted) and result["map_per_class"] == [result["map"]]


def test_nothing_found_nothing_there_and_everything():
    """Closed form: 0, not a number, 1; what is wrong below all that is right costs nothing."""
    assert average_precision([], []) == 0.0
    assert measured(found([], []), known([BOX]))["map"] == 0.0
    nothing = measured(found([BOX], [0.9]), known([]))
    assert np.isnan(nothing["map"]) and nothing["classes"] == []
    preds = found([BELOW, BOX, FAR], [0.5, 0.9, 0.1])
    assert measured(preds, known([BOX, BELOW]))["map"] == 1.0


def test_a_box_is_found_once():
    """By hand: the second detection of a box is wrong, and comes before the right third one."""
    preds = found([BOX, BOX, FAR], [0.9, 0.8, 0.7])
    assert measured(preds, known([BOX, FAR]), method="voc")["map_50"] == pytest.approx(5 / 6)


def test_what_a_second_detection_takes():
    """By hand: it overlaps a box that is taken by 9/11 and a free one by 7/13. COCO gives it the
    free one, VOC says that it is wrong."""
    between = [0, 1, 10, 11]
    preds, target = found([BOX, between], [0.9, 0.8]), known([BOX, BELOW])
    assert measured(preds, target, iou_thresholds=[0.5])["map"] == 1.0
    assert measured(preds, target, iou_thresholds=[0.5], method="voc")["map"] == 0.5
    at_54 = measured(preds, target, iou_thresholds=[0.54])  # 7/13 is 0.538
    assert at_54["map"] == pytest.approx(51 / 101) and np.isnan(at_54["map_50"])


def test_pictures_and_classes_do_not_mix():
    """By hand: the right box in another picture, or of another class, is wrong."""
    target = known([BOX], [1]) + known([FAR], [2])
    assert measured(found([FAR], [0.9], [2]) + found([BOX], [0.8], [1]), target)["map"] == 0.0
    wrong = measured(found([BOX], [0.9], [2]) + found([FAR], [0.8], [2]), target, method="voc")
    assert wrong["classes"] == [1, 2] and wrong["map_per_class"] == [0.0, 0.5]


def test_a_hundred_detections_of_a_class_count():
    """By hand: the right one is the 101st."""
    preds = found([FAR] * 100 + [BOX], list(np.linspace(1, 0.5, 101)))
    assert measured(preds, known([BOX]))["map"] == 0.0


def test_thresholds_of_1():
    """Closed form: a box overlaps itself by 1."""
    assert measured(found([BOX], [0.1]), known([BOX]), iou_thresholds=[1.0])["map"] == 1.0


def pictures() -> tuple[list[dict], list[dict]]:
    """45 detections of 30 boxes of three classes in twelve pictures, by arithmetic."""
    preds, target = [], []
    for i in range(12):
        j, k = np.arange(1 + i % 4), np.arange(2 + i % 5)
        low = np.stack([(i * 7 + j * 23) % 41, (i * 11 + j * 17) % 37], 1)
        sides = np.stack([8 + (i + j * 5) % 9, 9 + (i * 3 + j) % 7], 1)
        target += known(np.concatenate([low, low + sides], 1), (i + j) % 3)
        of = k % len(j)
        near = low[of] + np.stack([k * (i % 3) % 4, (k + i) % 3 - 1], 1)
        size = sides[of] + np.stack([(i + k) % 3, k % 2], 1)
        labels = np.where((i * 5 + k * 3) % 7 == 0, 0, (i + of) % 3)
        boxes = np.concatenate([near, near + size], 1)
        preds += [{"boxes": boxes, "scores": (i * 37 + k * 61) % 101 / 101, "labels": labels}]
    return preds, target


def test_what_cocoapi_says():
    """Ground truth: COCOeval of pycocotools 2.0.11 on these boxes; float64, sums of 101."""
    result = measured(*pictures())
    assert result["map"] == pytest.approx(0.41643467918220395, abs=1e-12)
    assert result["map_50"] == pytest.approx(0.7408022945151658, abs=1e-12)
    assert result["map_75"] == pytest.approx(0.3606432071778607, abs=1e-12)
    wanted = [0.4066666666666666, 0.5697601903047448, 0.2728771805752004]
    assert result["map_per_class"] == pytest.approx(wanted, abs=1e-12)


def test_order_of_pictures_and_kinds_of_arrays():
    """Invariants: another order, one picture at a time, Tensors, and a reset between."""
    preds, target = pictures()
    metric = MeanAveragePrecision()
    metric.update(preds, target)
    wanted = metric.compute()
    metric.reset()
    assert np.isnan(metric.compute()["map"])
    for f, k in zip(preds[::-1], target[::-1], strict=True):
        metric.update([{n: tt.from_numpy(np.asarray(x)) for n, x in f.items()}], [k])
    assert metric.compute() == wanted


test_mistakes = mistakes(
    (lambda: MeanAveragePrecision([]), SettingError, "there are no thresholds"),
    (lambda: MeanAveragePrecision([0.0]), SettingError, "iou_thresholds is outside"),
    (lambda: MeanAveragePrecision(method="area"), SettingError, "method"),
    (lambda: average_precision([1.0], [0.5, 1.0]), ShapeError, "precision and recall do not"),
    (lambda: measured([], known([BOX])), ShapeError, "answers and targets do not"),
    (lambda: measured(known([BOX]), known([BOX])), SettingError, "something is not said"),
    (lambda: measured(found([BOX], [1, 2]), known([BOX])), ShapeError, "boxes, classes and"),
)
