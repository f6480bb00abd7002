"""The most memory that the GPT's training step takes, in megabytes above the import.

Every way has a process of its own. What is counted is the resident set: the kernel's mark of its
highest value, which is put back after the import. The programs of both sides are in their caches,
so that it is the step that is measured and not its compiler; ours is shown with the compiler, too.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks import harness, training_step
from benchmarks.cases import Side, gpt
from benchmarks.worker import OURS

TITLE = "most memory of a training step of the GPT, above the import (ratios: PyTorch's to ours)"
PARTS = 4  # of a batch whose gradients are put together
COLD = "ours, with the compiler"
ELEMENTWISE, BLOCKS = "ours, elementwise again", "ours, blocks again"  # what is computed again
ACCUMULATED = "ours, accumulated"
PEERS = ("PyTorch eager", "PyTorch compile")
MEGABYTE = 2**20


def settings() -> list[dict]:
    """float32 and bf16."""
    return [{"name": f"memory gpt {p}", "precision": p} for p in ("float32", "bf16")]


def ours(setting: dict, arrays: dict) -> Side:
    """The GPT's step: as it is, with values computed again, or in parts."""
    import tinytorch as tt

    way, precision = setting["way"], setting["precision"]
    before = _start()
    if way == ACCUMULATED:
        return _counting(before, _in_parts(arrays, precision))
    if way not in (ELEMENTWISE, BLOCKS):
        return _counting(before, gpt.ours(setting, arrays))
    model = gpt.our_model()
    if way == BLOCKS:
        for block in model.blocks:
            block.forward = tt.checkpoint(block.forward)
    step = training_step.ours(model, gpt.rows, arrays, precision, recompute="elementwise")
    return _counting(before, step)


def _in_parts(arrays: dict, precision: str) -> Side:
    """The step in PARTS calls that add up gradients, and one that moves the weights."""
    import tinytorch as tt

    model = gpt.our_model()
    weights = training_step.weights_of(arrays)
    model.load_state_dict({n: tt.Tensor(w) for n, w in weights.items()})
    optimizer = tt.optim.AdamW(model.parameters(), lr=training_step.RATE)
    for p in model.parameters():  # from the first part on there is a sum to add to: one program
        p.grad = tt.zeros(p.shape)
    xs = [tt.Tensor(x) for x in np.split(arrays["x"], PARTS)]
    ys = [tt.Tensor(y) for y in np.split(arrays["y"], PARTS)]

    def gather(x, y):
        loss = tt.nn.functional.cross_entropy(gpt.rows(model(x)), y) / PARTS
        loss.backward()
        return loss.detach()

    def move():
        optimizer.step()
        for p in model.parameters():
            p.grad.zero_()

    gather, move = tt.compile(gather, precision=precision), tt.compile(move)

    def step() -> float:
        loss = sum(gather(x, y).item() for x, y in zip(xs, ys, strict=True))
        move()
        return loss

    def show() -> dict[str, np.ndarray]:
        losses = np.array([step() for _ in range(training_step.SHOWN_STEPS)])
        return {"losses": losses, "weight": model.state_dict()[next(iter(weights))].numpy()}

    return Side(step, show)


def peer(setting: dict, variant: str, arrays: dict) -> Side:
    """PyTorch's step."""
    import torch

    before = _start()
    del torch
    return _counting(before, gpt.peer(setting, variant, arrays))


def _start() -> float:
    """Put the kernel's mark back; gives the resident megabytes now."""
    Path("/proc/self/clear_refs").write_text("5")  # 5: the mark alone, see proc(5)
    return _resident("VmRSS")


def _resident(which: str) -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in status if line.startswith(which))
    return int(line.split()[1]) * 1024 / MEGABYTE


def _counting(before: float, side: Side) -> Side:
    """The same side, which also shows its memory."""

    def show() -> dict[str, np.ndarray]:
        return side.show() | {"megabytes": np.array(_resident("VmHWM") - before)}

    return Side(side.run, show)


def measure(case_name: str, setting: dict, threads: int, rounds: int) -> dict:
    """Megabytes of every way, after all have shown the same losses and weight."""
    megabytes, differences = {}, {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        np.savez(folder / "inputs.npz", **gpt.inputs(setting))
        caches = {
            "TINYTORCH_CACHE": str(folder / "ours"),
            "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        }
        reference = None
        for way in (OURS, ELEMENTWISE, BLOCKS, ACCUMULATED, *PEERS):
            order = {
                "case": case_name, "setting": setting | {"way": way},
                "variant": OURS if way.startswith(OURS) else way,
                "inputs": str(folder / "inputs.npz"), "shown": str(folder / "shown.npz"),
            }  # fmt: skip
            try:
                cold, shown = (_shown(order, threads, caches) for _ in range(2))
            except RuntimeError as problem:
                print(f"    left out: {problem}", file=sys.stderr)
                continue
            if way == OURS:
                reference, megabytes[COLD] = shown, float(cold["megabytes"])
            megabytes[way] = float(shown.pop("megabytes"))
            differences[way] = harness.difference(reference, shown)
    limit = training_step.tolerance(setting["precision"])
    if any(not d <= limit for d in differences.values()):
        raise RuntimeError(f"results differ by {differences}, allowed {limit}")
    return {
        "name": setting["name"],
        "setting": setting,
        "seconds": {},
        "megabytes": megabytes,
        "differences": differences,
        "against": {},
        "work": {"operations": 0, "bytes": 0},
    }


def _shown(order: dict, threads: int, caches: dict[str, str]) -> dict[str, np.ndarray]:
    player = harness.start(order["setting"]["way"], threads, caches)
    try:
        player.ask(do="prepare", **order)
    finally:
        player.close()
    with np.load(order["shown"]) as file:
        return dict(file)
