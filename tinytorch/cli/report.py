"""What a command says: sentences for people, or one JSON object a line for programs; and pictures.

Knows names, values, arrays and characters, never where they come from or what an image shows.
"""

from __future__ import annotations

import json
import sys

import numpy as np

from tinytorch.base.errors import printable
from tinytorch.training.history import Progress

STOPPED = 130  # exit code after Ctrl-C: 128 + SIGINT, as shells report it


class Report:
    """Prints the findings of a command.

    Args:
        as_json: one JSON object a line on standard output in place of sentences; each has "event".

    Example:
        >>> Report(as_json=False).facts("decided", {"batch size": 64, "seed": 0})
        batch size  64
        seed        0
        >>> Report(as_json=True).facts("decided", {"batch size": 64})
        {"event": "decided", "batch_size": 64}
    """

    def __init__(self, as_json: bool):
        self.as_json = as_json

    def facts(self, event: str, values: dict) -> None:
        """Names and values, one a line."""
        if self.as_json:
            named = {name.replace(" ", "_"): value for name, value in values.items()}
            line = json.dumps({"event": event, **named}, default=str)
            print(line.replace("\x7f", "\\u007f"), flush=True)  # the one that JSON leaves as it is
            return
        width = max(map(len, values), default=0)
        for name, value in values.items():
            print(f"{_shown(name.ljust(width))}  {_shown(_for_people(value))}", flush=True)

    def piece(self, text: str) -> None:
        """A part of a text that goes on: as it is for people, an event for programs."""
        if self.as_json:
            self.facts("piece", {"text": text})
            return
        print(_shown(text), end="", flush=True)

    def sample(self, epoch: int, text: str) -> None:
        """What a model says after an epoch, indented."""
        if self.as_json:
            self.facts("sample", {"epoch": epoch, "text": text})
            return
        self.text("    " + text.strip().replace("\n", "\n    "))

    def text(self, text: str = "") -> None:
        """A line for people; nothing in JSON."""
        if not self.as_json:
            print(_shown(text), flush=True)


def _shown(text: str) -> str:
    """Lines as a terminal can show them: names and notes may come from anybody's files."""
    return "\n".join(map(printable, text.split("\n")))


def _for_people(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)


class JsonProgress(Progress):
    """The trainer's progress as JSON lines: one for each epoch that is over.

    Args:
        report: where they go.
    """

    def __init__(self, report: Report):
        self.report = report

    def end_epoch(self, row: dict[str, float]) -> None:
        """Print the row of the history."""
        self.report.facts("epoch", dict(row))

    def message(self, text: str) -> None:
        """Print what the user should read."""
        self.report.facts("message", {"text": text})


def show_download(name: str, have: int, total: int) -> None:
    """One line on standard error that grows with the download."""
    share = f"{100 * have / total:3.0f} %" if total else ""
    end = "\n" if total and have >= total else ""
    print(f"\rfetching {name}: {have / 1e6:.1f} MB {share}", end=end, file=sys.stderr, flush=True)


def without_python(progress: Progress) -> Progress:
    """`progress`, whose messages end before they say what to write in a Python program."""
    message = progress.message
    progress.message = lambda text: message(text.split(". To go on: ")[0])
    return progress


SHADES = " ░▒▓█"
PLAIN_SHADES = " .:*#"
WIDE = 16  # columns below which a pixel is drawn twice as wide, since characters are tall


def draw(image: np.ndarray, shades: str = SHADES) -> list[str]:
    """The lines of one image.

    Args:
        image: (H, W) numbers in [0, 1]; 0 is drawn as the first shade.
        shades: characters from light to dark.

    Returns:
        lines of equal length, 2 W characters of each row for small images; larger ones have W, and
        two rows of pixels in a line.

    Example:
        >>> draw(np.array([[0.0, 1.0], [0.5, 0.0]]), " .#")
        ['  ##', '..  ']
    """
    if image.shape[1] > WIDE:
        rows = image[: len(image) // 2 * 2].reshape(-1, 2, image.shape[1]).mean(1)
        repeat = 1
    else:
        rows, repeat = image, 2
    levels = np.clip(np.rint(rows * (len(shades) - 1)), 0, len(shades) - 1).astype(int)
    return ["".join(shades[i] * repeat for i in row) for row in levels]


def side_by_side(blocks: list[list[str]], captions: list[str], width: int) -> str:
    """Blocks of lines next to each other, each with a caption below, as many as fit in `width`."""
    columns = [max(len(c), *map(len, b)) for b, c in zip(blocks, captions, strict=True)]
    lines: list[str] = []
    start = 0
    while start < len(blocks):
        end, used = start + 1, columns[start]
        while end < len(blocks) and used + 2 + columns[end] <= width:
            used += 2 + columns[end]
            end += 1
        row = range(start, end)
        for i in range(max(len(blocks[j]) for j in row)):
            parts = (blocks[j][i] if i < len(blocks[j]) else "" for j in row)
            padded = (p.ljust(columns[j]) for p, j in zip(parts, row, strict=True))
            lines.append("  ".join(padded).rstrip())
        lines.append("  ".join(captions[j].ljust(columns[j]) for j in row).rstrip())
        lines.append("")
        start = end
    return "\n".join(lines).rstrip("\n")


def shades_for_output() -> str:
    """Block characters where the output can hold them, plain letters elsewhere."""
    try:
        SHADES.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return PLAIN_SHADES
    return SHADES
