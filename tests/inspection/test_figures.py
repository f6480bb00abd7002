"""figures.py: files of figures: their kinds, the same bytes twice; what is refused."""

import builtins

import numpy as np
import pytest

from tests.inspection.test_pictures import decode
from tinytorch.base.errors import ArgumentTypeError, MissingError, SettingError, StorageError
from tinytorch.inspection import draw_pareto_front, pareto_front, save_figure
from tinytorch.inspection.figures import figure_of, new_figure

BEGINS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.mark.parametrize("kind", BEGINS)
def test_a_figure_is_the_same_file_twice(tmp_path, kind):
    """Invariant: bit for bit; ground truth of the kind: how such files begin."""
    for name in ("a", "b"):
        save_figure(tmp_path / f"{name}.{kind}", draw_pareto_front([1, 2], [0.5, 0.75]))
    first, second = ((tmp_path / f"{name}.{kind}").read_bytes() for name in "ab")
    assert first == second and first.startswith(BEGINS[kind])


def test_a_picture_is_written_as_it_is(tmp_path):
    """Ground truth: the decoder of test_pictures."""
    picture = np.arange(12, dtype=np.uint8).reshape(3, 4)
    save_figure(str(tmp_path / "x.PNG"), picture)
    assert np.array_equal(decode((tmp_path / "x.PNG").read_bytes()), picture)


def test_what_cannot_be_written_is_named(tmp_path):
    """Ground truth: the docstring; nothing is left behind."""
    picture, figure = np.zeros((2, 2), np.uint8), new_figure(1, 1)
    with pytest.raises(SettingError, match="x.svg(.|\n)*ends in .png"):
        save_figure(tmp_path / "x.svg", picture)
    with pytest.raises(SettingError, match="no such kind of picture"):
        save_figure(tmp_path / "x", figure)
    with pytest.raises(ArgumentTypeError, match="this is no figure"):
        save_figure(tmp_path / "x.png", "x.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(StorageError):
        save_figure(tmp_path / "folder.png", figure)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.png"]


def test_without_matplotlib_all_is_computed_and_nothing_drawn(monkeypatch):
    """Ground truth: an import that fails, as where it is not installed."""
    real = builtins.__import__

    def refusing(name, *rest, **named):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", refusing)
    assert pareto_front([1], [1]).tolist() == [0]
    with pytest.raises(MissingError, match=r"pip install(.|\n)*plots"):
        draw_pareto_front([1], [1])


def test_a_part_of_a_figure_belongs_to_the_whole():
    """Ground truth: matplotlib's own tree."""
    figure = new_figure(2, 2)
    part = figure.subfigures(1, 2)[0]
    assert figure_of(part.subplots()) is figure and figure_of(figure.add_subplot()) is figure
