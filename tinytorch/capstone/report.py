"""The technical report of a capstone, as Markdown: every heading of the course's documents.

Knows headings and tables, and which sentences follow from which numbers; numbers that were not
measured are said to be missing, never made up.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from tinytorch.base import files
from tinytorch.capstone.challenge import CIFAR10, RUNNING, STEPS, Challenge, Target, targets_of
from tinytorch.capstone.findings import Findings, Row
from tinytorch.capstone.measurement import Measurement, evaluate
from tinytorch.capstone.profile import Bottleneck
from tinytorch.nn.module import Module

NOT_DRAWN = (
    'Figures were not drawn; with matplotlib (`pip install "tinytorch-ml[plots]"`) '
    "`run_challenge` and `tito capstone` draw them."
)
NOT_MEASURED = "Not measured; `run_challenge` and `tito capstone` do."
SHOWN = 6  # bottlenecks in a table


def write_technical_report(
    baseline: Any, final_model: Any, metrics: Any = None, *,
    path: str | os.PathLike[str] = "capstone_report.md", challenge: Challenge = CIFAR10,
    findings: Findings | None = None, track: str = "Performance Ninja",
) -> str:  # fmt: skip
    """Write the report: problem, approach, results, reflection, with tables of what was measured.

    Args:
        baseline: the model before, or its Measurement; a model is evaluated on the challenge's
            test data.
        final_model: the model after, or its Measurement.
        metrics: the targets, as the document's dictionary `metrics`, or the Measurement of the
            final model; default the challenge's targets.
        path: the file; what is there is replaced.
        challenge: whose problem it is; default CIFAR-10.
        findings: of `run_challenge`, for the journey, the ablation and the package; None: the
            report has the two models alone, and says so.
        track: of the document's five, for the title.

    Returns:
        the text.

    Raises:
        StorageError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> place = Path(tempfile.mkdtemp()) / "capstone_report.md"
        >>> before = Measurement(90.0, 20.0, 9_000_000, 4_000_000, 80_000_000, "0" * 12)
        >>> after = Measurement(80.0, 0.5, 500_000, 100_000, 8_000_000, "1" * 12)
        >>> text = write_technical_report(before, after, path=place)
        >>> "40.0x faster" in text, "## Engineering Reflection" in text
        (True, True)
    """
    known = metrics if isinstance(metrics, Measurement) else None
    asked = metrics if isinstance(metrics, Mapping) else challenge.metrics
    first = findings.baseline if findings else _measured(baseline, challenge)
    last = findings.final if findings else known or _measured(final_model, challenge)
    parts = _Parts(challenge, targets_of(asked), first, last, findings)
    network = type(baseline).__name__ if isinstance(baseline, Module) else "the network"
    text = _text(f"{track}: {challenge.title}", _sections(parts, network))
    with files.replacing(files.user_path(path)) as file:
        file.write(text.encode())
    return text


def _measured(model: Any, challenge: Challenge) -> Measurement:
    return model if isinstance(model, Measurement) else evaluate(model, challenge.part(False))


def _text(title: str, sections: Mapping[str, Mapping[str, str]]) -> str:
    lines = [f"# {title}", ""]
    for section, parts in sections.items():
        lines += [f"## {section}", ""]
        for heading, body in parts.items():
            lines += [f"### {heading}", "", body.strip(), ""]
    return "\n".join(lines)


class _Parts:
    """The pieces of which sections are put together.

    Args:
        challenge: the problem.
        targets: what was asked.
        first, last: baseline and final model.
        findings: all else, or None.
    """

    def __init__(
        self, challenge: Challenge, targets: list[Target], first: Measurement, last: Measurement,
        findings: Findings | None,
    ):  # fmt: skip
        self.challenge, self.targets, self.first, self.last = challenge, targets, first, last
        self.findings = findings

    def gains(self) -> str:
        """What became better and worse, in one sentence."""
        a, b = self.first, self.last
        return (
            f"{b.speedup(a):.1f}x faster ({a.milliseconds:.3f} to {b.milliseconds:.3f} ms), "
            f"{a.bytes / b.bytes:.1f}x smaller ({a.bytes / 1e6:.3f} to {b.bytes / 1e6:.3f} MB), "
            f"{a.flops / b.flops:.1f}x less arithmetic ({a.flops / 1e6:.2f} to "
            f"{b.flops / 1e6:.2f} MFLOP), {b.accuracy - a.accuracy:+.2f} points of accuracy "
            f"({a.accuracy:.2f} to {b.accuracy:.2f} %)."
        )

    def checked(self) -> str:
        """The targets, what was measured, and whether they are met."""
        rows = [
            (t.name, str(t), f"{self.first.value(t):.4g} {t.unit}",
             f"{self.last.value(t):.4g} {t.unit}",
             "met" if t.met(self.last.value(t)) else "**not met**")
            for t in self.targets
        ]  # fmt: skip
        table = _table(("target", "asked", "baseline", "final model", ""), rows)
        return (
            f"{table}\n\nMemory is that of the weights and of all that an answer takes beside "
            "them; size is that of the weights."
        )

    def package(self) -> str:
        """What the package needs."""
        found = self.findings.package if self.findings else {}
        if not found:
            return "No package was written: `export.package_for_production(model, folder, x)`."
        process = found["process_bytes"]
        held = (
            "no shared library was linked, so that no process was measured"
            if process is None
            else f"a process of Python with it and nothing else holds {process / 1e6:.1f} MB"
        )
        return (
            f"The package (target {found['target']}) tells {found['accuracy']:.2f} % of the first "
            f"{found['pictures']} test pictures right, in {found['milliseconds']:.3f} ms each on "
            f"one thread; the library with the weights inside has "
            f"{found['library_bytes'] / 1e6:.3f} MB, and {held}."
        )

    def best(self) -> list[str]:
        """Which step alone gains most of what."""
        rows = {r.label: r for r in self.findings.ablation} if self.findings else {}
        alone = {
            step: rows[f"{step} alone"].found
            for step in self.challenge.steps
            if f"{step} alone" in rows
        }
        if not alone:
            return [NOT_MEASURED]
        a = self.first
        faster, fast = max(alone.items(), key=lambda item: item[1].speedup(a))
        smaller, small = min(alone.items(), key=lambda item: item[1].bytes)
        costly, worst = min(alone.items(), key=lambda item: item[1].accuracy)
        idle = [
            step for step, m in alone.items()
            if m.speedup(a) < 1.05 and m.bytes >= a.bytes and m.accuracy <= a.accuracy
        ]  # fmt: skip
        found = [
            f"Alone, {faster} makes an answer {fast.speedup(a):.1f}x as fast, the most of all.",
            f"Alone, {smaller} makes the model {a.bytes / small.bytes:.1f}x smaller, the most of "
            "all.",
            f"Alone, {costly} costs most accuracy: {worst.accuracy - a.accuracy:+.2f} points."
            if worst.accuracy < a.accuracy
            else "No step alone costs accuracy.",
        ]
        if idle:
            found.append(f"Alone, {' and '.join(idle)} gained nothing.")
        return found


def _sections(parts: _Parts, network: str) -> dict[str, dict[str, str]]:
    """Heading by heading: the first document's four sections, the second's four in their places."""
    return {
        "Executive Summary": _summary(parts),
        "Technical Approach": _approach(parts, network),
        "Results & Analysis": _results(parts),
        "Engineering Reflection": _reflection(parts),
    }


def _summary(parts: _Parts) -> dict[str, str]:
    met = sum(t.met(parts.last.value(t)) for t in parts.targets)
    return {
        "Problem statement and motivation": parts.challenge.problem,
        "Key technical achievements": f"{met} of {len(parts.targets)} targets are met by one "
        f"model.\n\n{parts.checked()}\n\n{parts.package()}",
        "Performance improvements achieved": parts.gains(),
        "Engineering insights gained": _list(parts.best()),
    }


def _approach(parts: _Parts, network: str) -> dict[str, str]:
    challenge = parts.challenge
    steps = [f"**{step}**: {STEPS[step]}." for step in challenge.steps]
    return {
        "Problem statement and approach": "A baseline is trained and measured; where its time goes "
        "is asked of the compiler; then one step at a time is added and everything measured again. "
        "The steps, in order:\n\n" + _list(steps),
        "Architecture and design decisions": f"The baseline is a {network}, trained for "
        f"{challenge.epochs} passes by AdamW (highest rate {challenge.lr:g}, batches of "
        f"{challenge.batch_size}). Steps that change weights come before those that round them: "
        "channels are removed from float32, batch norms are folded, then bytes are made. "
        f"{', '.join(s for s in challenge.steps if s in RUNNING) or 'No step'} changes how a model "
        "is run, not the model.",
        "Implementation methodology": f"Pruning removes {_share(challenge.ratio)} of the channels "
        "by the sum of their magnitudes, with all that belongs to them (read off the recorded "
        f"graph). What is left is trained again for {challenge.again} passes; with distillation by "
        f"{challenge.alpha:g} T^2 KL(baseline || student) at T = {challenge.temperature:g} and "
        f"{1 - challenge.alpha:.2g} times the cross-entropy. Scales of int8 are read off "
        f"{challenge.calibration} training samples. One seed and one order of the data serve every "
        "variant.",
        "Tools and techniques used": "TinyTorch alone: its Trainer, its compiler and profile, "
        "`compression` (prune_channels, fine_tune, distill, fold_batch_norm, quantize), `export` "
        "(package_for_production).",
        "Alternative approaches considered": "Single weights set to zero save "
        "bytes, and time in linear layers alone; int4 saves more bytes than int8 and "
        "loses more; low rank suits large linear layers, of which this network has few. When each "
        "is worth it: docs/optimising.md.",
    }


def _share(ratio: float | Mapping[str, float]) -> str:
    """How much is removed, in words."""
    if isinstance(ratio, Mapping):
        return ", ".join(f"{part:.0%} (`{name}`)" for name, part in ratio.items())
    return f"{ratio:.0%}"


def _results(parts: _Parts) -> dict[str, str]:
    found = parts.findings
    journey = _rows(found.journey) if found else NOT_MEASURED
    compared = _rows(found.ablation) if found else NOT_MEASURED
    return {
        "Quantitative performance improvements": parts.gains(),
        "Baseline vs optimized metrics": parts.checked(),
        "Benchmark comparisons (before/after)": "Where an answer of the baseline, compiled, goes:"
        f"\n\n{_parts(found.bottlenecks if found else ())}\n\nand one of the final model:\n\n"
        f"{_parts(found.after if found else ())}",
        "Optimization journey and decisions": "One step more in each row:\n\n" + journey,
        "Ablation": "Each step alone, and each left out. Accuracy, bytes, FLOP and weights (the "
        "beginning of their SHA-256) come again bit for bit with the same seed on the same kind "
        "of processor; times do not.\n\n" + compared,
        "Figures": _pictures(found.figures if found else {}),
        "Trade-off analysis (speed vs memory vs complexity)": _list([
            f"Speed: {parts.last.speedup(parts.first):.1f}x, memory of an answer "
            f"{parts.first.memory / parts.last.memory:.1f}x less, for "
            f"{parts.last.accuracy - parts.first.accuracy:+.2f} points.",
            "Complexity: compiling and quantising need no training; pruning and distillation need "
            f"{parts.challenge.again} passes more, and the baseline beside the student.",
        ]),
        "Limitations and future work": _list([
            f"One seed ({found.seed if found else 'not known'}); times of one machine"
            + (f" ({found.machine})" if found else "") + ", medians, with whatever ran beside.",
            "The channels to remove are chosen once and by magnitude; a schedule, or the gradient, "
            "may choose better.",
            "The baseline's time is that of NumPy, line by line, as the first row says; against "
            "its own compiled program the gain is the ratio of two later rows.",
        ]),
    }  # fmt: skip


def _reflection(parts: _Parts) -> dict[str, str]:
    rows = parts.findings.journey if parts.findings else []
    lessons: list[str] = []
    for before, after in zip(rows, rows[1:], strict=False):
        a, b = before.found, after.found
        lessons.append(
            f"{after.label.removeprefix('+ ')}: {a.milliseconds / b.milliseconds:.2f} times as "
            f"fast as the row before, {a.bytes / b.bytes:.2f} times fewer bytes, "
            f"{b.accuracy - a.accuracy:+.2f} points."
        )
    return {
        "What you learned about framework design": "Each step is a function from a model to a "
        "model, so that any order and any subset can be tried, and the same evaluation serves all. "
        "What belongs to a channel is read off the recorded graph, so that no network needs code "
        "of its own.",
        "Most challenging technical decisions": "In which order the steps go, and what counts as "
        "the baseline's time: both are in the tables above, so that another reader can choose "
        "differently.",
        "Lessons learned": _list(lessons) if lessons else NOT_MEASURED,
        "How your work fits into broader ML systems": "The result is a native library with a C "
        "header, a manifest with checksums, a sample and its expected output: what a service or a "
        "device needs, without Python.",
    }


def _rows(rows: Iterable[Row]) -> str:
    every = list(rows)
    first = every[0].found
    cells = [
        (row.label, f"{row.found.accuracy:.2f}", f"{row.found.milliseconds:.3f}",
         f"{row.found.speedup(first):.2f}x", f"{row.found.memory / 1e6:.3f}",
         f"{row.found.bytes / 1e6:.4f}", f"{row.found.flops / 1e6:.3f}", f"`{row.found.weights}`")
        for row in every
    ]  # fmt: skip
    heads = ("", "accuracy, %", "ms", "speedup", "memory, MB", "size, MB", "MFLOP", "weights")
    return _table(heads, cells)


def _parts(found: Iterable[Bottleneck]) -> str:
    rows = [
        (f"{b.share:.1%}", f"{1e6 * b.seconds:.1f}", b.what, b.limit, f"{b.reached:.0%}", b.helps)
        for b in list(found)[:SHOWN]
    ]
    heads = ("share", "us", "what", "limit", "of the limit", "what helps")
    return _table(heads, rows) if rows else NOT_MEASURED


def _pictures(figures: Mapping[str, str]) -> str:
    shown = [f"{title}:\n\n![{title}]({file})" for title, file in figures.items()]
    return "\n\n".join(shown) if shown else NOT_DRAWN


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
