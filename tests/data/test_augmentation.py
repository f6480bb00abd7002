"""Augmentation of whole batches: the same as a slow loop over samples with the same choices."""

import numpy as np
import pytest

from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.data import Compose, Cutout, RandomCrop, RandomFlip, Stream
from tinytorch.data.augmentation import mirrored
from tinytorch.data.stream import ORDER

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (40, 3, 9, 7), dtype=np.uint8)
LABELS = np.arange(40)


def images(dtype):
    return BYTES.astype(dtype) if dtype == np.uint8 else (BYTES / 255).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("size", "padding"), [(7, 0), (9, 3), ((5, 6), (0, 2)), ((9, 7), 0)])
def test_crop(size, padding, dtype):
    """Ground truth: np.pad and a slice of each image, at places drawn from an equal stream."""
    x = images(dtype)
    cropped, labels = RandomCrop(size, padding)((x, LABELS), Stream(3))
    (h, w), (p, q) = np.broadcast_to(size, 2), np.broadcast_to(padding, 2)
    stream = Stream(3)
    rows = stream.whole(9 + 2 * p - h + 1, 40)
    columns = stream.whole(7 + 2 * q - w + 1, 40)
    for i in range(40):
        padded = np.pad(x[i], ((0, 0), (p, p), (q, q)))
        want = padded[:, rows[i] : rows[i] + h, columns[i] : columns[i] + w]
        assert np.array_equal(cropped[i], want)
    assert cropped.dtype == dtype and labels is LABELS


def test_every_place_of_a_crop_is_reached():
    """Ground truth: counting: (2 p + 1)**2 places, each about equally often."""
    x = np.zeros((9000, 1, 3, 3), np.uint8)
    x[:, 0, 1, 1] = 1
    (cropped,) = RandomCrop(3, padding=1)((x,), Stream(1))
    counts = cropped.sum(axis=0)[0]
    # 1000 expected each; six standard deviations of a binomial count are 179
    assert counts.sum() == 9000 and (np.abs(counts.astype(int) - 1000) < 179).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_flip(dtype):
    """Ground truth: a loop over images with the choices of an equal stream."""
    x = images(dtype)
    (flipped,) = RandomFlip(0.3)((x,), Stream(4))
    chosen = Stream(4).chance(0.3, 40)
    assert 0 < chosen.sum() < 40
    for i in range(40):
        assert np.array_equal(flipped[i], x[i, :, :, ::-1] if chosen[i] else x[i])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, bool, np.uint16, np.float64])
@pytest.mark.parametrize("width", [1, 7, 8, 32])
def test_mirrored(width, dtype):
    """Ground truth: a negative step; widths that are whole words and others."""
    x = RNG.integers(0, 2 if dtype is bool else 100, (3, 2, 4, width)).astype(dtype)
    assert np.array_equal(mirrored(x), x[..., ::-1]) and mirrored(x).dtype == dtype
    assert np.array_equal(mirrored(x[:, :, ::2]), x[:, :, ::2, ::-1])


@pytest.mark.parametrize("size", [1, 4, 30])
def test_cutout(size):
    """Ground truth: a loop over images and pixels."""
    x = images(np.float32) + 1
    (cut,) = Cutout(size)((x,), Stream(5))
    stream = Stream(5)
    rows, columns = stream.whole(9, 40), stream.whole(7, 40)
    for i in range(40):
        top, left = rows[i] - size // 2, columns[i] - size // 2
        for r in range(9):
            for c in range(7):
                inside = top <= r < top + size and left <= c < left + size
                assert np.array_equal(
                    cut[i, :, r, c], 0 * x[i, :, r, c] if inside else x[i, :, r, c]
                )


@pytest.mark.parametrize("transform", [RandomCrop(5, 2), RandomFlip(), Cutout(3)])
def test_repeated_and_nothing_is_changed(transform):
    """Ground truth: equal streams give equal batches, others not; the batch given stays."""
    x = images(np.float32)
    before = x.copy()
    first, again, other = (transform((x,), Stream(s, 1, 2))[0] for s in (8, 8, 9))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.array_equal(x, before)
    assert transform((x[:0],), Stream())[0].shape[0] == 0


def test_compose():
    """Ground truth: the transforms by hand, one after the other on one stream."""
    crop, flip = RandomCrop(5, 2), RandomFlip()
    stream = Stream(6)
    want = flip(crop((BYTES, LABELS), stream), stream)
    got = Compose([crop, flip])((BYTES, LABELS), Stream(6))
    assert np.array_equal(got[0], want[0])
    assert not np.array_equal(got[0], crop((BYTES,), Stream(6, purpose=ORDER))[0])


def test_bad_settings_are_named():
    """Ground truth: the documented ranges."""
    with pytest.raises(SettingError, match="RandomCrop: size"):
        RandomCrop(0)
    with pytest.raises(SettingError, match="RandomCrop: padding"):
        RandomCrop(3, -1)
    with pytest.raises(SettingError, match="RandomFlip: probability"):
        RandomFlip(1.5)
    with pytest.raises(SettingError, match="Cutout: size"):
        Cutout(0)
    with pytest.raises(SettingError, match="not a transform"):
        Compose([RandomFlip(), 3])


def test_bad_batches_are_named():
    """Ground truth: images (B, C, H, W) first, at least as large as the window."""
    for batch in [(), (LABELS,), (BYTES[:, 0],)]:
        with pytest.raises(ShapeError, match="does not begin with images"):
            RandomFlip()(batch, Stream())
    with pytest.raises(ShapeError, match="larger than the image"):
        RandomCrop(8)((BYTES,), Stream())
