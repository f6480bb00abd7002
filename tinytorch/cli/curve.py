"""`tito curve`: what each epoch of a run measured, as table, as plot, as picture.

Knows a file of rows; drawing is done by `training`.
"""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import typer

from tinytorch.base.errors import DataError
from tinytorch.cli.report import Report
from tinytorch.cli.runs import RunFolder
from tinytorch.training import History

WIDTH, HEIGHT = 60, 12  # of a plot, in characters


def curve(
    run: Path = typer.Argument(None, help="The folder of a run; default the newest in runs/."),
    svg: Path = typer.Option(None, help="Also write the losses as a picture, SVG."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object a line."),
) -> None:
    """Show the history of a run, also of one that is still going on."""
    report = Report(as_json)
    folder = RunFolder.newest() if run is None else RunFolder.open(run)
    history = History.load(folder.history) if folder.history.is_file() else History()
    if not len(history):
        raise DataError(
            "this run has no history yet",
            got=str(folder.path),
            rule="at least one whole epoch",
            fix=f"tito train --resume --run {quote(str(folder.path))}",
        )
    if as_json:
        for row in history:
            report.facts("epoch", row)
    else:
        settings = folder.settings
        report.text(f"{folder.path}: {settings.model} on {settings.data}, seed {settings.seed}\n")
        report.text(str(history))
        for kind in ("loss", "accuracy"):
            names = [name for name in history.names() if name.endswith(kind)]
            if names and len(history) > 1:
                report.text("\n" + history.plot(*names, width=WIDTH, height=HEIGHT))
    if svg is not None:
        history.save_plot(svg)
        report.facts("written", {"picture": str(svg)})
