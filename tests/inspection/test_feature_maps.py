"""feature_maps.py: filters and maps of layers whose weights are known."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import compression, nn
from tinytorch.base.errors import ArgumentTypeError, SettingError, ShapeError
from tinytorch.inspection import draw_feature_maps, draw_filters, feature_maps, filters


def conv(weight) -> nn.Conv2d:
    """A convolution with these weights and no bias."""
    weight = np.asarray(weight, np.float32)
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], bias=False)
    layer.load_state_dict({"weight": weight})
    return layer


def test_filters_are_the_weights_spread():
    """Closed form: (w - least) / (largest - least) of each filter, or of each of its channels."""
    rng = np.random.default_rng(0)
    for channels in (1, 2, 3):
        w = rng.normal(size=(4, channels, 3, 3)).astype(np.float32)
        images = w if channels != 2 else w.reshape(8, 1, 3, 3)
        low, high = (f(images, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
        assert np.allclose(filters(conv(w)), (images - low) / (high - low), atol=1e-6)


def test_weights_of_few_bits_and_of_linear_layers_have_filters():
    """Ground truth: the float weights; a byte is wrong by half a step of 1 / 254 of the range."""
    layer = nn.Linear(16, 3)
    plain = filters(layer, (1, 4, 4))
    assert plain.shape == (3, 1, 4, 4)
    small = compression.quantize(nn.Sequential(layer))[0]
    assert np.abs(filters(small, (1, 4, 4)) - plain).max() < 4 / 254


@pytest.mark.parametrize(
    ("call", "kind", "phrase"),
    [
        (lambda: filters(nn.ReLU()), ArgumentTypeError, "no weight"),
        (lambda: filters(nn.Linear(4, 2)), ShapeError, "no images"),
        (lambda: filters(nn.Linear(4, 2), (1, 3, 3)), ShapeError, "no images"),
        (lambda: feature_maps(nn.Linear(4, 2), np.zeros((1, 1, 2, 2))), SettingError, "no parts"),
    ],
)
def test_layers_without_images_are_named(call, kind, phrase):
    """Ground truth: the docstrings."""
    with pytest.raises(kind, match=phrase):
        call()


def network() -> nn.Sequential:
    double, edge = [[[[2.0]]]], [[[[1.0, -1.0], [0.0, 0.0]]]]
    return nn.Sequential(conv(double), nn.Dropout(0.5), conv(edge), nn.Flatten())


def test_maps_are_what_the_layers_give():
    """Closed form: twice the image; then left minus right. Dropout does nothing, nor does the mode
    change; no hook stays."""
    net, image = network().train(), np.arange(9.0).reshape(1, 1, 3, 3)
    found = feature_maps(net, image)
    assert list(found) == ["0", "2"] and net.training
    assert np.array_equal(found["0"], 2 * image)
    assert np.array_equal(found["2"], np.full((1, 1, 2, 2), -2.0))
    assert list(feature_maps(net, tt.Tensor(image), [net[2]])) == ["2"]
    assert list(feature_maps(net, image, ["2", "0"])) == ["0", "2"]
    assert not any(part._hooks.after for part in net.modules() if part._hooks)


def test_parts_without_maps_are_named():
    """Ground truth: the docstring."""
    net, image = network(), np.zeros((1, 1, 3, 3))
    with pytest.raises(ShapeError, match="what this layer gives are no images"):
        feature_maps(net, image, ["3"])
    with pytest.raises(SettingError, match="no such part"):
        feature_maps(net, image, ["9"])
    with pytest.raises(SettingError, match="no parts of the model"):
        feature_maps(net, image, [nn.Conv2d(1, 1, 1)])
    net.spare = nn.Conv2d(1, 1, 1)
    with pytest.raises(SettingError, match="does not call this part"):
        feature_maps(net, image)


def test_maps_are_drawn_beside_their_image():
    """Laid out by hand: the image, one map enlarged twice, one column empty, lines between."""
    image = np.array([[0.0, 0.5], [0.5, 1.0]]).reshape(1, 1, 2, 2)
    drawn = draw_feature_maps(image, {"pool": np.full((1, 1, 1, 1), 3.0)}, columns=3)
    assert drawn.tolist() == [[0, 128, 0, 0, 0, 0, 0, 0], [128, 255, 0, 0, 0, 0, 0, 0]]
    maps = {"pool": np.array([[[[1.0, 2.0]]]])}
    assert draw_feature_maps(image, maps, columns=2).tolist() == [
        [0, 128, 0, 0, 255], [128, 255, 0, 0, 255],
    ]  # fmt: skip
    small = np.array([[0.0, 51.0], [102.0, 255.0]])
    drawn = draw_feature_maps(np.zeros((1, 1, 4, 4)), {"pool": small[None, None]}, columns=2)
    assert np.array_equal(drawn[:, 5:], np.kron(small, np.ones((2, 2))))


def test_filters_are_drawn_enlarged():
    """Laid out by hand: two filters of one weight each become 2 x 2 pixels."""
    drawn = draw_filters(np.array([0.0, 1.0]).reshape(2, 1, 1, 1), scale=2)
    assert drawn.tolist() == [[0, 0, 0, 255, 255]] * 2
