"""Networks that come trained: their files lie in this folder, kept as half-precision numbers.

Knows names, sizes and files; `scripts/train_pretrained` made them, and says how well they do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tinytorch.base.errors import SettingError
from tinytorch.models.classifiers import CNN, MLP
from tinytorch.nn.module import Module
from tinytorch.storage import safetensors
from tinytorch.tensor.elementwise import tanh

FILES = Path(__file__).parent / "files"

# What each is, as it was trained. Inputs are numbers in [0, 1], as the loaders of `data` give them.
NETWORKS: dict[str, Callable[[], Module]] = {
    "xor": lambda: MLP([2, 4, 1], tanh),  # two bits -> a logit, positive for true
    "mnist": lambda: CNN(28, 1, 10, (8, 16)),
    "cifar10": lambda: CNN(32, 3, 10, (16, 32, 64)),
}


def pretrained(name: str) -> Module:
    """A trained network, in evaluation mode.

    Args:
        name: "xor" (two bits (N, 2) -> logit (N, 1)), "mnist" (digits (N, 1, 28, 28) -> (N, 10)) or
            "cifar10" (pictures (N, 3, 32, 32) -> (N, 10)); inputs in [0, 1].

    Raises:
        SettingError: there is none of that name.

    Cost: 170 KB to read at most.

    Source: `scripts/train_pretrained`: right on 4 of 4 cases, 99.34 % of MNIST's and 84.30 % of
    CIFAR-10's test pictures; `pretrained_facts` says so too.

    Example:
        >>> import tinytorch as tt
        >>> bits = tt.Tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        >>> (pretrained("xor")(bits) > 0).tolist()
        [[False], [True], [True], [False]]
    """
    network = NETWORKS[_known(name)]()
    network.load_state_dict(safetensors.load(_file(name)))
    return network.eval()


def pretrained_facts(name: str) -> dict[str, str]:
    """How a trained network was made, and how often it is right on test data.

    Args:
        name: as for `pretrained`.

    Example:
        >>> pretrained_facts("xor")["accuracy"]
        '1.0'
    """
    return safetensors.read(_file(_known(name))).metadata


def _known(name: str) -> str:
    if name not in NETWORKS:
        raise SettingError(
            "there is no trained network of that name",
            got=repr(name),
            rule="one of " + ", ".join(NETWORKS),
            fix='pretrained("mnist")',
        )
    return name


def _file(name: str) -> Path:
    return FILES / f"{name}.safetensors"
