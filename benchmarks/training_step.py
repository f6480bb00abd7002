"""One training step (forward, loss, backward, AdamW) on either side, from the same weights.

Knows how a step is written in each framework; never which model it trains.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.cases import Side

WEIGHT = "weight:"  # prefix of a weight's name among the inputs
RATE = 1e-4
SHOWN_STEPS = 3
IN_FLOAT32 = " in float32"  # ends the name of a variant that does not use bfloat16
WAYS = ("eager", "compile")
LAYOUTS = ("eager", "eager channels-last", "compile", "compile channels-last")


def with_weights(model, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inputs: the batch, and the weights of our freshly made model."""
    weights = {WEIGHT + name: p.numpy() for name, p in model.state_dict().items()}
    return weights | arrays


def weights_of(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights among the inputs, under their own names."""
    return {n.removeprefix(WEIGHT): x for n, x in arrays.items() if n.startswith(WEIGHT)}


def ours(
    model, classes_last: Callable, arrays: dict, precision: str, compiled: bool = True,
    **settings,
) -> Side:  # fmt: skip
    """Our step, as one compiled program or operation by operation.

    Args:
        model: with any weights; those of `arrays` are loaded.
        classes_last: makes (N, K) of the model's output.
        arrays: "x", "y" and the weights.
        precision: "float32" or "bf16".
        compiled: False runs it eagerly, in NumPy.
        settings: more of `tt.compile`.
    """
    import tinytorch as tt

    model.load_state_dict({n: tt.Tensor(x) for n, x in weights_of(arrays).items()})
    optimizer = tt.optim.AdamW(model.parameters(), lr=RATE)
    x, y = tt.Tensor(arrays["x"]), tt.Tensor(arrays["y"])

    def step(x, y):
        loss = tt.nn.functional.cross_entropy(classes_last(model(x)), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    if compiled:
        step = tt.compile(step, precision=precision, **settings)
    first = next(iter(weights_of(arrays)))

    def show() -> dict[str, np.ndarray]:
        losses = [float(step(x, y).numpy()) for _ in range(SHOWN_STEPS)]
        return {"losses": np.array(losses), "weight": model.state_dict()[first].numpy()}

    return Side(lambda: step(x, y), show)


def theirs(model, classes_last: Callable, arrays: dict, precision: str, variant: str) -> Side:
    """PyTorch's step at its best: fused AdamW, set_to_none, and compiled if the variant says so."""
    import torch

    load(model, arrays)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)
    x, y = torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"])
    if "channels-last" in variant:
        model = model.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)

    def loss_of(x, y):
        mixed = precision == "bf16" and not variant.endswith(IN_FLOAT32)
        with torch.autocast("cpu", torch.bfloat16) if mixed else contextlib.nullcontext():
            return torch.nn.functional.cross_entropy(classes_last(model(x)).float(), y)

    forward = torch.compile(loss_of) if "compile" in variant else loss_of

    def step():
        loss = forward(x, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    first = next(iter(weights_of(arrays)))

    def show() -> dict[str, np.ndarray]:
        losses = [float(step()) for _ in range(SHOWN_STEPS)]
        return {"losses": np.array(losses), "weight": model.state_dict()[first].numpy()}

    return Side(step, show)


def load(model, arrays: dict) -> None:
    """Give PyTorch's model the weights among the inputs; all it has must be there.

    It counts the batches of each batch norm besides, which changes no number here.
    """
    import torch

    state = {n: torch.from_numpy(x) for n, x in weights_of(arrays).items()}
    found = model.load_state_dict(state, strict=False)
    missing = [n for n in found.missing_keys if not n.endswith("num_batches_tracked")]
    if missing or found.unexpected_keys:
        raise RuntimeError(f"the models differ: {missing}, {found.unexpected_keys}")


def variants(precision: str, ways: Sequence[str] = WAYS) -> list[str]:
    """The ways a peer is run; what we do in bfloat16 it may do in float32 where that is faster.

    Args:
        precision: "float32" or "bf16".
        ways: WAYS, or for pictures LAYOUTS.
    """
    if precision == "float32":
        return list(ways)
    best = [way for way in ways if "channels-last" in way] or ways  # convolutions are fastest so
    return [*ways, *(way + IN_FLOAT32 for way in best)]


def tolerance(precision: str) -> float:
    """Sums in another order differ by about sqrt(1000) x 6e-8 a layer in float32; a bfloat16
    product rounds its inputs by 2**-9, and the two sides round at other places."""
    return 2e-2 if precision == "bf16" else 5e-4
