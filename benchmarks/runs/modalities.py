"""A language model beside vision models: weights, arithmetic, memory and time of each.

The founding documents ask to compare them. A sample is a picture of 32 x 32, or a text of 64
characters. Times are the least of some steps of training, and of inference, with 32 samples,
compiled; memory is what the compiled training step holds; operations are those of its kernels.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tinytorch as tt
from benchmarks.record import Record
from tinytorch import compression, models, nn
from tinytorch.models import GPT, GPTConfig, next_token_loss
from tinytorch.nn import functional as F

ARCHIVE = ""
BATCH, REPEATS, CLASSES, LETTERS, LENGTH = 32, 9, 10, 65, 64
MAKERS: dict[str, Callable[[], nn.Module]] = {
    "MLP": lambda: models.MLP([3 * 32 * 32, 256, 128, CLASSES]),
    "CNN": lambda: models.CNN(32, 3, CLASSES, (16, 32, 64)),
    "ResNet-20": models.resnet20,
    "ViT": lambda: models.VisionTransformer(32, 4, 128, depth=4, heads=4, classes=CLASSES),
    "GPT": lambda: GPT(GPTConfig(LETTERS, 4, 4, 128, LENGTH)),
}


def run(folder: Path, log: Path) -> dict:
    """One row a model."""
    record = Record(log, "How do vision models and a language model compare?", {
        "batch": BATCH, "picture": [3, 32, 32], "text": LENGTH, "times": f"least of {REPEATS}",
    })  # fmt: skip
    for name, make in MAKERS.items():
        tt.manual_seed(0)
        record.row(model=name, **_measured(make()))
    rows = {row["model"]: row for row in record.rows}
    gpt, vit = rows["GPT"], rows["ViT"]
    as_many = gpt["weights"] / vit["weights"]
    work = gpt["megaflops"] / vit["megaflops"]
    record.claim(
        "the same blocks over as many tokens cost the same arithmetic, of text or of patches",
        "Dosovitskiy et al. 2021",
        f"GPT for ViT, 4 blocks of 128: {as_many:.2f} of the weights, {work:.2f} of the operations",
        0.8 < work < 1.25,
    )
    return record.keep()


def _batch(model: nn.Module) -> tuple[tt.Tensor, tt.Tensor, Callable]:
    """Input, target, and the loss between."""
    rng = np.random.default_rng(0)
    if isinstance(model, GPT):
        tokens = rng.integers(0, LETTERS, (BATCH, LENGTH + 1))
        return tt.Tensor(tokens[:, :-1]), tt.Tensor(tokens[:, 1:]), next_token_loss
    pictures = rng.standard_normal((BATCH, 3, 32, 32)).astype(np.float32)
    labels = rng.integers(0, CLASSES, BATCH)
    return tt.Tensor(pictures), tt.Tensor(labels), F.cross_entropy


def _measured(model: nn.Module) -> dict[str, float]:
    """The columns of a model."""
    x, y, loss_of = _batch(model)
    optimizer = tt.optim.AdamW(model.parameters())

    @tt.compile
    def step(x: tt.Tensor, y: tt.Tensor) -> tt.Tensor:
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    @tt.compile
    def answer(x: tt.Tensor) -> tt.Tensor:
        with tt.no_grad():
            return model(x)

    trained = _least(lambda: step(x, y))
    model.eval()
    answered = _least(lambda: answer(x))
    return {
        "weights": sum(p.size for p in model.parameters()),
        "megabytes": compression.bytes_of(model) / 1e6,
        "megaflops": sum(one.task.flops for one in _plan(answer).launched) / BATCH / 1e6,
        "step_megabytes": _plan(step).arena / 1e6,
        "step_ms": 1e3 * trained,
        "answer_ms": 1e3 * answered,
    }


def _plan(compiled: Any) -> Any:
    """What is launched, and the memory between."""
    return compiled.stages()["launch plan"].plan


def _least(call: Callable[[], object]) -> float:
    """Seconds, once everything is compiled and in the caches."""
    call()
    found = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return min(found)
