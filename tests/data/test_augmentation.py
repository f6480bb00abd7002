"""Augmentation: crop, flip, cutout; jitter, normalisation, mixup."""

import numpy as np
import pytest

from tinytorch.base.errors import DataError, SettingError, ShapeError
from tinytorch.data import (
    AlternatingFlip,
    ColorJitter,
    Compose,
    Cutout,
    Mixup,
    Normalize,
    RandomCrop,
    RandomFlip,
    Stream,
)
from tinytorch.data.augmentation import mirrored, mirrored_around
from tinytorch.data.stream import ORDER

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (40, 3, 9, 7), dtype=np.uint8)
LABELS = np.arange(40)


def images(dtype):
    return BYTES.astype(dtype) if dtype == np.uint8 else (BYTES / 255).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("size", "padding"), [(7, 0), (9, 3), ((5, 6), (0, 2)), ((9, 7), 0)])
@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_crop(size, padding, dtype, mode):
    """Ground truth: np.pad and a slice of each image, at places drawn from an equal stream."""
    x = images(dtype)
    cropped, labels = RandomCrop(size, padding, mode)((x, LABELS), Stream(3))
    (h, w), (p, q) = np.broadcast_to(size, 2), np.broadcast_to(padding, 2)
    stream = Stream(3)
    rows = stream.whole(9 + 2 * p - h + 1, 40)
    columns = stream.whole(7 + 2 * q - w + 1, 40)
    for i in range(40):
        padded = np.pad(x[i], ((0, 0), (p, p), (q, q)), mode=mode)
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


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_flips_in_turns(dtype):
    """Closed form: in two passes each image is seen once as it is and once mirrored, in four twice;
    about half begin mirrored, whatever batch they are in; another seed draws others."""
    x, flip = images(dtype), AlternatingFlip()
    passes = [flip((x, LABELS), Stream(s, epoch=s))[0] for s in range(4)]
    first = (passes[0] == x[..., ::-1]).all(axis=(1, 2, 3))
    for i, seen in enumerate(passes):
        want = np.where((first ^ (i % 2 == 1))[:, None, None, None], x[..., ::-1], x)
        assert np.array_equal(seen, want) and seen.dtype == dtype
    assert 8 <= first.sum() <= 32  # 40 tosses: six standard deviations are 19, four 12
    (part,) = flip((x[7:9],), Stream(5, epoch=0))
    assert np.array_equal(part, passes[0][7:9])
    assert not np.array_equal(AlternatingFlip(1)((x,), Stream())[0], passes[0])


def test_mirrors_around():
    """Ground truth: by hand; more than there is beside the edge is refused."""
    x = np.array([[[[1, 2, 3], [4, 5, 6]]]])
    assert mirrored_around(x, 1, 1)[0, 0].tolist() == [
        [5, 4, 5, 6, 5], [2, 1, 2, 3, 2], [5, 4, 5, 6, 5], [2, 1, 2, 3, 2],
    ]  # fmt: skip
    for sides in ((2, 1), (1, 3)):
        with pytest.raises(ShapeError, match="too small to be mirrored"):
            mirrored_around(x, *sides)


@pytest.mark.parametrize("transform", [
    RandomCrop(5, 2), RandomCrop(5, 2, "reflect"), RandomFlip(), Cutout(3),
])  # fmt: skip
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
    with pytest.raises(SettingError, match="no such padding_mode"):
        RandomCrop(3, 1, "edge")
    with pytest.raises(SettingError, match="AlternatingFlip: seed"):
        AlternatingFlip(-1)
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
        with pytest.raises(ShapeError, match="does not begin with images"):
            AlternatingFlip()(batch, Stream())
    with pytest.raises(ShapeError, match="larger than the image"):
        RandomCrop(8)((BYTES,), Stream())


# --- Colours, scale and mixing: closed forms with the choices of an equal stream ---

COLOURS = np.random.default_rng(1)
COLOUR_BYTES = COLOURS.integers(0, 256, (12, 3, 4, 5), dtype=np.uint8)
X = (COLOUR_BYTES / 255).astype(np.float32)
EPS = np.finfo(np.float32).eps


@pytest.mark.parametrize("x", [COLOUR_BYTES, X], ids=["bytes", "numbers"])
def test_normalize(x):
    """Ground truth: (x - mean) / std in float64."""
    mean, std = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.25, 0.5])
    (out,) = Normalize(mean, std)((x,), Stream())
    want = (COLOUR_BYTES / 255 - mean.reshape(3, 1, 1)) / std.reshape(3, 1, 1)
    # three roundings of numbers up to max |x / std| = 5 and their difference
    assert out.dtype == np.float32 and np.abs(out - want).max() <= 3 * 5 * EPS


def test_normalize_without_settings_makes_numbers():
    """Ground truth: byte / 255; numbers stay."""
    assert np.abs(Normalize()((COLOUR_BYTES,), Stream())[0] - COLOUR_BYTES / 255).max() <= EPS
    assert np.array_equal(Normalize()((X,), Stream())[0], X)


def grey(x):
    return (x * np.array([0.2989, 0.587, 0.114]).reshape(1, 3, 1, 1)).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("setting", ["brightness", "contrast", "saturation"])
def test_one_colour_step(setting):
    """Ground truth: the documented formula in float64."""
    (out,) = ColorJitter(**{setting: 0.4})((X, np.arange(12)), Stream(2))[:1]
    f = Stream(2).uniform(12, 0.6, 1.4).reshape(12, 1, 1, 1)
    toward = {
        "brightness": 0.0,
        "contrast": grey(X).mean(axis=(1, 2, 3), keepdims=True),
        "saturation": grey(X),
    }[setting]
    want = np.clip(f * X + (1 - f) * toward, 0, 1)
    # a sum of 20 rounded numbers below 1.4, then two products and a sum
    assert out.dtype == np.float32 and np.abs(out - want).max() <= 1.4 * 24 * EPS


def test_colours_are_never_turned_round():
    """Ground truth: a factor is not negative, however far it may reach: white stays above black."""
    x = np.broadcast_to(np.array([0.0, 1.0]), (200, 3, 1, 2))
    (out,) = ColorJitter(0, 3.0)((x,), Stream(1))
    assert (out[..., 1] >= out[..., 0]).all()


def test_all_colour_steps_in_order():
    """Ground truth: three jitters of one setting each, on one stream."""
    stream = Stream(3)
    (want,) = ColorJitter(0.5)((X,), stream)
    (want,) = ColorJitter(0, 0.5)((want,), stream)
    (want,) = ColorJitter(0, 0, 0.5)((want,), stream)
    assert np.array_equal(ColorJitter(0.5, 0.5, 0.5)((X,), Stream(3))[0], want)


def test_grey_images():
    """Ground truth: brightness and contrast need no colours; saturation does."""
    assert ColorJitter(0.5, 0.5)((X[:, :1],), Stream())[0].shape == (12, 1, 4, 5)
    with pytest.raises(ShapeError, match="saturation needs colours"):
        ColorJitter(saturation=0.5)((X[:, :1],), Stream())


def test_mixup():
    """Ground truth: a loop over images; share and partner from an equal stream."""
    labels = np.arange(12) % 4
    x, y = Mixup(0.4, classes=4)((X, labels), Stream(4))
    stream = Stream(4)
    share, other = stream.beta(0.4, 0.4), stream.permutation(12)
    assert 0 < share < 1
    for i in range(12):
        want = share * X[i] + (1 - share) * X[other[i]]
        assert np.abs(x[i] - want).max() <= 2 * EPS  # the share and the sum are rounded
        row = np.zeros(4)
        row[labels[i]] += share
        row[labels[other[i]]] += 1 - share
        assert np.abs(y[i] - row).max() <= 2 * EPS
    assert x.dtype == y.dtype == np.float32


@pytest.mark.parametrize(
    "make",
    [
        lambda: Normalize(np.nan, 1),
        lambda: Normalize(0, 0),
        lambda: Normalize([], 1),
        lambda: ColorJitter(-0.1),
        lambda: Mixup(0, 10),
        lambda: Mixup(0.2, 1),
    ],
)
def test_bad_settings_of_colour_are_named(make):
    """Ground truth: the documented ranges."""
    with pytest.raises(SettingError, match="is (outside its range|not a whole number|empty)"):
        make()


def test_bad_batches_of_colour_are_named():
    """Ground truth: as many settings as channels; labels that are classes."""
    with pytest.raises(ShapeError, match="channels do not fit"):
        Normalize([0.5, 0.5], 1)((X,), Stream())
    with pytest.raises(ShapeError, match="images and labels"):
        Mixup(0.2, 10)((X,), Stream())
    with pytest.raises(DataError, match="not a class number"):
        Mixup(0.2, 10)((X, np.full(12, 10)), Stream())


def test_the_kept_factors_are_those_of_the_images_at_hand():
    """Ground truth: one normalizer for each kind of image; the last factors are kept."""
    rng = np.random.default_rng(0)
    small, large = (rng.integers(0, 256, (2, 3, n, n)).astype(np.uint8) for n in (2, 4))
    one = Normalize([0.5, 0.25, 0.0], [0.5, 1.0, 2.0])
    for images in (small, small, large, small.astype(np.float32), small, large):
        (found,) = one((images,), Stream())
        (expected,) = Normalize([0.5, 0.25, 0.0], [0.5, 1.0, 2.0])((images,), Stream())
        assert found.shape == images.shape and np.array_equal(found, expected)
