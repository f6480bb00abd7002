"""The vision transformer on CIFAR-10: `python -m benchmarks.runs vit`.

Asked: 80 % on the 10,000 test pictures. The documents' network (patches of 4, d_model 256, six
blocks), bf16, crop and flip, Muon for the matrices of the blocks and AdamW for the rest.
"""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path

import numpy as np

import tinytorch as tt
import tinytorch.nn.functional as F
from benchmarks.machine import describe
from tinytorch.models import VisionTransformer

EPOCHS, BATCH, WARMUP, SEED = 25, 128, 2, 0
MUON_LR, ADAM_LR, DECAY = 0.01, 1e-3, 0.05
MEAN = np.array([0.4914, 0.4822, 0.4465], np.float32).reshape(3, 1, 1)  # of the training pictures
STD = np.array([0.2470, 0.2435, 0.2616], np.float32).reshape(3, 1, 1)


def read(folder: Path, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (N, 3, 32, 32) uint8 and labels (N,) of the binary archive's files."""
    rows = np.concatenate([np.fromfile(folder / n, np.uint8).reshape(-1, 3073) for n in names])
    return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0].astype(np.int64)


def crop_and_flip(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random 32 x 32 window of each picture with four zeros around it, half of them mirrored."""
    padded = np.pad(x, ((0, 0), (0, 0), (4, 4), (4, 4)))
    top, left = rng.integers(0, 9, (2, len(x)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (32, 32), (2, 3))
    out = windows[np.arange(len(x)), :, top, left]
    mirrored = rng.random(len(x)) < 0.5
    out[mirrored] = out[mirrored][..., ::-1]
    return out


def normalise(x: np.ndarray) -> np.ndarray:
    """uint8 -> float32 with mean 0 and deviation 1 in each channel."""
    return (x.astype(np.float32) / 255 - MEAN) / STD


def orthogonal(g: tt.Tensor) -> tt.Tensor:
    """Newton-Schulz: the orthogonal matrix nearest g (Jordan et al. 2024), q, k, v each alone."""
    rows, columns = g.shape
    if rows == 3 * columns:
        g = g.reshape(3, columns, columns)
    elif rows > columns:
        g = g.transpose(0, 1)
    x = g / ((g * g).sum(axis=(-2, -1), keepdims=True).sqrt() + 1e-7)
    for _ in range(5):
        a = x @ x.transpose(-1, -2)
        x = 3.4445 * x + (2.0315 * (a @ a) - 4.7750 * a) @ x
    if rows == 3 * columns:
        return x.reshape(rows, columns)
    return x.transpose(0, 1) if rows > columns else x


def run(folder: Path, log: Path, epochs: int = EPOCHS) -> dict:
    """Train, measure after each epoch, go on where an interrupted run stopped."""
    train_x, train_y = read(folder, [f"data_batch_{i}.bin" for i in range(1, 6)])
    test_x, test_y = read(folder, ["test_batch.bin"])
    tt.manual_seed(SEED)
    net = VisionTransformer(32, 4, 256)
    named = list(net.named_parameters())
    matrices = [p for n, p in named if n.startswith("blocks") and len(p.shape) == 2]
    rest = [p for n, p in named if not (n.startswith("blocks") and len(p.shape) == 2)]
    adam = tt.optim.AdamW(rest, lr=ADAM_LR, weight_decay=DECAY)
    momenta = [tt.zeros(*p.shape) for p in matrices]
    rate = tt.Tensor(np.float32(0))

    @tt.compile(precision="bf16")
    def step(x, y):
        loss = F.cross_entropy(net(x), y, label_smoothing=0.1)
        loss.backward()
        adam.step()
        with tt.no_grad(), tt.precision("bf16"):
            for p, m in zip(matrices, momenta, strict=True):
                m.assign_(0.95 * m + p.grad)
                scale = 1.0 if p.shape[0] == 3 * p.shape[1] else max(1, p.shape[0] / p.shape[1])
                update = orthogonal(p.grad + 0.95 * m) * scale**0.5
                p.assign_(p * (1 - rate * DECAY) - rate * update)
                p.grad = None
        adam.zero_grad()
        return loss.detach()

    @tt.compile(precision="bf16")
    def right(x, y):
        with tt.no_grad():
            return (net(x).argmax(axis=1) == y).sum()

    steps, done, rows = len(train_x) // BATCH, 0, []
    keep = log.with_suffix(".npz")
    state = [*(p for _, p in named), *momenta]
    if keep.exists():
        saved = np.load(keep)
        done, rows = int(saved["done"]), json.loads(str(saved["rows"]))
        for i, t in enumerate(state):
            t.assign_(tt.Tensor(saved[f"t{i}"]))
        kept = adam.state_dict()
        adam.load_state_dict({name: tt.Tensor(saved[name]) for name in kept})
    for epoch in range(done, epochs):
        rng, began, total = np.random.default_rng([SEED, epoch]), time.perf_counter(), 0.0
        order = rng.permutation(len(train_x))
        for i in range(steps):
            part = order[i * BATCH : (i + 1) * BATCH]
            at = epoch + i / steps
            share = min(1.0, at / WARMUP) * 0.5 * (1 + math.cos(math.pi * at / epochs))
            rate.assign_(tt.Tensor(np.float32(MUON_LR * share)))
            adam.lr = ADAM_LR * share
            total += step(normalise(crop_and_flip(train_x[part], rng)), train_y[part]).item()
        net.eval()
        hits = sum(
            int(right(normalise(test_x[i : i + 500]), test_y[i : i + 500]).item())
            for i in range(0, len(test_x), 500)
        )
        net.train()
        row = {"epoch": epoch + 1, "loss": total / steps, "test_accuracy": hits / len(test_x),
               "seconds": time.perf_counter() - began}  # fmt: skip
        rows.append(row)
        print(json.dumps(row), flush=True)
        arrays = {f"t{i}": t.numpy() for i, t in enumerate(state)}
        arrays |= {name: t.numpy() for name, t in adam.state_dict().items()}
        np.savez(keep.with_suffix(".new.npz"), done=epoch + 1, rows=json.dumps(rows), **arrays)
        os.replace(keep.with_suffix(".new.npz"), keep)
    result = {
        "run": "vit",
        "machine": describe(tt.num_threads()),
        "epochs": epochs,
        "seed": SEED,
        "rows": rows,
    }
    log.write_text(json.dumps(result, indent=1) + "\n")
    return result
