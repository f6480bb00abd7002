"""What sequences cost: attention with the length, a cache, sparse tables, shortcuts and norms.

Attention: Vaswani et al. 2017, table 1 (T^2 C operations) and Dao et al. 2022 (memory linear in T).
Cache: a token costs the same however many came before. Tables: Adam on the rows that were read.
Shortcuts: He et al. 2016, section 3.1; norms first: Xiong et al. 2020, figure 3. No data set.
"""

from __future__ import annotations

import math
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np

import tinytorch as tt
from benchmarks.record import Record
from tinytorch import nn
from tinytorch.nn import functional as F

ARCHIVE = ""
SEED = 0
ATTENTION = {"heads": 4, "head_size": 64, "lengths": (256, 512, 1024, 2048)}
CACHE = {"size": 256, "heads": 4, "lengths": (64, 256, 512)}
TABLE = {"rows": (1000, 10_000, 50_000), "columns": 64, "tokens": 512}
DEPTH = {"blocks": (2, 8, 24), "size": 32, "heads": 4, "length": 16}
REPEATS = 9


def run(folder: Path, log: Path) -> dict:
    """The four questions."""
    record = Record(log, "What do sequences cost, and what carries the gradient?", {
        "attention": ATTENTION, "cache": CACHE, "table": TABLE, "depth": DEPTH, "seed": SEED,
        "times": f"least of {REPEATS}, milliseconds",
    })  # fmt: skip
    _attention(record)
    _cache(record)
    _table(record)
    _depth(record)
    return record.keep()


def _numbers(*shape: int) -> tt.Tensor:
    return tt.Tensor(np.random.default_rng(SEED).standard_normal(shape).astype(np.float32))


def _milliseconds(call: Callable[[], object]) -> float:
    call()  # compiled, and in the caches
    found = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return 1e3 * min(found)


def _peak(call: Callable[[], object]) -> int:
    """Most bytes that eager arrays held at once."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def _slope(xs: list[float], ys: list[float]) -> float:
    """The power of x with which y grows, from first to last."""
    return math.log(ys[-1] / ys[0]) / math.log(xs[-1] / xs[0])


def _attention(record: Record) -> None:
    """Time and memory of attention against its length, as one row and as a composition."""
    lengths = ATTENTION["lengths"]
    shape = (1, ATTENTION["heads"])
    times, held = {"row": [], "composition": []}, {"row": [], "composition": []}
    fast = tt.compile(lambda q: F.scaled_dot_product_attention(q, q, q))
    for t in lengths:
        q = _numbers(*shape, t, ATTENTION["head_size"])
        none = tt.ones(t, t) > 0  # a mask that hides nothing asks for the T x T scores

        def composed(q=q, none=none):
            return F.scaled_dot_product_attention(q, q, q, attn_mask=none)

        times["row"].append(_milliseconds(lambda q=q: fast(q)))
        times["composition"].append(_milliseconds(composed))
        held["row"].append(_peak(lambda q=q: F.scaled_dot_product_attention(q, q, q)))
        held["composition"].append(_peak(composed))
        record.row(
            length=t, compiled_ms=times["row"][-1], composed_ms=times["composition"][-1],
            one_head_at_a_time_bytes=held["row"][-1], composed_bytes=held["composition"][-1],
        )  # fmt: skip
    power = _slope(lengths, times["row"])
    record.claim(
        "time grows with the square of the length", "Vaswani et al. 2017, table 1",
        f"power {power:.2f} from {lengths[0]} to {lengths[-1]} tokens", 1.6 < power < 2.4,
    )  # fmt: skip
    ratio = held["composition"][-1] / held["row"][-1]
    record.claim(
        "the scores of all heads are what attention holds most of", "Dao et al. 2022, section 1",
        f"{ratio:.1f} times less without them at {lengths[-1]} tokens", ratio > 2,
    )  # fmt: skip


def _cache(record: Record) -> None:
    """The next token with a cache, and by computing everything again."""
    tt.manual_seed(SEED)
    block = nn.TransformerBlock(CACHE["size"], CACHE["heads"], causal=True).eval()
    longest = max(CACHE["lengths"])
    with_cache, without = [], []
    for t in CACHE["lengths"]:
        x = _numbers(1, t, CACHE["size"])
        cache = block.new_cache(1, longest + REPEATS + 1)
        with tt.no_grad():
            block(x, cache=cache)
            full = tt.compile(lambda x: block(x))
            with_cache.append(
                _milliseconds(lambda c=cache: block(_numbers(1, 1, CACHE["size"]), cache=c))
            )
            without.append(_milliseconds(lambda x=x, full=full: full(x)))
        record.row(tokens_before=t, cached_eager_ms=with_cache[-1], again_compiled_ms=without[-1])
    growth, again = with_cache[-1] / with_cache[0], without[-1] / without[0]
    record.claim(
        "a token with a cache costs nearly the same however many came before it",
        "the cost of KeyValueCache",
        f"{growth:.2f} times for {CACHE['lengths'][0]} to {longest} tokens, {again:.2f} without",
        growth < 0.5 * again,
    )


def _table(record: Record) -> None:
    """A step of Adam on an embedding: all rows, or those that were read."""
    rng = np.random.default_rng(SEED)
    steps: dict[tuple, float] = {}
    for mode in ("eager", "compiled"):
        for rows in TABLE["rows"]:
            for sparse in (False, True):
                tt.manual_seed(SEED)
                layer = nn.Embedding(rows, TABLE["columns"], sparse=sparse)
                adam = tt.optim.Adam(layer.parameters(), lr=1e-3)
                tokens = tt.Tensor(rng.integers(0, rows, TABLE["tokens"]))

                def step(layer=layer, adam=adam, tokens=tokens):
                    (layer(tokens) ** 2).sum().backward()
                    adam.step()
                    adam.zero_grad()

                call = step if mode == "eager" else tt.compile(step)
                steps[mode, rows, sparse] = _milliseconds(call)
            dense, few = steps[mode, rows, False], steps[mode, rows, True]
            record.row(mode=mode, rows=rows, dense_ms=dense, sparse_ms=few, ratio=dense / few)
    small, large = TABLE["rows"][0], TABLE["rows"][-1]
    for mode in ("eager", "compiled"):
        growth, dense = (steps[mode, large, s] / steps[mode, small, s] for s in (True, False))
        record.claim(
            "a sparse step costs what was read, not the table", f"the cost of Embedding, {mode}",
            f"{large // small} times the rows: {growth:.2f} times the time; dense {dense:.1f}",
            growth < 0.2 * dense,
        )  # fmt: skip


class _Bare(nn.Module):
    """A block without shortcuts."""

    def __init__(self, block: nn.TransformerBlock):
        self.block = block

    def forward(self, x: tt.Tensor) -> tt.Tensor:
        y = self.block.self_attn(self.block.norm1(x))
        return self.block.linear2(F.gelu(self.block.linear1(self.block.norm2(y))))


def _depth(record: Record) -> None:
    """How much of the gradient at the last block arrives at the first one's input."""
    kinds: dict[str, Callable[[nn.TransformerBlock], nn.Module]] = {
        "norms first": lambda b: b, "norms last": lambda b: b, "no shortcuts": _Bare,
    }  # fmt: skip
    shares: dict[str, float] = {}
    sizes = (DEPTH["size"], DEPTH["heads"])
    for name, wrap in kinds.items():
        for n in DEPTH["blocks"]:
            tt.manual_seed(SEED)
            blocks = nn.Sequential(
                *(
                    wrap(nn.TransformerBlock(*sizes, norm_first=name != "norms last"))
                    for _ in range(n)
                )
            )
            x = _numbers(2, DEPTH["length"], DEPTH["size"])
            x.requires_grad = True
            out = blocks(x)
            g = np.random.default_rng(1).standard_normal(out.shape).astype(np.float32)
            (out * tt.Tensor(g)).sum().backward()
            shares[name] = float(np.linalg.norm(x.grad.numpy()) / np.linalg.norm(g))
            kept = blocks.summary(x.detach()).activation_bytes
            record.row(
                blocks=n, kind=name, gradient_at_the_input=shares[name],
                output_deviation=float(out.detach().numpy().std()), activation_bytes=kept,
            )  # fmt: skip
    record.claim(
        "the gradient passes any depth beside shortcuts with norms first, and fades without them",
        "He et al. 2016, section 3.1; Xiong et al. 2020, figure 3",
        ", ".join(f"{name}: {share:.2g}" for name, share in shares.items()),
        shares["norms first"] > 0.3 and shares["no shortcuts"] < 1e-2 * shares["norms first"],
    )
