"""Figures: who draws them (matplotlib, where it is installed), and how they become files.

Knows axes, sizes and endings of files, never what is drawn. Figures are made without `pyplot`: no
window, no list of open figures; in a notebook the last line of a cell shows one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from tinytorch.base import files
from tinytorch.base.errors import ArgumentTypeError, MissingError, SettingError
from tinytorch.inspection.pictures import png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150  # pixels an inch of a PNG
# Dates and random names are left out: the same figure is the same file.
METADATA = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches.

    Raises:
        MissingError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingError(
            "figures are drawn by matplotlib, which is not installed",
            got=str(error),
            rule="an optional library: all that is drawn can be computed without it",
            fix='pip install "tinytorch-ml[plots]"',
        ) from None
    return Figure(figsize=(width, height), layout="constrained")


def axes_of(axes: Axes | None, width: float, height: float) -> Axes:
    """The axes to draw in: those that were given, or those of a new figure of so many inches."""
    return new_figure(width, height).subplots() if axes is None else axes


def figure_of(axes: Axes) -> Figure:
    """The whole figure to which axes belong."""
    return cast("Figure", axes.get_figure(root=True))


def save_figure(path: str | Path, figure: Figure | np.ndarray) -> None:
    """Write a figure, or a picture of bytes; the file is replaced in one step.

    The same figure gives the same bytes each time, with the same version of matplotlib.

    Args:
        path: ends in ".png"; for a figure also ".svg" or ".pdf".
        figure: what a `draw_...` function gave.

    Raises:
        SettingError: another ending.
        StorageError: it cannot be written.

    Example:
        >>> import tempfile
        >>> place = Path(tempfile.mkdtemp()) / "black.png"
        >>> save_figure(place, np.zeros((4, 4), np.uint8))
        >>> place.read_bytes()[1:4]
        b'PNG'
    """
    if not isinstance(figure, np.ndarray) and not hasattr(figure, "savefig"):
        raise ArgumentTypeError(
            "save_figure: this is no figure",
            got=type(figure).__name__,
            rule="a path, then what a draw_... function gave",
            fix='save_figure("confusion.png", draw_confusion_matrix(matrix))',
        )
    kinds = ("png",) if isinstance(figure, np.ndarray) else ("png", "svg", "pdf")
    kind = Path(path).suffix.lower().removeprefix(".")
    if kind not in kinds:
        raise SettingError(
            "save_figure: there is no such kind of picture",
            got=str(path),
            rule="a name that ends in " + " or ".join("." + k for k in kinds),
            fix=str(Path(path).with_suffix(".png")),
        )
    with files.replacing(path) as file:
        if isinstance(figure, np.ndarray):
            file.write(png(figure))
            return
        from matplotlib import rc_context

        with rc_context({"svg.hashsalt": "tinytorch"}):
            figure.savefig(file, format=kind, dpi=DPI, metadata=METADATA.get(kind))
