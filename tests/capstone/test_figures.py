"""Figures of a run: the files, and what is said where they cannot be drawn."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tests.capstone.test_findings import made
from tinytorch import capstone
from tinytorch.capstone.figures import draw_figures
from tinytorch.data import ImageDataset
from tinytorch.nn import Flatten, Linear, Sequential


@pytest.fixture
def workshop():
    """Three classes of pictures of 2 x 2, and a model that knows nothing."""
    pictures = np.arange(48, dtype=np.uint8).reshape(12, 1, 2, 2)
    test = ImageDataset(pictures, np.arange(12) % 3, classes=("cat", "dog", "bird"))
    model = Sequential(Flatten(), Linear(4, 3)).eval()
    challenge = SimpleNamespace(steps=())
    return SimpleNamespace(test=test, challenge=challenge, model=lambda steps: model)


def test_each_figure_is_a_file_and_stands_in_the_report(workshop, tmp_path, monkeypatch):
    """Ground truth: the files that begin as PNG does; the report names each."""
    monkeypatch.setattr("tinytorch.inspection.figures.DPI", 20)  # a few pixels are enough
    found = made()
    found.figures = draw_figures(workshop, found, tmp_path)
    assert len(found.figures) == 6
    for file in found.figures.values():
        assert (tmp_path / file).read_bytes()[1:4] == b"PNG"
    text = capstone.write_technical_report(None, None, path=tmp_path / "r.md", findings=found)
    for title, file in found.figures.items():
        assert f"![{title}]({file})" in text
    assert "Figures were not drawn" not in text


def test_without_matplotlib_the_report_says_so(workshop, tmp_path, monkeypatch):
    """Ground truth: an import that fails; no file is left."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    found = made()
    assert draw_figures(workshop, found, tmp_path) == {} and not list(tmp_path.iterdir())
    text = capstone.write_technical_report(None, None, path=tmp_path / "r.md", findings=found)
    assert "Figures were not drawn" in text and "plots" in text
