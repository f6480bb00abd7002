"""The command line's frame: system errors, Ctrl-C, exit codes."""

import pytest

from tinytorch.cli import main


def ended_by(monkeypatch, error, *words):
    def fail(**settings):
        raise error

    monkeypatch.setattr(main, "commands", fail)
    with pytest.raises(SystemExit) as ended:
        main.app(list(words))
    return ended.value.code


def test_system_errors_have_four_parts(monkeypatch, capsys):
    """Ground truth: the system's own words under "got", exit code 2."""
    assert ended_by(monkeypatch, PermissionError(13, "Permission denied", "x"), "train") == 2
    err = capsys.readouterr().err
    assert err.startswith("error: the system refused\n")
    assert "Permission denied" in err and "\n  fix:" in err


def test_ctrl_c_is_not_an_error(monkeypatch, capsys):
    """Ground truth: 128 + SIGINT, as shells report it; no traceback."""
    assert ended_by(monkeypatch, KeyboardInterrupt(), "train") == 130
    assert capsys.readouterr().err == "stopped\n"


def test_ctrl_c_before_the_first_step_said_nothing(monkeypatch, capsys):
    """Ground truth: as above; typer itself catches Ctrl-C, and shows nothing."""

    def interrupted(**settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("tinytorch.cli.results.RunFolder.newest", interrupted)
    with pytest.raises(SystemExit) as ended:
        main.app(["curve"])
    assert ended.value.code == 130
    assert capsys.readouterr().err == "stopped\n"


def test_faults_of_our_own_are_shown_whole(monkeypatch):
    """Ground truth: an error nobody raised on purpose keeps its traceback."""

    def fail(**settings):
        raise ZeroDivisionError

    monkeypatch.setattr(main, "commands", fail)
    with pytest.raises(ZeroDivisionError):
        main.app([])
