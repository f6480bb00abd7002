"""Where do numbers come from? Data sets, and loaders that hand them out in batches.

Knows NumPy arrays and files, never tensors.
"""

from tinytorch.data.dataset import ArrayDataset, Dataset, ImageDataset
from tinytorch.data.digits import load_digits
from tinytorch.data.loader import DataLoader
from tinytorch.data.mnist import load_mnist
from tinytorch.data.text import CharacterVocabulary, TextWindows, load_tiny_shakespeare

__all__ = [
    "ArrayDataset",
    "CharacterVocabulary",
    "DataLoader",
    "Dataset",
    "ImageDataset",
    "TextWindows",
    "load_digits",
    "load_mnist",
    "load_tiny_shakespeare",
]
