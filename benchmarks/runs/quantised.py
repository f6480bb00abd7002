"""What do weights of 8 and 4 bits cost a GPT that has learned Shakespeare?

A character GPT of nanoGPT's setting for a processor (4 layers, 128 numbers, 64 tokens), trained for
a minute or so, then quantized in each way; its loss on the last tenth of the text, bytes in memory
and in a file. Asked were at most 0.5 % more loss for int8, 3 % for int4, and 3.9 and 7 times fewer
bytes. To compare, int4 without the search for scales (the largest number / -8, as ggml's q4_0) and
activations that are not rounded.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import tinytorch as tt
from benchmarks.learning import half_cosine
from benchmarks.record import Record
from tinytorch import compression, storage
from tinytorch.data import load_tiny_shakespeare
from tinytorch.models import GPT, GPTConfig, next_token_loss
from tinytorch.nn.module import Module
from tinytorch.nn.quantized import QuantizedWeight

ARCHIVE = ""
SIZES = {"layers": 4, "heads": 4, "size": 128, "length": 64}
STEPS, BATCH, RATE, WARMUP = 2000, 12, 2e-3, 100
TEST_WINDOWS, TEST_BATCH = 512, 64
SEED = 0
WAYS = (("int8", None), ("int8", 32), ("int4", 32), ("int4", 64), ("int4", 128))
MOST = {"int8": 0.005, "int4": 0.03}


def run(folder: Path, log: Path) -> dict:
    """Train once, then ask every way."""
    record = Record(log, "What do weights of 8 and 4 bits cost a GPT?", {
        **SIZES, "steps": STEPS, "batch": BATCH, "rate": RATE, "warmup": WARMUP, "seed": SEED,
        "optimizer": "AdamW, half a cosine", "test characters": TEST_WINDOWS * SIZES["length"],
    })  # fmt: skip
    text = load_tiny_shakespeare(folder / "text")
    letters = sorted(set(text))
    numbers = np.searchsorted(np.array(letters), np.array(list(text)))
    split = len(numbers) * 9 // 10
    train, later = numbers[:split], numbers[split:]
    begins = np.arange(TEST_WINDOWS) * ((len(later) - SIZES["length"] - 1) // TEST_WINDOWS)
    test = _windows(later, begins)
    model = trained(train, len(letters))
    plain, whole = loss_of(model, test), compression.bytes_of(model)
    record.row(kind="float32", test_loss=plain, bytes=whole)
    for kind, group in WAYS:
        small = compression.quantize(model, kind, group)
        found, held = loss_of(small, test), compression.bytes_of(small)
        exact = loss_of(_with_plain_activations(model, small), test)
        record.row(
            kind=kind, group=group, test_loss=found, more=found / plain - 1, bytes=held,
            file=_file_bytes(small), activations_not_rounded=exact,
        )  # fmt: skip
        if group in (None, 64):
            record.claim(
                f"{kind} costs at most {MOST[kind]:.1%} of the loss", "what was asked",
                f"{plain:.4f} to {found:.4f} nats, {found / plain - 1:+.2%}; {whole / held:.2f}"
                " times fewer bytes", found / plain - 1 <= MOST[kind],
            )  # fmt: skip
    return record.keep()


def _windows(numbers: np.ndarray, begins: np.ndarray) -> tt.Tensor:
    """(N, length + 1): inputs, and one further each what comes next."""
    return tt.from_numpy(numbers[begins[:, None] + np.arange(SIZES["length"] + 1)])


def trained(train: np.ndarray, vocabulary: int) -> GPT:
    """The model after STEPS."""
    tt.manual_seed(SEED)
    model = GPT(GPTConfig(vocabulary, **SIZES, tied=True))
    optimizer = tt.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.1)

    @tt.compile
    def step(tokens):
        loss = next_token_loss(model(tokens[:, :-1]), tokens[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    rng = np.random.default_rng(SEED)
    for i in range(1, STEPS + 1):
        optimizer.lr = RATE * min(i / WARMUP, half_cosine(i / STEPS))
        step(_windows(train, rng.integers(0, len(train) - SIZES["length"] - 1, BATCH)))
    return model.eval()


def loss_of(model: Module, test: tt.Tensor) -> float:
    """Mean loss on all windows."""

    @tt.compile
    def measure(tokens):
        with tt.no_grad():
            return next_token_loss(model(tokens[:, :-1]), tokens[:, 1:])

    parts = [measure(test[i : i + TEST_BATCH]).item() for i in range(0, TEST_WINDOWS, TEST_BATCH)]
    return float(np.mean(parts))


def _with_plain_activations(model: GPT, small: Module) -> GPT:
    """The model with what the small one's weights stand for."""
    with tt.no_grad():
        state = {name: x.clone() for name, x in model.state_dict().items()}
        for path, part in small.named_modules():
            if isinstance(part, QuantizedWeight):
                state[path] = part.dequantize()
    copied = GPT(model.config)
    copied.load_state_dict(state | {"head.weight": state["tokens.weight"]})
    return copied.eval()


def _file_bytes(model: Module) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        storage.save(path, {name: x.numpy() for name, x in model.state_dict().items()})
        return path.stat().st_size
