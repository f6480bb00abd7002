"""Pooling and interpolation with all their options against PyTorch: values, places and gradients.

Eager and compiled, float64: sums of at most a few dozen terms of order 1, so 1e-12 is far above
rounding and far below any wrong window.
"""

import itertools

import numpy as np
import pytest
import torch

import tinytorch as tt
from tinytorch.nn import functional as F

pytestmark = pytest.mark.peer
IMAGES = np.random.default_rng(0).standard_normal((2, 3, 7, 8))
# kernel, stride, padding
WINDOWS = [(2, None, 0), (3, 2, 1), ((3, 2), (2, 3), (1, 0)), (3, (1, 2), 1), (2, 3, 1)]
MAXIMA = [
    (window, {"ceil_mode": up, "dilation": gap, "return_indices": True})
    for window, up, gap in itertools.product(WINDOWS, (False, True), (1, 2, (2, 1)))
]
MEANS = [
    (window, {"ceil_mode": up, "count_include_pad": edge, "divisor_override": by})
    for window, up, edge, by in itertools.product(WINDOWS, (False, True), (False, True), (None, 3))
]
SIZES = [
    ("nearest", {"size": (5, 12)}), ("nearest", {"scale_factor": 1.7}),
    ("nearest-exact", {"size": (3, 11)}), ("nearest-exact", {"scale_factor": (0.6, 2.0)}),
    ("bilinear", {"size": (5, 12)}), ("bilinear", {"size": (5, 12), "align_corners": True}),
    ("bilinear", {"scale_factor": 1.7}),
    ("bilinear", {"scale_factor": 1.7, "recompute_scale_factor": True}),
    ("bicubic", {"size": (5, 12)}), ("bicubic", {"scale_factor": 0.6, "align_corners": True}),
    ("area", {"size": (3, 5)}),
]  # fmt: skip


def parts(x) -> tuple:
    return x if isinstance(x, tuple) else (x,)


def together(name: str, cases, x: np.ndarray) -> None:
    """Every case on both sides; one compiled program for all of them."""
    ours, theirs = getattr(F, name), getattr(torch.nn.functional, name)

    def slope(x, window, options):
        return tt.grad(lambda x: (parts(ours(x, *window, **options))[0] ** 2).sum())(x)

    def ask(x):
        found = []
        for window, options in cases:
            found += [parts(ours(x, *window, **options)), slope(x, window, options)]
        return found

    wanted = []
    for window, options in cases:
        given = torch.tensor(x, requires_grad=True)
        out = parts(theirs(given, *window, **options))
        wanted.append(out)
        wanted.append(torch.autograd.grad((out[0] ** 2).sum(), given)[0])
    for asked in (ask, tt.compile(ask)):
        found = asked(tt.tensor(x))
        for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
            for y, z in zip(parts(a), parts(b), strict=True):
                label = f"{name} {cases[i // 2]}"
                assert y.dtype.name == str(z.dtype).removeprefix("torch."), label
                np.testing.assert_allclose(
                    y.numpy(), z.detach().numpy(), 1e-12, 1e-12, err_msg=label
                )


@pytest.mark.parametrize("shape", [(2, 3, 7, 8), (3, 7, 8)])
def test_largest_of_windows(shape):
    """Ground truth: PyTorch, with and without a batch."""
    together("max_pool2d", MAXIMA, IMAGES.reshape(-1)[: np.prod(shape)].reshape(shape))


def test_means_of_windows():
    """Ground truth: PyTorch."""
    together("avg_pool2d", MEANS, IMAGES)


def test_windows_of_signals():
    """Ground truth: PyTorch, settings as numbers and as (1,)-tuples."""
    x = IMAGES[:, :, 0]
    cases = [((k, s, p), {"ceil_mode": up}) for (k, s, p), up in itertools.product(
        [(2, None, 0), (3, 2, 1), ((3,), (2,), (1,))], (False, True)
    )]  # fmt: skip
    together("avg_pool1d", cases, x)
    together("max_pool1d", [(w, o | {"dilation": 2, "return_indices": True}) for w, o in cases], x)


def test_images_of_other_sizes():
    """Ground truth: PyTorch."""
    together("interpolate", [((), {"mode": mode, **how}) for mode, how in SIZES], IMAGES)


def test_signals_and_volumes_of_other_sizes():
    """Ground truth: PyTorch."""
    cases = [((), {"mode": "linear", "size": n}) for n in (3, 13)]
    together("interpolate", [*cases, ((), {"mode": "nearest", "scale_factor": 2})], IMAGES[:, :, 0])
    volumes = IMAGES.reshape(2, 1, 3, 7, 8)
    modes = ("trilinear", "nearest", "area")
    together("interpolate", [((), {"mode": m, "size": (2, 5, 9)}) for m in modes], volumes)
