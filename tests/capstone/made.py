"""A challenge so small that all of it takes seconds: digits by an MLP of a few neurons."""

from dataclasses import replace

from tinytorch import capstone, nn
from tinytorch.models import MLP


def network():
    return nn.Sequential(MLP([64, 64, 10]))


SMALL = replace(
    capstone.DIGITS,
    name="small",
    title="Small Digits",
    network=network,
    epochs=12,
    again=8,
    lr=1e-2,
    pictures=1024,
    tests=200,
    calibration=64,
)
