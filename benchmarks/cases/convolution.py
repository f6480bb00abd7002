"""Each convolution of the CNN and of ResNet-20 by itself, in its three directions.

Pictures, cotangents and weights lie in memory as they do inside a network: channels innermost on
both sides. So a row has no copies into another layout, which a network would not make either.
"""

from __future__ import annotations

import numpy as np

from benchmarks.cases import Side, cnn, numbers, resnet

TITLE = "convolutions of CNN and ResNet-20: forward, gradient of the input, of the weight"
DIRECTIONS = ("forward", "input gradient", "weight gradient")
PADDING, WINDOW = 1, 3


def shapes() -> dict[str, tuple[int, int, int, int, int]]:
    """(pictures, channels in, channels, stride, side of the input) of every convolution that
    differs from the others, by its name."""
    found = {}
    side = cnn.SIDE_LENGTH
    for i, (a, b) in enumerate(zip(cnn.CHANNELS, cnn.CHANNELS[1:], strict=False)):
        found[_name("cnn", a, b, 1, side)] = (cnn.BATCH, a, b, 1, side)
        side //= 2 if i % 2 else 1
    batch = resnet.SIZES["resnet20"].batch
    for a, b, _, stride, out in resnet.layers("resnet20")[0]:
        found[_name("resnet20", a, b, stride, out * stride)] = (batch, a, b, stride, out * stride)
    return found


def _name(model: str, a: int, b: int, stride: int, side: int) -> str:
    strided = f" stride {stride}" if stride > 1 else ""
    return f"convolution of {model}, {a} to {b} channels, {side} x {side}{strided}"


def settings() -> list[dict]:
    """Every convolution in its directions, float32 and bf16; pictures need no gradient."""
    return [
        {"name": f"{name}, {direction} {p}", "convolution": name, "direction": direction,
         "precision": p}
        for p in ("float32", "bf16")
        for name, (_, channels, _, _, _) in shapes().items()
        for direction in DIRECTIONS
        if channels > 3 or direction != "input gradient"
    ]  # fmt: skip


def inputs(setting: dict) -> dict[str, np.ndarray]:
    """Pictures (N, H, W, C), weights (K, 3, 3, C) and the cotangent (N, H', W', K)."""
    n, a, b, stride, side = shapes()[setting["convolution"]]
    out = side // stride
    return {
        "x": numbers((n, side, side, a), 0),
        "w": numbers((b, WINDOW, WINDOW, a), 1, (9 * a) ** -0.5),
        "g": numbers((n, out, out, b), 2),
    }


def ours(setting: dict, arrays: dict) -> Side:
    """tt.nn.functional.conv2d, or its vjp, in a compiled function."""
    import tinytorch as tt

    stride = shapes()[setting["convolution"]][3]
    type = "bfloat16" if setting["precision"] == "bf16" else "float32"
    x, w, g = (tt.Tensor(arrays[name]).to(type) for name in "xwg")

    def convolve(x, w):
        first, second = (t.permute(0, 3, 1, 2) for t in (x, w))
        out = tt.nn.functional.conv2d(first, second, stride=stride, padding=PADDING)
        return out.permute(0, 2, 3, 1)

    def of_input(x, w, g):
        return tt.vjp(lambda x: convolve(x, w), x)[1](g)[0]

    def of_weight(x, w, g):
        return tt.vjp(lambda w: convolve(x, w), w)[1](g)[0]

    given = (x, w) if setting["direction"] == "forward" else (x, w, g)
    function = dict(zip(DIRECTIONS, (convolve, of_input, of_weight), strict=True))
    run = tt.compile(function[setting["direction"]])
    return Side(lambda: run(*given), lambda: {"out": run(*given).to("float32").numpy()})


def peer(setting: dict, variant: str, arrays: dict) -> Side:
    """torch's convolution, and the one direction of its gradient."""
    import torch

    stride = shapes()[setting["convolution"]][3]
    type = torch.bfloat16 if setting["precision"] == "bf16" else torch.float32
    x, w, g = (torch.from_numpy(arrays[n]).to(type).permute(0, 3, 1, 2) for n in "xwg")
    backward = torch.ops.aten.convolution_backward.default
    fixed = ((stride, stride), (PADDING, PADDING), (1, 1), False, (0, 0), 1)

    def run():
        if setting["direction"] == "forward":
            return torch.nn.functional.conv2d(x, w, stride=stride, padding=PADDING)
        wanted = [setting["direction"] == direction for direction in DIRECTIONS[1:]]
        return backward(g, x, w, None, *fixed, [*wanted, False])[wanted.index(True)]

    def show() -> dict[str, np.ndarray]:
        with torch.no_grad():
            return {"out": run().permute(0, 2, 3, 1).float().numpy()}

    return Side(run, show)


def variants(setting: dict) -> list[str]:
    """Channels-last, in which PyTorch's convolutions are the fastest; nothing to compile."""
    return ["eager channels-last"]


def tolerance(setting: dict) -> float:
    """The weight's gradient is a sum over all N H W pixels, up to 131,072: sqrt of it times eps.
    In bfloat16 the result is rounded once, to 2**-9."""
    return 1e-2 if setting["precision"] == "bf16" else 5e-5


def work(setting: dict) -> tuple[int, int]:
    """2 x 9 operations for each pixel of the output and pair of channels, in every direction.

    Bytes: pictures and cotangents once each, which the last cache does not hold for all of them.
    """
    n, a, b, stride, side = shapes()[setting["convolution"]]
    pixels = n * (side // stride) ** 2
    width = 2 if setting["precision"] == "bf16" else 4
    return 2 * WINDOW**2 * a * b * pixels, width * (n * side * side * a + pixels * b)
