"""views.py: means over mirrored and moved pictures."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.training import mean_over_views

X = np.random.default_rng(0).integers(0, 256, (5, 2, 6, 8), dtype=np.uint8)


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_weights_of_views(shift):
    """Ground truth: np.pad and slices, each view with its weight; of a prediction that tells every
    pixel apart."""
    places = np.random.default_rng(1).standard_normal((2 * 6 * 8, 3))
    asked = []

    def predict(images):
        assert images.dtype == np.uint8 and images.shape == X.shape
        asked.append(images)
        return tt.Tensor(images.reshape(5, -1).astype(float) @ places)

    got = mean_over_views(predict, X, shift)
    padded = np.pad(X, ((0, 0), (0, 0), (shift, shift), (shift, shift)), mode="reflect")
    up, down = padded[:, :, 2 * shift :, 2 * shift :], padded[:, :, :6, :8]
    weighed = [(X, 0.5), (up, 0.25), (down, 0.25)] if shift else [(X, 1.0)]
    want = sum(
        share / 2 * (view.reshape(5, -1).astype(float) @ places)
        for x, share in weighed for view in (x, x[..., ::-1])
    )  # fmt: skip
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-9)
    assert len(asked) == (6 if shift else 2)


def test_errors_are_named():
    """Ground truth: the documented ranges."""
    for shift, error in ((-1, SettingError), (6, ShapeError)):
        with pytest.raises(error):
            mean_over_views(lambda x: x[:, 0, 0, :2], X, shift)
    with pytest.raises(ShapeError, match="does not begin with images"):
        mean_over_views(lambda x: x, X[0])
