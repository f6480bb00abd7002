"""Networks that come trained: which there are, and how their weights lie in this folder.

Weights are kept as half-precision numbers, or as bytes with a scale for each channel, under the
names that a quantized model's state has; `scripts/train_pretrained` made the files, and the logs in
benchmarks/results say how. Knows networks, names and those files, never the data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tinytorch.base.errors import SettingError
from tinytorch.models.classifiers import CNN, MLP
from tinytorch.models.gpt import GPT, GPTConfig
from tinytorch.nn.module import Module
from tinytorch.nn.quantized import QuantizedWeight
from tinytorch.storage import safetensors
from tinytorch.tensor.elementwise import tanh

FILES = Path(__file__).parent / "files"
NUMBERS, SCALE = ".numbers", ".scale"  # what the two parts of a weight of bytes are called


@dataclass(frozen=True)
class Shipped:
    """A network whose weights are in a file of this folder.

    Args:
        make: an untrained one.
        takes: what goes in and comes out.
        in_bytes: whether weights that are kept as bytes are computed with as bytes; else they
            become floats when the file is read. Convolutions of bytes gain no time where floats
            have Winograd's (docs/log.md).
    """

    make: Callable[[], Module]
    takes: str
    in_bytes: bool = False


NETWORKS: dict[str, Shipped] = {
    "xor": Shipped(lambda: MLP([2, 4, 1], tanh), "two bits (N, 2) -> logit (N, 1)"),
    "mnist": Shipped(
        lambda: CNN(28, 1, 10, (8, 16)), "digits (N, 1, 28, 28) in [0, 1] -> logits (N, 10)"
    ),
    "cifar10": Shipped(
        lambda: CNN(32, 3, 10, (16, 32, 64)),
        "pictures (N, 3, 32, 32) in [0, 1] -> logits (N, 10)",
    ),
    "shakespeare": Shipped(
        lambda: GPT(GPTConfig(
            65, layers=4, heads=4, size=128, length=128, dropout=0.1, positions="rotary",
            norm="rms", mlp="swiglu", bias=False,
        )),
        "numbers of characters (N, T), T <= 128 -> logits (N, T, 65)", in_bytes=True,
    ),
}  # fmt: skip


def pretrained(name: str) -> Module:
    """A trained network, in evaluation mode.

    Args:
        name: "xor" (two bits (N, 2) -> logit (N, 1)), "mnist" (digits (N, 1, 28, 28) -> (N, 10)),
            "cifar10" (pictures (N, 3, 32, 32) -> (N, 10)), inputs in [0, 1]; or "shakespeare", a
            GPT of characters (N, T) -> (N, T, 65), T <= 128, whose weights are bytes
            (`compression.dense` makes floats of them, to train on).

    Raises:
        SettingError: there is none of that name.

    Cost: 1 MB to read at most.

    Source: `scripts/train_pretrained`: right on 4 of 4 cases, 99.38 % of MNIST's and 84.30 % of
    CIFAR-10's test pictures; 1.5869 nats a character of the last tenth of Shakespeare, which was
    held back. `pretrained_facts` says so too.

    Example:
        >>> import tinytorch as tt
        >>> bits = tt.Tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        >>> (pretrained("xor")(bits) > 0).tolist()
        [[False], [True], [True], [False]]
        >>> characters = tt.text.CharacterTokenizer(pretrained_facts("shakespeare")["characters"])
        >>> speaker, prompt = pretrained("shakespeare"), characters.encode("ROMEO")
        >>> next(tt.generation.stream(speaker, prompt, characters, 1, temperature=0))
        ':'
    """
    shipped = NETWORKS[_known(name)]
    arrays = {n: array for n, (array, _) in safetensors.load(_file(name)).items()}
    return unpacked(shipped.make(), arrays, shipped.in_bytes)


def pretrained_facts(name: str) -> dict[str, str]:
    """How a trained network was made, and what it has measured on test data.

    Args:
        name: as for `pretrained`.

    Example:
        >>> pretrained_facts("xor")["accuracy"]
        '1.0'
    """
    return safetensors.read(_file(_known(name))).metadata


# --- how weights lie in a file ---


def packed(network: Module) -> dict[str, np.ndarray]:
    """The arrays that are kept of a network: numbers with a fraction as float16.

    Args:
        network: trained; or what `compression.quantize` made of one: its bytes and their scales are
            kept as they are.

    Example:
        >>> from tinytorch import nn
        >>> {name: (x.shape, x.dtype.name) for name, x in packed(nn.Linear(8, 4)).items()}
        {'weight': ((4, 8), 'float16'), 'bias': ((4,), 'float16')}
    """
    state = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}
    scales = {n.removesuffix(NUMBERS) + SCALE for n in state if n.endswith(NUMBERS)}
    return {
        name: array.astype(np.float16) if array.dtype.kind == "f" and name not in scales else array
        for name, array in state.items()
    }


def unpacked(network: Module, arrays: dict[str, np.ndarray], in_bytes: bool = False) -> Module:
    """A network with the weights that `packed` gave, in evaluation mode.

    Args:
        network: made as the one that was packed, untrained; it is given back.
        arrays: what `packed` gave.
        in_bytes: whether bytes stay bytes: then their layers have a `nn.QuantizedWeight`, and no
            parameter asks for a gradient; else all weights are floats. Default False.

    Raises:
        SettingError, ShapeError: arrays of another network.
    """
    state = dict(arrays)
    for name in [name.removesuffix(NUMBERS) for name in arrays if name.endswith(NUMBERS)]:
        numbers, scale = arrays[name + NUMBERS], arrays[name + SCALE]
        weight = QuantizedWeight.packed(numbers, scale, numbers.shape, "int8", None)
        if in_bytes:
            path, _, attribute = name.rpartition(".")
            setattr(network.get_submodule(path), attribute, weight)
        else:
            del state[name + NUMBERS], state[name + SCALE]
            state[name] = weight.dequantize().numpy()
    network.load_state_dict(state)
    return network.requires_grad_(not in_bytes).eval()


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
