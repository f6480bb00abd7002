"""Drawing grey images in a terminal, side by side.

Knows arrays and characters, never what an image shows.
"""

from __future__ import annotations

import sys

import numpy as np

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
