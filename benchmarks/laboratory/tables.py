"""Measures all versions, keeps what was found, and writes the tables of docs/kernels.md.

Knows the kept results as plain values; never kernels. The page shows what is kept, to the digit.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tinytorch as tt
from benchmarks.laboratory import attention, convolution, fusion, matmul, port_model
from benchmarks.laboratory.versions import Timed, measure, table
from benchmarks.machine import ROOT, describe
from tinytorch.base.amounts import time_text
from tinytorch.codegen.target import Target
from tinytorch.compiler.run.roofline import measure as roofline

RESULTS = Path(__file__).with_name("results.json")
PAGE = ROOT / "docs/kernels.md"
BUSY = 0.5  # of other programs: then what several threads take says nothing, and is left out
PEAKS = 4  # measurements of the peak after each ladder: on a busy machine most are disturbed
LADDERS = {"matmul": matmul, "attention": attention, "convolution": convolution}
DIGITS = ".3g"  # of times
Kept = dict[str, Any]


def measured() -> Kept:
    """Time everything. Cost: about two minutes on an idle machine."""
    tt.manual_seed(0)
    target, threads = Target.host(), tt.num_threads()
    ladders = {
        "matmul": matmul.versions(target, threads),
        "attention": attention.versions(target),
        "convolution": convolution.versions(target),
    }
    load = os.getloadavg()[0]
    kept: Kept = {"machine": describe(1), "target": target.name, "load": round(load, 1)}
    peaks = [kept["machine"]["limits"]["float32"]]
    for name, versions in LADDERS.items():
        chosen = [v for v in ladders[name] if v.threads == 1 or load < BUSY]
        found = measure(chosen, versions.expected)
        kept[name] = [_row(timed) for timed in found]
        peaks += [roofline.__wrapped__(target, 1).peaks["fp32"] for _ in range(PEAKS)]
    kept["machine"]["limits"]["float32"] = max(peaks)  # neighbours only ever slow a loop down
    chains = fusion.pairs(target)
    both = [v for pair in chains for v in (pair.alone, pair.fused)]
    wanted = {pair.name: pair.alone.call() for pair in chains}
    times = measure(both, lambda version: wanted[version.name])
    kept["fusion"] = [
        {
            "name": alone.version.name, "alone": alone.seconds, "fused": fused.seconds,
            "bytes_alone": alone.version.bytes, "bytes_fused": fused.version.bytes,
        }
        for alone, fused in zip(times[::2], times[1::2], strict=True)
    ]  # fmt: skip
    return kept


def _row(timed: Timed) -> Kept:
    version, said = timed.version, port_model.ask(timed.version.assembly)
    model = {"model": said.model, "cycles": said.cycles, "model_flops": said.flops} if said else {}
    return {
        "name": version.name, "seconds": timed.seconds, "flops": version.flops,
        "bytes": version.bytes, "limit": version.limit, "reference": version.reference, **model,
    }  # fmt: skip


def ladder(rows: Sequence[Kept], peak: float) -> str:
    """Versions one under the other: what each gained over the one before, and over the first.

    Args:
        rows: as `measured` keeps them.
        peak: float32 operations a second of one core.
    """
    head = ("", "version", "time", "GFLOP/s", "of the peak", "x before", "x first",
            "bytes a FLOP", "model: FLOPs a cycle", "what limits it")  # fmt: skip
    out: list[Sequence[str]] = [head]
    first = before = rows[0]["flops"] / rows[0]["seconds"]
    for number, row in enumerate(rows, 1):
        rate = row["flops"] / row["seconds"]
        own = not row["reference"]
        said = row["model_flops"] / row["cycles"] if "model" in row else 0
        out.append(
            (
                str(number) if own else "-", row["name"], time_text(row["seconds"], DIGITS),
                _digits(rate / 1e9), f"{rate / peak:.1%}",
                _digits(rate / before) if own and number > 1 else "", _digits(rate / first),
                f"{row['bytes'] / row['flops']:.2g}" if row["bytes"] else "",
                f"{said:.1f}" if said else "", row["limit"],
            )
        )  # fmt: skip
        before = rate
    return table(out)


def fused(rows: Sequence[Kept]) -> str:
    """Chains one under the other: time and bytes of both ways."""
    out: list[Sequence[str]] = [
        ("chain", "operation after operation", "one kernel", "faster", "MiB moved", "fused")
    ]
    for row in rows:
        out.append(
            (
                row["name"], time_text(row["alone"], DIGITS), time_text(row["fused"], DIGITS),
                _digits(row["alone"] / row["fused"]), f"{row['bytes_alone'] / 2**20:.0f}",
                f"{row['bytes_fused'] / 2**20:.0f}",
            )
        )  # fmt: skip
    return table(out)


def asked(kept: Kept) -> str:
    """What the course's documents ask, and what was found: ratios of GFLOP/s of the same work."""

    def rate(ladder: str, start: str) -> float:
        (row,) = [r for r in kept[ladder] if r["name"].startswith(start)]
        return row["flops"] / row["seconds"]

    slow = rate("matmul", "three loops in Python")
    chains = [row["alone"] / row["fused"] for row in kept["fusion"]]
    shipped = "the shipped kernel"
    rows = [
        ("`matmul_optimized_v3` over the triple loop", "80", rate("matmul", "course: matmul_o")
         / slow),
        ("vectorised operations over loops", "5 to 10", rate("matmul", "course: matmul_v") / slow),
        ("the shipped product over the triple loop", "-", rate("matmul", shipped) / slow),
        ("attention over `attention_naive`", "10", rate("attention", shipped)
         / rate("attention", "course: attention_n")),
        ("convolution over its loops in Python", "10", rate("convolution", shipped)
         / rate("convolution", "seven loops")),
        ("convolution over the same loops, native", "10", rate("convolution", shipped)
         / rate("convolution", "the same loops")),
        ("named chains fused, the least of them", "2 to 5", min(chains)),
    ]  # fmt: skip
    return table(
        [("what", "asked", "found"), *((what, want, _digits(n)) for what, want, n in rows)]
    )


def circumstances(kept: Kept) -> str:
    """What it was measured on."""
    machine = kept["machine"]
    peak, models = machine["limits"]["float32"] / 1e9, sorted(
        {row["model"] for name in LADDERS for row in kept[name] if "model" in row}
    )  # fmt: skip
    said = f"models of llvm-mca: {', '.join(models)}" if models else "without llvm-mca"
    return (
        f"{machine['processor']['name']}, {kept['target']}, one core, "
        f"{machine['date'][:10]}, commit {machine['commit']}: {peak:.0f} GFLOP/s fp32, "
        f"{machine['limits']['bandwidth'] / 1e9:.0f} GB/s read, measured; load of other programs "
        f"before it: {kept['load']}; {said}."
    )


def sections(kept: Kept) -> dict[str, str]:
    """The tables of the page, by name."""
    peak = kept["machine"]["limits"]["float32"]
    return {
        "circumstances": circumstances(kept),
        **{name: ladder(kept[name], peak) for name in LADDERS},
        "fusion": fused(kept["fusion"]),
        "asked": asked(kept),
    }


def marked(name: str, inside: str) -> str:
    """A table between the lines that say where it begins and ends."""
    return f"<!-- {name}: begin -->\n{inside}\n<!-- {name}: end -->"


def with_tables(text: str, kept: Kept) -> str:
    """The page with every table made anew."""
    for name, inside in sections(kept).items():
        pattern = rf"<!-- {name}: begin -->.*?<!-- {name}: end -->"
        text = re.sub(pattern, lambda _, n=name, i=inside: marked(n, i), text, flags=re.S)
    return text


def kept_results() -> Kept:
    """What was measured last."""
    return json.loads(RESULTS.read_text())


def keep(kept: Kept) -> None:
    """Write the results and the page."""
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    PAGE.write_text(with_tables(PAGE.read_text(), kept))


def _digits(number: float) -> str:
    """Three digits, and all of what stands before the point.

    >>> _digits(0.01234), _digits(1.2345), _digits(12345.6)
    ('0.0123', '1.23', '12,346')
    """
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
