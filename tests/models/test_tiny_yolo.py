"""tiny_yolo.py: the loss by its formula, boxes out of answers, scenes of digits are learned."""

import numpy as np
import pytest

import tinytorch as tt
from tests.mistakes import mistakes
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.data import Scenes, load_digits
from tinytorch.models import TinyYOLO, yolo_boxes, yolo_detections, yolo_loss
from tinytorch.models.tiny_yolo import PRIOR
from tinytorch.training import MeanAveragePrecision

RNG = np.random.default_rng(0)
ROWS, COLUMNS, K = 3, 4, 2
# two pictures: two things in one cell and one in the last; one thing
THINGS = np.array([
    [[1, 0.30, 0.40, 0.2, 0.5], [0, 0.45, 0.60, 0.1, 0.1], [0, 0.99, 0.99, 0.3, 0.25]],
    [[1, 0.05, 0.95, 0.4, 0.3], [-1, 0, 0, 0, 0], [-1, 0, 0, 0, 0]],
])  # fmt: skip


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def slow_loss(output: np.ndarray, target: np.ndarray) -> float:
    """The docstring's sums, a thing and a cell at a time."""
    total = 0.0
    for t, things in zip(output, target, strict=True):
        full = set()
        for label, x, y, w, h in things[things[:, 0] >= 0]:
            column, row = int(x * COLUMNS), int(y * ROWS)
            full.add((row, column))
            at = t[:, row, column]
            off = [
                sigmoid(at[0]) - (x * COLUMNS - column), sigmoid(at[1]) - (y * ROWS - row),
                at[2] - np.log(w / PRIOR), at[3] - np.log(h / PRIOR),
            ]  # fmt: skip
            total += 5 * sum(o * o for o in off)
            total += np.log(np.exp(at[5:]).sum()) - at[5 + int(label)]
        for row in range(ROWS):
            for column in range(COLUMNS):
                p = sigmoid(t[4, row, column])
                total += -np.log(p) if (row, column) in full else -0.5 * np.log(1 - p)
    return total / len(output)


def answer() -> np.ndarray:
    return RNG.standard_normal((2, 5 + K, ROWS, COLUMNS))


def test_the_loss_is_its_formula():
    """Own slow definition in float64; compiled, in float32 to the rounding of 100 terms."""
    output = answer()
    wanted = slow_loss(output, THINGS)
    x, y = tt.from_numpy(output), tt.from_numpy(THINGS)
    assert yolo_loss(x, y).item() == pytest.approx(wanted, rel=1e-12)
    small = x.astype("float32"), y.astype("float32")
    assert tt.compile(yolo_loss)(*small).item() == pytest.approx(wanted, rel=100 * 2.0**-24)


def test_the_gradient_of_the_loss():
    """Finite differences in float64, in three directions."""
    output, step = answer(), 1e-6
    x = tt.from_numpy(output)
    x.requires_grad = True
    yolo_loss(x, tt.from_numpy(THINGS)).backward()
    for _ in range(3):
        v = RNG.standard_normal(output.shape)
        ends = [slow_loss(output + s * step * v, THINGS) for s in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * step)
        assert (x.grad.numpy() * v).sum() == pytest.approx(slope, rel=1e-6, abs=1e-7)


def right_answer(things: np.ndarray) -> np.ndarray:
    """The answer that says these things alone, with logits of 12."""
    output = np.zeros((len(things), 5 + K, ROWS, COLUMNS))
    output[:, 4] = -12
    for t, rows in zip(output, things, strict=True):
        for label, x, y, w, h in rows[rows[:, 0] >= 0]:
            column, row = int(x * COLUMNS), int(y * ROWS)
            dx, dy = x * COLUMNS - column, y * ROWS - row
            t[:, row, column] = [
                np.log(dx / (1 - dx)), np.log(dy / (1 - dy)), np.log(w / PRIOR),
                np.log(h / PRIOR), 12, *(12 * (np.arange(K) == label)),
            ]  # fmt: skip
    return output


def test_a_right_answer_has_no_loss_and_gives_the_boxes():
    """Closed form: what is left is logits of 12 in place of infinite ones, e^-12 each; boxes to the
    rounding of float64."""
    things = THINGS[:, [0, 2]]
    output = tt.from_numpy(right_answer(things))
    cells = 2 * ROWS * COLUMNS
    assert 0 < yolo_loss(output, tt.from_numpy(things)).item() < cells * np.exp(-12)
    known = yolo_boxes(tt.from_numpy(things), (60, 80))
    for found, wanted, rows in zip(yolo_detections(output, (60, 80)), known, things, strict=True):
        rows = rows[rows[:, 0] >= 0]
        low = (rows[:, 1:3] - rows[:, 3:] / 2) * [80, 60]  # by hand
        np.testing.assert_allclose(wanted["boxes"].numpy()[:, :2], low, rtol=1e-12, atol=1e-12)
        order, place = (np.argsort(x["boxes"].numpy()[:, 0]) for x in (found, wanted))
        np.testing.assert_allclose(
            found["boxes"].numpy()[order], wanted["boxes"].numpy()[place], rtol=1e-12
        )
        assert found["labels"].numpy()[order].tolist() == rows[place, 0].tolist()
        assert wanted["labels"].tolist() == rows[:, 0].tolist()
        assert (found["scores"].numpy() > 1 - 2.1 * np.exp(-12)).all()


def test_what_is_unsure_or_said_twice_goes():
    """By hand: of two cells that say nearly the same box the surer one stays; a score of 1/4."""
    output = np.zeros((1, 6, 1, 2))
    output[0, 0] = [8, -8]  # both centres at the border between the cells
    output[0, 4] = [2, 1]
    found = yolo_detections(tt.from_numpy(output), (8, 16))[0]
    assert found["scores"].numpy().round(6).tolist() == [round(sigmoid(2), 6)]
    output[0, 4] = -np.log(3)
    assert len(yolo_detections(tt.from_numpy(output), (8, 16), 0.26)[0]["scores"]) == 0
    both = yolo_detections(tt.from_numpy(output), (8, 16), 0.24, nms_thresh=1.0)[0]
    assert len(both["labels"]) == 2
    one = yolo_detections(tt.from_numpy(output), (8, 16), 0.24, 1.0, detections_per_img=1)[0]
    assert one["boxes"].shape == (1, 4) and one["labels"].dtype == tt.int64


def test_no_box_is_larger_than_the_picture():
    """Closed form: side PRIOR exp(t), at most 1; no overflow where t is 1000."""
    output = np.full((1, 6, 1, 1), 1000.0)
    assert yolo_detections(tt.from_numpy(output), (8, 8))[0]["boxes"].tolist() == [[4, 4, 12, 12]]


def test_scenes_of_digits_are_learned():
    """Invariant: what is in 16 scenes that were seen 90 times is found again; an untrained network
    finds nothing."""
    scenes = Scenes(load_digits("train"), 16, 32, most=2, smallest=12, largest=18)
    pictures, things = scenes.take(np.arange(16))
    tt.manual_seed(0)
    model = TinyYOLO(widths=(8, 16, 32, 32))
    optimizer = tt.optim.AdamW(model.parameters(), lr=0.01)

    @tt.compile
    def step(x, y):
        loss = yolo_loss(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    before = precision(model, pictures, things)
    for _ in range(90):
        step(tt.Tensor(pictures), tt.Tensor(things))
    assert before < 0.05 and precision(model, pictures, things) > 0.9


def precision(model, pictures, things) -> float:
    """mAP at an overlap of a half."""
    metric = MeanAveragePrecision([0.5])
    with tt.no_grad():
        found = yolo_detections(model.eval()(tt.Tensor(pictures)), (32, 32))
    model.train()
    metric.update(found, yolo_boxes(things, 32))
    return metric.compute()["map"]


test_mistakes = mistakes(
    (lambda: TinyYOLO(widths=(8, 8)), SettingError, "too few convolutions"),
    (lambda: TinyYOLO(classes=0), SettingError, "classes"),
    (lambda: yolo_loss(tt.zeros(2, 7, 3, 4), tt.zeros(2, 4)), ShapeError, "output and target"),
    (lambda: yolo_loss(tt.zeros(2, 5, 3, 4), tt.zeros(2, 1, 5)), ShapeError, "output and tar"),
    (lambda: yolo_boxes(tt.zeros(2, 5), 8), ShapeError, "these are no things"),
    (lambda: yolo_detections(tt.zeros(2, 7), (8, 8)), ShapeError, "no answer of a TinyYOLO"),
    (lambda: yolo_detections(tt.zeros(1, 7, 1, 1), (8, 8), 2.0), SettingError, "score_thresh"),
    (lambda: yolo_detections(tt.zeros(1, 7, 1, 1), (0, 8)), SettingError, "size"),
)
