"""`tito capstone`: train, make small and fast step by step, measure, package and report.

Knows options and the folder; the work is done by the folder `capstone`.
"""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import typer

from tinytorch.base.errors import SettingError
from tinytorch.capstone import CHALLENGES, run_challenge, targets_of
from tinytorch.capstone import quick as quick_one
from tinytorch.cli.recipes import nearest
from tinytorch.cli.report import JsonProgress, Report, show_download, without_python
from tinytorch.cli.runs import RUNS
from tinytorch.training.history import best_for_output


def capstone(
    challenge: str = typer.Argument(None, metavar="CHALLENGE", help="cifar10 or digits."),
    quick: bool = typer.Option(False, "--quick", help="A part of the data, few passes: a trial."),
    data_dir: Path = typer.Option(None, help="Folder with the data files."),
    run: Path = typer.Option(None, help="Folder.", show_default="runs/capstone-CHALLENGE"),
    seed: int = typer.Option(0, help="Of first weights and order.", min=0),
    as_json: bool = typer.Option(False, "--json", help="One JSON object a line."),
) -> None:
    """Train a network, make it small and fast, and write a report of what each step was worth.

    The same command goes on with what the folder has.
    """
    report = Report(as_json)
    if challenge not in CHALLENGES:
        raise SettingError(
            "tito capstone: there is no such challenge",
            got="no name" if challenge is None else challenge,
            rule="one of " + ", ".join(CHALLENGES),
            fix=f"tito capstone {nearest(challenge or '', CHALLENGES)}",
        )
    known = CHALLENGES[challenge]
    chosen = quick_one(known) if quick else known
    name = f"capstone-{challenge}{'-quick' if quick else ''}"
    place = RUNS / name if run is None else run
    report.facts("decided", {
        "challenge": chosen.title,
        "steps": list(chosen.steps),
        "targets": [f"{t.name} {t}" for t in targets_of(chosen.metrics)],
        "epochs": f"{chosen.epochs}, and {chosen.again} for each variant",
        "seed": seed,
        "kept in": str(place),
    })  # fmt: skip
    report.text()
    found = run_challenge(
        chosen, place, seed=seed, data_dir=data_dir,
        say=lambda text: report.facts("said", {"text": text}) if as_json else report.text(text),
        progress=JsonProgress(report) if as_json else without_python(best_for_output()),
        downloading=None if as_json else show_download,
    )  # fmt: skip
    report.text()
    met = found.final.met(targets_of(chosen.metrics))
    report.facts("done", {
        "faster": f"{found.final.speedup(found.baseline):.1f}x",
        "smaller": f"{found.baseline.bytes / found.final.bytes:.1f}x",
        "less arithmetic": f"{found.baseline.flops / found.final.flops:.1f}x",
        "accuracy": f"{found.baseline.accuracy:.2f} % to {found.final.accuracy:.2f} %",
        "targets met": [name for name, yes in met.items() if yes],
        "not met": [name for name, yes in met.items() if not yes] or "none",
        "report": str(place / "capstone_report.md"),
        "look": f"python -m tinytorch.capstone.demo {quote(str(place))}",
    })  # fmt: skip
