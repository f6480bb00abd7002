"""The Trainer's loop against the loop one would write by hand, around equal compiled steps.

Both go through the same batches, read loss and accuracy of each and average them. What the Trainer
adds for that: callbacks, a check for NaN, progress, Ctrl-C, the state of the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from benchmarks.cases import numbers
from benchmarks.statistics import ratio, typical

TITLE = "the Trainer's loop against a loop written by hand"
SIZES = {"5 ms step": (784, 1024, 1024, 10), "smallest step": (8, 8, 10)}
BATCH = {"5 ms step": 128, "smallest step": 8}
STEPS = {"5 ms step": 60, "smallest step": 3000}  # of a block: 0.3 s


def settings() -> list[dict]:
    """A step of the size that is asked about, and one so small that only the loops are seen."""
    return [{"name": f"trainer, {size}", "size": size} for size in SIZES]


def measure(case_name: str, setting: dict, threads: int, rounds: int) -> dict:
    """Seconds a step, the two loops taking turns; they must end with the same weights.

    One process will do: both sides use the same team of threads.
    """
    from tinytorch.base.settings import set_num_threads

    set_num_threads(threads)
    size = setting["size"]
    x = numbers((BATCH[size], SIZES[size][0]), 1)
    y = np.random.default_rng(2).integers(0, 10, BATCH[size])
    batches = [(x, y)] * STEPS[size]
    ours, by_hand = _trainer(SIZES[size]), _by_hand(SIZES[size])
    for run in (ours, by_hand):
        run(batches[:20])
    if not np.array_equal(ours.weights(), by_hand.weights()):  # pyright: ignore
        raise RuntimeError("the two loops end with different weights")
    blocks: dict[str, list[list[float]]] = {"ours": [], "by hand": []}
    for _ in range(rounds):
        for name, run in (("ours", ours), ("by hand", by_hand)):
            began = time.perf_counter()
            run(batches)
            blocks[name].append([(time.perf_counter() - began) / len(batches)])
    against = ratio(blocks["by hand"], blocks["ours"])
    added = typical(blocks["ours"]) - typical(blocks["by hand"])
    print(f"    added a step: {1e6 * added:.1f} us, {100 * added / 5e-3:.2f} % of 5 ms")
    return {
        "name": setting["name"],
        "setting": setting,
        "seconds": {name: typical(found) for name, found in blocks.items()},
        "added_seconds": added,
        "against": {"by hand": {"peer": "a loop written by hand", **against}},
        "work": {"operations": 0, "bytes": 0},
    }


class _Loop:
    """A loop over batches, and the first weights of its model."""

    def __init__(self, run: Callable[[list], object], model):
        self.run, self.model = run, model

    def __call__(self, batches: list) -> None:
        self.run(batches)

    def weights(self) -> np.ndarray:
        return next(iter(self.model.parameters())).detach().numpy().copy()


def _trainer(sizes: tuple[int, ...]) -> _Loop:
    import tinytorch as tt
    from tinytorch.models import MLP
    from tinytorch.training import Trainer
    from tinytorch.training.history import Silent

    tt.manual_seed(0)
    model = MLP(sizes)
    trainer = Trainer(model, tt.optim.AdamW(lr=1e-4), progress=Silent())
    return _Loop(lambda batches: trainer.train(batches, epochs=1), model)


def _by_hand(sizes: tuple[int, ...]) -> _Loop:
    import tinytorch as tt
    from tinytorch.models import MLP
    from tinytorch.training import accuracy

    tt.manual_seed(0)
    model = MLP(sizes)
    adamw = tt.optim.AdamW(model.parameters(), lr=1e-4)

    @tt.compile
    def step(x, y):
        output = model(x)
        loss = tt.nn.functional.cross_entropy(output, y)
        loss.backward()
        adamw.step()
        adamw.zero_grad()
        return loss.detach(), accuracy(output, y)

    def run(batches: list) -> tuple[float, float]:
        total, right = 0.0, 0.0
        for x, y in batches:
            loss, share = step(x, y)
            total += loss.item() * len(y)
            right += share.item() * len(y)
        return total, right

    return _Loop(run, model)
