"""Accumulation and bfloat16 on MNIST: memory and accuracy against plain training.

LeNet, batches of 512: in one piece, as eight pieces of 64 whose gradients are put together, in
bfloat16, and both. Asked: accumulation gives the same weights up to rounding and less memory;
bfloat16 gives less memory and the same accuracy (Micikevicius et al. 2018,
https://arxiv.org/abs/1710.03740, and Kalamkar et al. 2019, https://arxiv.org/abs/1905.12322).
Memory is the arena of the compiled training step: everything but weights, optimizer state and the
batch itself; with accumulation the gradients that wait are added.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import tinytorch as tt
from benchmarks.record import Record
from tinytorch.data import DataLoader, load_mnist
from tinytorch.models import LeNet
from tinytorch.training import Trainer
from tinytorch.training.history import Silent

ARCHIVE = ""
BATCH, PIECES, EPOCHS, RATE, SEEDS = 512, 8, 3, 0.03, (0,)
FULL = {"EPOCHS": 5, "SEEDS": (0, 1, 2)}
EARLY = 4  # steps after which weights are compared
KINDS = {
    "plain": (1, "float32"),
    "accumulated": (PIECES, "float32"),
    "bf16": (1, "bf16"),
    "bf16, accumulated": (PIECES, "bf16"),
}
EQUAL = 0.3  # points of accuracy: three deviations of 1 % errors among 10,000 images


def run(folder: Path, log: Path) -> dict:
    """Every kind with every seed; memory, accuracy, how far the weights are apart."""
    record = Record(log, "What do accumulation and bfloat16 cost, and what do they save?", {
        "network": "LeNet", "batch": BATCH, "pieces": PIECES, "epochs": EPOCHS, "rate": RATE,
        "seeds": SEEDS,
    })  # fmt: skip
    train, test = load_mnist("train", folder), load_mnist("test", folder)
    found: dict[str, dict[str, list]] = {
        kind: {"accuracy": [], "memory": [], "early": []} for kind in KINDS
    }
    for seed in SEEDS:
        for kind, (pieces, precision) in KINDS.items():
            one = trained(train, test, pieces, precision, seed)
            for name, value in one.items():
                found[kind][name].append(value)
            record.row(kind=kind, seed=seed, test_accuracy=one["accuracy"],
                       step_memory_bytes=one["memory"])  # fmt: skip
    _claims(record, found)
    return record.keep()


def trainer_of(pieces: int, precision: str, seed: int, steps: int) -> Trainer:
    """A new network and its trainer; the rate falls along half a cosine."""
    tt.manual_seed(seed)
    net = LeNet()
    optimizer = tt.optim.SGD(net.parameters(), lr=RATE, momentum=0.9)
    return Trainer(
        net, optimizer, accumulate=pieces, precision=precision, progress=Silent(),
        schedule=tt.optim.CosineAnnealingLR(optimizer, steps), schedule_every="step",
    )  # fmt: skip


def trained(train, test, pieces: int, precision: str, seed: int) -> dict:
    """One training: accuracy, bytes of a step, weights after the first steps."""
    loader = DataLoader(train, BATCH // pieces, shuffle=True, seed=seed)
    trainer = trainer_of(pieces, precision, seed, EPOCHS * -(-len(train) // BATCH))
    batches = [batch for batch, _ in zip(loader, range(EARLY * pieces), strict=False)]
    trainer.train(batches, epochs=1)  # the same images, whatever the pieces
    early = flat(trainer.model)
    trainer = trainer_of(pieces, precision, seed, EPOCHS * -(-len(train) // BATCH))
    trainer.train(DataLoader(train, BATCH // pieces, shuffle=True, seed=seed), epochs=EPOCHS)
    program = trainer.passes.steps["train"].compiled._the_call((), {}).program
    waiting = early.nbytes if pieces > 1 else 0
    return {
        "accuracy": trainer.evaluate(DataLoader(test, 500))["accuracy"],
        "memory": program.plan.arena + waiting, "early": early,
    }  # fmt: skip


def flat(net) -> np.ndarray:
    """All weights in a row."""
    return np.concatenate([p.numpy().ravel() for p in net.parameters()])


def _claims(record: Record, found: dict) -> None:
    plain = found["plain"]
    apart = max(
        float(np.abs(a - b).max()) for a, b in
        zip(found["accumulated"]["early"], plain["early"], strict=True)
    )  # fmt: skip
    # gradients of size 1 are sums over 512 images, each addition rounded to 2**-24
    bound = EARLY * RATE * BATCH * 2**-24
    record.claim("accumulation gives the same weights up to rounding", "exact by construction",
                 f"largest difference after {EARLY} steps {apart:.1e}, bound {bound:.1e}",
                 apart <= bound)  # fmt: skip
    for kind in ("accumulated", "bf16", "bf16, accumulated"):
        share = found[kind]["memory"][0] / plain["memory"][0]
        text = f"{found[kind]['memory'][0] / 2**20:.1f} MiB for "
        text += f"{plain['memory'][0] / 2**20:.1f} MiB, {share:.2f} times"
        record.claim(f"{kind}: a step takes less memory", "as above", text, share < 1)
        mine, theirs = (100 * float(np.mean(x["accuracy"])) for x in (found[kind], plain))
        record.claim(f"{kind}: the accuracy stays", "as above",
                     f"{mine:.2f} % for {theirs:.2f} %, equal up to {EQUAL} points",
                     abs(mine - theirs) <= EQUAL)  # fmt: skip
