"""Does a small BERT guess hidden characters of Shakespeare better than their neighbours say?

Masked language modelling as in Devlin et al. 2018 (15 % chosen, of these 80 % hidden), with
characters as tokens. The curve is the loss on the last tenth of the text, whose hidden places are
the same each time. To compare: the character by itself, and given the one before and the one
behind, counted on the first nine tenths (each count and half of what the shorter context says,
times the number of characters: additive smoothing).
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

import tinytorch as tt
from benchmarks.learning import half_cosine
from benchmarks.record import Record
from tinytorch.data import load_tiny_shakespeare
from tinytorch.models import BERTConfig, BERTMaskedLM, mask_tokens, masked_lm_loss

ARCHIVE = ""
SIZES = {"layers": 2, "heads": 4, "size": 128, "length": 32}
STEPS, EVERY, BATCH, RATE, WARMUP = 2000, 200, 64, 3e-3, 100
FULL = {"SIZES": SIZES | {"layers": 4, "length": 128}, "STEPS": 20_000, "EVERY": 1000}
TEST_WINDOWS, TEST_BATCH = 1024, 128
SEED = 0


def run(folder: Path, log: Path) -> dict:
    """Train, with the loss on hidden characters of the last tenth as a curve."""
    record = Record(log, "Does a small BERT guess hidden characters better than neighbours say?", {
        **SIZES, "steps": STEPS, "batch": BATCH, "rate": RATE, "warmup": WARMUP, "seed": SEED,
        "optimizer": "AdamW, half a cosine", "test characters": TEST_WINDOWS * SIZES["length"],
    })  # fmt: skip
    text = load_tiny_shakespeare(folder / "text")
    letters = sorted(set(text))
    numbers = np.searchsorted(np.array(letters), np.array(list(text)))
    split, vocabulary = len(numbers) * 9 // 10, len(letters) + 1  # the last says "hidden"
    train, later = numbers[:split], numbers[split:]
    tt.manual_seed(SEED)
    model = BERTMaskedLM(BERTConfig(vocabulary, **SIZES, dropout=0.0))
    hidden = vocabulary - 1
    begins = np.arange(TEST_WINDOWS) * ((len(later) - SIZES["length"]) // TEST_WINDOWS)
    shown, wanted = mask_tokens(_windows(later, begins), vocabulary, hidden)
    curve = _trained(record, model, train, hidden, (shown, wanted))
    alone, beside = _counted(train, later, begins, wanted.numpy(), len(letters))
    last = curve[-1]
    record.claim("the loss on hidden tokens falls below what frequencies say",
                 "Devlin et al. 2018, section 3.1",
                 f"{curve[0]:.3f} before the first step, {last:.3f} nats after {STEPS}; "
                 f"frequencies {alone:.3f}", last < alone)  # fmt: skip
    record.claim("what is learned from both sides is more than the neighbours",
                 "Devlin et al. 2018, section 1: deeply bidirectional",
                 f"{last:.3f} nats; counted given both neighbours {beside:.3f}",
                 last < beside)  # fmt: skip
    return record.keep()


def _windows(numbers: np.ndarray, begins: np.ndarray) -> tt.Tensor:
    return tt.from_numpy(numbers[begins[:, None] + np.arange(SIZES["length"])])


def _trained(
    record: Record, model: BERTMaskedLM, train: np.ndarray, hidden: int,
    test: tuple[tt.Tensor, tt.Tensor],
) -> list[float]:  # fmt: skip
    """The losses on the test's hidden characters, before the first step and every EVERY."""
    optimizer = tt.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.1)

    @tt.compile
    def step(tokens):
        inputs, targets = mask_tokens(tokens, hidden + 1, hidden)
        loss = masked_lm_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    @tt.compile
    def measure(inputs, targets):
        with tt.no_grad():
            return masked_lm_loss(model(inputs), targets), (targets >= 0).sum()

    def tested() -> float:
        model.eval()
        parts = [
            measure(*(x[i : i + TEST_BATCH] for x in test))
            for i in range(0, TEST_WINDOWS, TEST_BATCH)
        ]
        model.train()
        counts = [int(n.item()) for _, n in parts]
        weighed = sum(loss.item() * n for (loss, _), n in zip(parts, counts, strict=True))
        return weighed / sum(counts)

    rng = np.random.default_rng(SEED)
    curve, losses, seconds = [tested()], [], 0.0
    record.row(step=0, test_loss=curve[0], seconds=0.0)
    for i in range(1, STEPS + 1):
        began = time.perf_counter()
        optimizer.lr = RATE * min(i / WARMUP, half_cosine(i / STEPS))
        begins = rng.integers(0, len(train) - SIZES["length"], BATCH)
        losses.append(step(_windows(train, begins)).item())
        seconds += time.perf_counter() - began
        if i % EVERY == 0:
            curve.append(tested())
            record.row(step=i, loss=float(np.mean(losses)), test_loss=curve[-1],
                       seconds=round(seconds, 1))  # fmt: skip
            losses = []
    return curve


def _counted(
    train: np.ndarray, later: np.ndarray, begins: np.ndarray, wanted: np.ndarray, n: int
) -> tuple[float, float]:
    """Nats a hidden character, by its own frequency and given both neighbours."""
    single = np.bincount(train, minlength=n) + 1.0
    single /= single.sum()
    triples = np.zeros((n, n, n))  # before, behind, the character itself
    np.add.at(triples, (train[:-2], train[2:], train[1:-1]), 1.0)
    rows, places = np.nonzero(wanted >= 0)
    at = begins[rows] + places
    at = at[(at > 0) & (at < len(later) - 1)]
    own, before, behind = later[at], later[at - 1], later[at + 1]
    seen = triples[before, behind]  # (hidden characters, n)
    smooth = (seen + 2.0 * single) / (seen.sum(1, keepdims=True) + 2.0)
    alone = -np.log(single[own]).mean()
    return float(alone), float(-np.log(smooth[np.arange(len(at)), own]).mean())
