"""The command `tito`: its verbs, its version, and how a failure is shown.

Knows arguments and exit codes, never what a verb does.
"""

from __future__ import annotations

import sys

import typer

from tinytorch.base.errors import TinyTorchError
from tinytorch.cli.capstone import capstone
from tinytorch.cli.doctor import doctor
from tinytorch.cli.export import export_model
from tinytorch.cli.generate import generate
from tinytorch.cli.report import STOPPED
from tinytorch.cli.results import curve, evaluate, predict
from tinytorch.cli.train import train

FAILED = 2  # exit code of a command that could not do what was asked; typer's own for wrong usage
TRACEBACK = "--traceback"

commands = typer.Typer(
    name="tito",
    help="TinyTorch at the command line: train, ask and look.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
commands.command()(train)
commands.command()(evaluate)
commands.command()(curve)
commands.command()(predict)
commands.command()(generate)
commands.command("export")(export_model)
commands.command()(capstone)
commands.command()(doctor)


def _show_version(asked: bool) -> None:
    if asked:
        import tinytorch

        print(f"tinytorch {tinytorch.__version__}")
        raise typer.Exit


@commands.callback()
def options(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Print the version."
    ),
    traceback: bool = typer.Option(
        False, TRACEBACK, help="Show where in the code an error arose (anywhere on the line)."
    ),
) -> None:
    """Read what stands before the verb."""


def app(arguments: list[str] | None = None) -> None:
    """Run one command line and end the process.

    Args:
        arguments: the words after `tito`; default those of this process.

    Raises:
        SystemExit: always; 0 done, 1 `doctor` found a problem, 2 it could not be done.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    shown_in_full = TRACEBACK in words
    try:
        commands(args=[word for word in words if word != TRACEBACK], prog_name="tito")
    except TinyTorchError as error:
        if shown_in_full:
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(FAILED) from None
    except OSError as error:
        if shown_in_full:
            raise
        print(_of_the_system(error), file=sys.stderr)
        raise SystemExit(FAILED) from None
    except SystemExit as end:
        if end.__context__ and isinstance(end.__context__.__cause__, KeyboardInterrupt):
            print("stopped", file=sys.stderr)  # typer makes a silent exit of Ctrl-C
        raise
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(STOPPED) from None


def _of_the_system(error: OSError) -> TinyTorchError:
    return TinyTorchError(
        "error: the system refused",
        got=error,
        rule="files that are read exist, folders that are written can be written",
        fix="check the path; the same command with --traceback shows where it was used",
    )


if __name__ == "__main__":
    app()
