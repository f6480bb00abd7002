"""scenes.py: what is drawn is what is said, decided by seed and number alone."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.data import ArrayDataset, Scenes, load_digits
from tinytorch.data.scenes import INK, cut, resized
from tinytorch.nn import functional as F
from tinytorch.nn.boxes import box_convert, box_iou


def digits(count: int = 60, **settings) -> Scenes:
    return Scenes(load_digits("train"), count, 32, smallest=8, largest=14, **settings)


def corners(things: np.ndarray) -> np.ndarray:
    """The boxes of a scene in pixels, (n, 4)."""
    there = things[things[:, 0] >= 0, 1:] * 32
    return box_convert(tt.Tensor(there), "cxcywh", "xyxy").numpy()


def test_boxes_hold_all_that_is_bright_and_touch_it():
    """Invariants: no bright pixel outside of every box; of a scene of one thing each edge of the
    box has one; corners are whole pixels inside of the picture."""
    pictures, things = digits().take(np.arange(60))
    assert pictures.shape == (60, 1, 32, 32) and things.shape == (60, 4, 5)
    assert pictures.dtype == things.dtype == np.float32
    counts = set()
    for picture, rows in zip(pictures, things, strict=True):
        boxes = corners(rows)
        assert np.allclose(boxes, boxes.round(), atol=1e-4)
        covered = np.zeros((32, 32), bool)
        for x1, y1, x2, y2 in boxes.round().astype(int):
            assert 0 <= x1 < x2 <= 32 and 0 <= y1 < y2 <= 32
            covered[y1:y2, x1:x2] = True
        bright = picture[0] > INK
        assert not (bright & ~covered).any()
        counts.add(len(boxes))
        if len(boxes) == 1:
            assert all(edge.any() for edge in (bright[y1], bright[y2 - 1]))
            assert all(edge.any() for edge in (bright[:, x1], bright[:, x2 - 1]))
    assert counts == {1, 2, 3, 4}


@pytest.mark.parametrize("most", [0.0, 0.3])
def test_boxes_overlap_as_little_as_was_said(most):
    """Ground truth: box_iou; float32 corners are off by less than 1e-6 of a box."""
    largest = 0.0
    for rows in digits(overlap=most).take(np.arange(60))[1]:
        boxes = tt.Tensor(corners(rows))
        overlap = box_iou(boxes, boxes).numpy()
        largest = max(largest, (overlap - np.diag(overlap.diagonal())).max())
    assert largest <= most + 1e-5 and (largest > 0.1) == (most > 0.1)


def test_a_scene_is_decided_by_seed_and_number():
    """Ground truth: the same scene, taken alone, in another order, from more of them."""
    pictures, things = digits().take(np.array([7, 3]))
    for index, picture, rows in zip((7, 3), pictures, things, strict=True):
        alone = digits(500)[index]
        assert np.array_equal(alone[0], picture) and np.array_equal(alone[1], rows)
    assert np.array_equal(digits()[-1][0], digits()[59][0])
    assert not np.array_equal(digits(seed=1)[3][0], pictures[1])


def test_things_are_pictures_of_the_data_set():
    """Ground truth: a data set of two squares, of which one is twice as bright."""
    squares = np.zeros((2, 1, 6, 6), np.float32)
    squares[0, 0, 1:5, 1:5], squares[1] = 0.5, 1.0
    scenes = Scenes(ArrayDataset(squares, np.array([4, 9])), 40, 24, 3, 6, 6, overlap=0.0)
    for picture, rows in zip(*scenes.take(np.arange(40)), strict=True):
        for label, x, y, width, height in rows[rows[:, 0] >= 0]:
            side, bright = {4: (4, 0.5), 9: (6, 1.0)}[int(label)]
            assert (round(width * 24), round(height * 24)) == (side, side)
            left, top = round(x * 24 - side / 2), round(y * 24 - side / 2)
            assert (picture[0, top : top + side, left : left + side] == bright).all()
        assert (rows[rows[:, 0] < 0] == [-1, 0, 0, 0, 0]).all()


@pytest.mark.parametrize("side", [3, 8, 13])
def test_resizing_is_interpolation(side):
    """Ground truth: nn.functional.interpolate, which PyTorch checks; float32, four products."""
    picture = np.random.default_rng(0).random((2, 8, 8)).astype(np.float32)
    wanted = F.interpolate(tt.Tensor(picture[None]), (side, side), mode="bilinear").numpy()[0]
    np.testing.assert_allclose(resized(picture, side), wanted, rtol=0, atol=4 * 2**-24)


def test_what_is_cut():
    """By hand: the bright part; all of a dark picture."""
    picture = np.zeros((1, 5, 5))
    assert cut(picture) is picture
    picture[0, 1, 2] = picture[0, 3, 3] = 1
    assert cut(picture).shape == (1, 3, 2)


@pytest.mark.parametrize(
    ("settings", "phrase"),
    [
        ({"count": 0}, "count"),
        ({"smallest": 20}, "do not fit"),
        ({"largest": 40}, "do not fit"),
        ({"overlap": 1.0}, "overlap is outside"),
        ({"most": 0}, "most"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_settings_are_named(settings, phrase):
    """Ground truth: the ranges in the docstring."""
    given = {"count": 4, "size": 32, "smallest": 8, "largest": 14} | settings
    with pytest.raises(SettingError, match=phrase):
        Scenes(load_digits("train"), **given)


def test_data_without_pictures_are_refused():
    """Ground truth: the rule of the docstring."""
    with pytest.raises(ShapeError, match="no pictures with classes"):
        Scenes(ArrayDataset(np.zeros((3, 5)), np.zeros(3)), 1)[0]
