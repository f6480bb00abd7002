"""What a command says, as sentences, as JSON lines, and as drawn pictures."""

import io
import json
import sys

import numpy as np

from tinytorch.cli.report import (
    PLAIN_SHADES,
    SHADES,
    JsonProgress,
    Report,
    draw,
    shades_for_output,
    show_download,
    side_by_side,
)


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


# --- Images as characters ---


def test_every_level_has_its_shade():
    """Ground truth: the five shades at 0, 1/4, 1/2, 3/4, 1; numbers outside are held inside."""
    assert draw(np.linspace(0, 1, 5)[None], "01234") == ["0011223344"]
    assert draw(np.array([[-1.0, 2.0]]), "01234") == ["0044"]


def test_large_images_join_two_rows():
    """Ground truth: the mean of two rows; an odd last row is left out."""
    image = np.zeros((5, 20))
    image[0] = 1
    assert draw(image, "01234") == ["2" * 20, "0" * 20]


def test_side_by_side_breaks_at_the_width():
    """Ground truth: laid out by hand."""
    blocks = [["ab", "cd"], ["ef", "gh"], ["ij", "kl"]]
    assert side_by_side(blocks, ["1", "2", "3"], width=6).splitlines() == [
        "ab  ef", "cd  gh", "1   2", "", "ij", "kl", "3",
    ]  # fmt: skip
    assert side_by_side(blocks, ["1", "2", "3"], width=1).count("\n\n") == 2


def test_shades_fit_the_output(monkeypatch):
    """Ground truth: the output's encoding; ASCII has no blocks."""
    for encoding, shades in (("utf-8", SHADES), ("ascii", PLAIN_SHADES), ("no-such", PLAIN_SHADES)):
        fake = io.StringIO()
        monkeypatch.setattr(
            sys, "stdout", type("Out", (), {"encoding": encoding, "write": fake.write})
        )
        assert shades_for_output() == shades
