"""Where do numbers come from? Data sets, and loaders that hand them out in batches.

Knows NumPy arrays and files, never tensors.
"""

from tinytorch.base.arguments import explain_all as _explain_all
from tinytorch.base.unknown_names import names_of as _names_of
from tinytorch.data.augmentation import (
    AlternatingFlip,
    ColorJitter,
    Compose,
    Cutout,
    Mixup,
    Normalize,
    RandomCrop,
    RandomFlip,
)
from tinytorch.data.cifar10 import CIFAR10_MEAN, CIFAR10_STD, load_cifar10
from tinytorch.data.dataset import (
    ArrayDataset,
    ConcatDataset,
    Dataset,
    ImageDataset,
    IterableDataset,
    Subset,
    TextWindows,
    random_split,
)
from tinytorch.data.image_files import LoadedImage, load_image
from tinytorch.data.loader import DataLoader
from tinytorch.data.mapped import MappedArray, map_npy
from tinytorch.data.mnist import load_digits, load_fashion_mnist, load_mnist
from tinytorch.data.official import load_tiny_shakespeare
from tinytorch.data.samplers import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetSampler,
    WeightedSampler,
)
from tinytorch.data.scenes import Scenes
from tinytorch.data.stream import Stream

__all__ = [
    "CIFAR10_MEAN",
    "CIFAR10_STD",
    "AlternatingFlip",
    "ArrayDataset",
    "BatchSampler",
    "ColorJitter",
    "Compose",
    "ConcatDataset",
    "Cutout",
    "DataLoader",
    "Dataset",
    "ImageDataset",
    "IterableDataset",
    "LoadedImage",
    "MappedArray",
    "Mixup",
    "Normalize",
    "RandomCrop",
    "RandomFlip",
    "RandomSampler",
    "Sampler",
    "Scenes",
    "SequentialSampler",
    "Stream",
    "Subset",
    "SubsetSampler",
    "TextWindows",
    "WeightedSampler",
    "load_cifar10",
    "load_digits",
    "load_fashion_mnist",
    "load_image",
    "load_mnist",
    "load_tiny_shakespeare",
    "map_npy",
    "random_split",
]

_explain_all(globals(), __all__)
__getattr__ = _names_of("data", lambda: __all__)
