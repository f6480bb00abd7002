"""cifar_resnet.py, resnet.py: sizes, shortcuts, names, the error of trained weights."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import models
from tinytorch.base.errors import SettingError
from tinytorch.data import load_cifar10
from tinytorch.models.resnet import Bottleneck, CifarBlock
from tinytorch.storage import safetensors

WEIGHTS = "resnet-cifar10/resnet20-12fca82f.safetensors"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what the weights were trained with


def weights(model) -> int:
    return sum(p.size for p in model.parameters())


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (models.resnet20, 269_722),
        (models.resnet32, 464_154),
        (models.resnet56, 853_018),
        (models.resnet18, 11_689_512),
        pytest.param(models.resnet34, 21_797_672, marks=pytest.mark.slow),
        pytest.param(models.resnet50, 25_557_032, marks=pytest.mark.slow),
    ],
)
def test_numbers_of_weights(make, count):
    """Ground truth: the README of akamaster/pytorch_resnet_cifar10, torchvision's tables."""
    assert weights(make()) == count


@pytest.mark.parametrize("size", [6, 7])
def test_shortcut_thins_out_and_pads(size):
    """Ground truth: a loop over output channels and pixels."""
    x = np.random.default_rng(0).standard_normal((2, 4, size, size)).astype(np.float32)
    half = -(-size // 2)
    slow = np.zeros((2, 8, half, half), np.float32)
    for channel in range(4):
        for row in range(half):
            for column in range(half):
                slow[:, 2 + channel, row, column] = x[:, channel, 2 * row, 2 * column]
    assert np.array_equal(CifarBlock(4, 8, 2).shortcut(tt.Tensor(x)).numpy(), slow)


def test_a_block_without_convolutions_passes_on_its_input():
    """Closed form: relu(x + 0), with weights of zero."""
    block = CifarBlock(3, 3).eval()
    for parameter in (block.conv1.weight, block.conv2.weight):
        with tt.no_grad():
            parameter.zero_()
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 5)).astype(np.float32)
    assert np.array_equal(block(tt.Tensor(x)).detach().numpy(), np.maximum(x, 0))


def test_bottleneck_network_has_torchvisions_names():
    """Ground truth: names of torchvision's resnet50 written by hand."""
    names = list(models.ResNet([1, 1, 1, 1], True, width=4).state_dict())
    assert [n for n in names if n.startswith("layer1.0.") and n.endswith("weight")] == [
        "layer1.0.conv1.weight", "layer1.0.bn1.weight", "layer1.0.conv2.weight",
        "layer1.0.bn2.weight", "layer1.0.conv3.weight", "layer1.0.bn3.weight",
        "layer1.0.downsample.0.weight", "layer1.0.downsample.1.weight",
    ]  # fmt: skip
    assert names[-2:] == ["fc.weight", "fc.bias"]


@pytest.mark.parametrize(
    ("make", "phrase"),
    [
        (lambda: models.cifar_resnet(21), "no network of this depth"),
        (lambda: models.cifar_resnet(2), "depth is not a whole number"),
        (lambda: models.CifarResNet(0), "blocks is not a whole number"),
        (lambda: models.ResNet([2, 2, 2]), "there are four stages"),
        (lambda: models.ResNet([2, 2, 2, 0]), "layers is not a whole number"),
        (lambda: models.ResNet([1, 1, 1, 1], bottleneck=3), "yes or no"),
    ],
)
def test_bad_settings_are_named(make, phrase):
    """Ground truth: the ranges in the docstrings."""
    with pytest.raises(SettingError, match=phrase):
        make()


def trained(folder) -> models.CifarResNet:
    net = models.resnet20()
    # The file was written by a PyTorch that did not count batches; it loads strictly all the same.
    net.load_state_dict(safetensors.load(folder / WEIGHTS))
    return net.eval()


def predictions(net, images: np.ndarray) -> np.ndarray:
    mean, std = (np.array(x, np.float32).reshape(3, 1, 1) for x in (MEAN, STD))

    @tt.compile
    def predict(x):
        with tt.no_grad():
            return net((x - tt.Tensor(mean)) / tt.Tensor(std)).argmax(1)

    batches = (images[i : i + 200] for i in range(0, len(images), 200))
    return np.concatenate([predict(x).numpy() for x in batches])


@pytest.mark.data
def test_trained_weights_load_by_name(official_data):
    """Ground truth: 8.27 % error in the long run; of 200 pictures 10 % is within one deviation."""
    images, labels = load_cifar10(train=False, folder=official_data).take(np.arange(200))
    assert (predictions(trained(official_data), images) == labels).mean() > 0.88


@pytest.mark.data
@pytest.mark.slow
def test_trained_weights_give_their_error_exactly(official_data):
    """Ground truth: 8.27 % of 10,000, measured with PyTorch when the weights were published."""
    images, labels = load_cifar10(train=False, folder=official_data).take(np.arange(10_000))
    assert (predictions(trained(official_data), images) != labels).sum() == 827


def test_blocks_of_one_channel_and_four():
    """Closed form: a bottleneck gives 4 channels for each of its width (He et al. 2016)."""
    assert Bottleneck(3, 5)(tt.ones(2, 3, 8, 8)).shape == (2, 20, 8, 8)
    narrow = models.ResNet([1, 1, 1, 1], width=1)
    assert narrow(tt.ones(2, 3, 32, 32)).shape == (2, 1000)
