"""What a model is worth: accuracy on real test data, the time of one answer, memory, bytes, FLOP.

Knows a model, or a way of running it, and a data set; never how it came about.
"""

from __future__ import annotations

import hashlib
import time
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinytorch.base.errors import ArgumentTypeError
from tinytorch.capstone.challenge import CIFAR10, Target
from tinytorch.compiler.compile import Compiled
from tinytorch.compiler.compile import compile as compiled
from tinytorch.compression.quantize import bytes_of
from tinytorch.compression.report import flops_of
from tinytorch.data.loader import DataLoader
from tinytorch.nn.module import Module, evaluating
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.tensor import Tensor

BATCH = 500  # test samples that are asked together
SECONDS, LEAST_RUNS = 0.5, 5  # of timed calls: long enough to outlast what else runs for a moment
MEGABYTE = 1e6  # as the targets count


@dataclass(frozen=True)
class Measurement:
    """What was measured of a model.

    Args:
        accuracy: percent of the test samples that are told right.
        milliseconds: of one answer to one sample, the median.
        memory: bytes of the weights and of all that an answer takes beside them.
        bytes: of parameters and saved buffers, as a file holds them.
        flops: arithmetic of one answer.
        weights: the beginning of the SHA-256 of all numbers of the model: the same numbers, the
            same text.
    """

    accuracy: float
    milliseconds: float
    memory: int
    bytes: int
    flops: int
    weights: str

    def value(self, target: Target) -> float:
        """The number that a target is about, in its unit."""
        return {
            "accuracy_target": self.accuracy,
            "inference_time": self.milliseconds,
            "memory_usage": self.memory / MEGABYTE,
            "model_size": self.bytes / MEGABYTE,
        }[target.name]

    def speedup(self, baseline: Measurement) -> float:
        """baseline_time / optimized_time."""
        return baseline.milliseconds / self.milliseconds

    def met(self, targets: Iterable[Target]) -> dict[str, bool]:
        """Which targets are met, by name."""
        return {t.name: t.met(self.value(t)) for t in targets}


def module_of(owner: str, model: Any) -> Module:
    """The module behind a model or its program.

    Raises:
        ArgumentTypeError: there is none.
    """
    module = model.fn if isinstance(model, Compiled) else model
    if not isinstance(module, Module):
        raise ArgumentTypeError(
            f"{owner}: this is no model",
            got=type(model).__name__,
            rule="a Module, or what apply_acceleration or tt.compile made of one",
            fix=f"{owner}(model)",
        )
    return module


def evaluate(model: Any, data: Any = None) -> Measurement:
    """Measure a model on real test data.

    A Module is timed as it is, NumPy line by line; what `apply_acceleration` or `tt.compile` made
    of one is timed as that program. All test samples are asked through a compiled program of
    batches either way: the answers are the same up to rounding, and it takes seconds for minutes.

    Args:
        model: a Module, or a compiled one; (N, ...) -> logits (N, K).
        data: a data set of (input, label); default the 10,000 test pictures of CIFAR-10.

    Returns:
        a Measurement. Memory of a program is its weights, arena and what it keeps of them; of a
        Module its weights and the most that NumPy held during an answer.

    Raises:
        ArgumentTypeError: there is no module.
        DataError: the official files are not there.

    Cost: compiles the model once for batches; a pass over the data; half a second of
    timing.

    Example:
        >>> import numpy as np, tinytorch as tt
        >>> from tinytorch.data import ArrayDataset
        >>> eye = tt.nn.Linear(3, 3, bias=False)
        >>> eye.weight.data = tt.Tensor(np.eye(3, dtype=np.float32))
        >>> data = ArrayDataset(np.eye(3, dtype=np.float32), np.array([0, 1, 1]))
        >>> found = evaluate(eye, data)
        >>> round(found.accuracy, 1), found.bytes, found.flops
        (66.7, 36, 18)
    """
    module = module_of("evaluate", model)
    chosen = CIFAR10.part(False) if data is None else data
    logits, labels = answers(module, chosen)
    picture = Tensor(np.asarray(chosen[0][0])[None])
    with no_grad(), evaluating(module):
        taken = median_seconds(lambda: model(picture))
        memory = _memory(model, picture)
    return Measurement(
        100 * float((logits.argmax(1) == labels).mean()), 1e3 * taken,
        bytes_of(module) + memory, bytes_of(module), flops_of(module, picture), digest_of(module),
    )  # fmt: skip


def answers(model: Module, data: Any) -> tuple[np.ndarray, np.ndarray]:
    """What a model says of all samples.

    Args:
        model: (N, ...) -> (N, K).
        data: a data set of (input, label).

    Returns:
        logits (N, K) and labels (N,).
    """
    size = min(BATCH, len(data))
    said: list[np.ndarray] = []
    known: list[np.ndarray] = []
    program = compiled(model, freeze=True)
    with no_grad(), evaluating(model):
        for x, labels in DataLoader(data, size):
            filled = np.zeros((size, *x.shape[1:]), x.dtype)  # one program, the last batch too
            filled[: len(x)] = x
            said.append(program(Tensor(filled)).numpy()[: len(x)])
            known.append(labels)
    return np.concatenate(said), np.concatenate(known)


def median_seconds(call: Callable[[], object]) -> float:
    """The median time of a call, after one that warms up."""
    call()
    times: list[float] = []
    while len(times) < LEAST_RUNS or sum(times) < SECONDS:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def _memory(model: Any, x: Tensor) -> int:
    """Bytes that an answer takes beside the weights."""
    if isinstance(model, Compiled):
        return model.workspace(x)
    tracemalloc.start()  # NumPy tells it of its arrays
    try:
        model(x)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def digest_of(model: Module) -> str:
    """The first 12 digits of the SHA-256 of names and numbers of a model.

    Args:
        model: any module.
    """
    found = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        found.update(name.encode())
        found.update(np.ascontiguousarray(tensor.handle().array).tobytes())
    return found.hexdigest()[:12]
