"""Small networks that are exported, and how a C program is made and run."""

import shutil
import subprocess
from functools import lru_cache

import numpy as np
import pytest

import tinytorch as tt
from tinytorch import nn

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, cc")


@lru_cache
def pictures_network():
    """A convolution with batch statistics, pooling, a softmax: 8 x 8 pictures of 3 colours."""
    generator = np.random.default_rng(1)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128, 10), nn.Softmax(),
    ).eval()  # fmt: skip
    state = {
        name: generator.normal(size=value.shape).astype(np.float32) * 0.3
        for name, value in net.state_dict().items()
        if value.dtype == tt.float32
    }
    state = {name: abs(x) + 0.5 if "var" in name else x for name, x in state.items()}
    net.load_state_dict({**net.state_dict(), **state})
    return net


def picture(seed: int = 0) -> tt.Tensor:
    """One input of it."""
    return tt.Tensor(np.random.default_rng(seed).normal(size=(1, 3, 8, 8)).astype(np.float32))


def built(folder, *more: str) -> str:
    """The program of a folder that `native` wrote, compiled without a warning."""
    strict = ["-O1", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    command = ["cc", *strict, "main.c", *(more or ("net.a",)), "-o", "main"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return str(folder / "main")


def run(command: list[str], folder, x: tt.Tensor) -> subprocess.CompletedProcess[str]:
    """What it prints for an input."""
    place = folder / "input.bin"
    place.write_bytes(x.numpy().tobytes())
    return subprocess.run([*command, str(place)], capture_output=True, text=True, check=False)


def numbers(done: subprocess.CompletedProcess[str]) -> np.ndarray:
    """What a program that ended well printed."""
    assert done.returncode == 0, done.stderr
    return np.array(done.stdout.split(), np.float64).astype(np.float32)
