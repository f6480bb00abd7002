"""How small and fast does a CIFAR-10 network of about 89 % become, and what was each step worth?

What `tito capstone cifar10` does, kept: the baseline, each step, each alone and left out, on all
official test pictures; one variant once more by another workshop, bit for bit. What was trained
lies in `runs/kept-capstone`: an interrupted run goes on there; afterwards it can be thrown away.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.record import Record
from tinytorch import capstone
from tinytorch.capstone.report import write_technical_report
from tinytorch.capstone.workshop import Workshop
from tinytorch.training.history import PlainLines

EPOCHS, AGAIN, SEED = 12, 8, 0
PLACE = Path("runs/kept-capstone")
PICTURES = {"-ablation": "ablation-accuracy", "-bytes": "pareto-bytes",
            "-milliseconds": "pareto-milliseconds", "-confusion": "confusion"}  # fmt: skip
TWICE = ("pruning", "quantisation")  # the variant that is made again
LESS = 10.0
DOCUMENTS, ASKED = "the founding documents", "what was asked"


def run(folder: Path, log: Path) -> dict:
    """The whole capstone, then what it claims."""
    challenge = replace(capstone.CIFAR10, epochs=EPOCHS, again=AGAIN)
    question = "How small does a CIFAR-10 network become, and what was each step worth?"
    record = Record(log, question, {
        **challenge.settings(), "network": "CNN (32, 64, 128)", "seed": SEED,
    })  # fmt: skip
    found = capstone.run_challenge(
        challenge, PLACE, seed=SEED, data_dir=folder, progress=PlainLines()
    )
    for part, rows in (("journey", found.journey), ("ablation", found.ablation)):
        for row in rows:
            record.row(part=part, label=row.label, speedup=row.found.speedup(found.baseline),
                       **asdict(row.found))  # fmt: skip
    record.row(part="package", **found.package)
    for suffix, name in PICTURES.items():
        for file in (f for f in found.figures.values() if Path(f).stem == name):
            shutil.copyfile(PLACE / file, record.picture(suffix))
    _claims(record, found, challenge)
    _again(record, found, challenge, folder)
    write_technical_report(
        None, None, challenge.metrics, path=log.with_name("capstone_report.md"),
        challenge=challenge, findings=replace(found, figures=_kept(record)),
    )  # fmt: skip
    return record.keep()


def _kept(record: Record) -> dict[str, str]:
    """The pictures that are kept, by what they show."""
    return {Path(name).stem.removeprefix("capstone-"): name for name in record.pictures}


def _claims(record: Record, found: capstone.Findings, challenge: capstone.Challenge) -> None:
    first, last = found.baseline, found.final
    targets = capstone.targets_of(challenge.metrics)
    met = last.met(targets)
    process = found.package["process_bytes"]
    record.claim(
        "75 %, 10 ms, 100 MB, 10 MB: all four by one model", DOCUMENTS,
        ", ".join(f"{last.value(t):.4g} {t.unit}" for t in targets)
        + (f"; a process with its library {process / 1e6:.1f} MB" if process else ""),
        all(met.values()) and (process is None or process < 100e6),
    )  # fmt: skip
    compute, size = first.flops / last.flops, first.bytes / last.bytes
    record.claim(
        "10 times less compute and 10 times smaller at 75 %", ASKED,
        f"{compute:.1f} and {size:.1f} times, {first.accuracy:.2f} to {last.accuracy:.2f} %",
        min(compute, size) >= LESS and last.accuracy >= 75.0,
    )  # fmt: skip
    rows = {row.label: row.found for row in found.ablation}
    without = rows["all but distillation"]
    record.claim(
        "a pruned network learns more from its teacher", ASKED,
        f"{without.accuracy:.2f} to {last.accuracy:.2f} %, one seed",
        last.accuracy > without.accuracy,
    )  # fmt: skip
    fast = rows["all but quantisation"]
    record.claim(
        "int8 is twice as fast as float32", ASKED,
        f"{fast.milliseconds / last.milliseconds:.2f} times, one picture",
        fast.milliseconds >= 2 * last.milliseconds,
    )  # fmt: skip


def _again(
    record: Record, found: capstone.Findings, challenge: capstone.Challenge, folder: Path
) -> None:
    """The variant TWICE by a workshop that shares the baseline's weights and nothing else."""
    again = Workshop(challenge, SEED, None, folder)
    again.baseline = Workshop(challenge, SEED, PLACE, folder).baseline
    fresh = again.measure(TWICE)
    kept = Workshop(challenge, SEED, PLACE, folder).measure(TWICE)
    same = (fresh.weights, fresh.accuracy) == (kept.weights, kept.accuracy)
    record.claim(
        "the same seed gives the same variant, bit for bit", ASKED,
        f"weights {fresh.weights} and {kept.weights}, {fresh.accuracy:.2f} %", same,
    )  # fmt: skip
