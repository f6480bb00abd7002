"""Images as characters."""

import io
import sys

import numpy as np

from tinytorch.cli.report import PLAIN_SHADES, SHADES, draw, shades_for_output, side_by_side


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
