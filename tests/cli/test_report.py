"""What commands say, for people and for programs."""

import json

from tinytorch.cli.report import JsonProgress, Report, show_download


def test_json_is_one_object_a_line(capsys):
    """Ground truth: json.loads of each line."""
    report = Report(as_json=True)
    report.text("for people only")
    report.facts("decided", {"batch size": 2, "sides": [8, 8]})
    progress = JsonProgress(report)
    progress.begin_epoch(1, 2, 10)
    progress.batch(1, {"loss": 1.0})
    progress.end_epoch({"epoch": 1, "loss": 0.5})
    progress.message("stopped")
    progress.close()
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"event": "decided", "batch_size": 2, "sides": [8, 8]},
        {"event": "epoch", "epoch": 1, "loss": 0.5},
        {"event": "message", "text": "stopped"},
    ]


def test_people_get_aligned_lines(capsys):
    """Ground truth: laid out by hand."""
    Report(as_json=False).facts("decided", {"batch size": 2, "sides": (8, 8)})
    assert capsys.readouterr().out == "batch size  2\nsides       8, 8\n"


def test_downloads_show_on_standard_error(capsys):
    """Ground truth: nothing on standard output, which belongs to results."""
    show_download("x.gz", 500_000, 1_000_000)
    show_download("x.gz", 700_000, 0)
    show_download("x.gz", 1_000_000, 1_000_000)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert " 50 %" in shown.err and shown.err.endswith("100 %\n")


def test_nothing_moves_the_cursor(capsys):
    """Ground truth: str.isprintable of each line, and the JSON that is read back."""
    evil = "\x1b]0;mine\x07\x7f\x9b2J\u202e\r"
    Report(as_json=False).facts("found", {evil: evil, "list": [evil]})
    Report(as_json=False).text(f"{evil}\n{evil}")
    Report(as_json=True).facts("found", {evil: evil})
    lines = capsys.readouterr().out.split("\n")
    assert len(lines) == 6 and all(line.isprintable() for line in lines)
    assert json.loads(lines[4]) == {"event": "found", evil: evil}
