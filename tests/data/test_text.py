"""A text to learn from, and windows over its tokens."""

import numpy as np
import pytest

from tinytorch.base.errors import DataError, SettingError
from tinytorch.data import DataLoader, TextWindows, load_tiny_shakespeare


def test_windows_cover_the_text():
    """Ground truth: slicing; the target is the input one token later."""
    tokens = np.arange(11) * 10
    windows = TextWindows(tokens, 3)
    assert len(windows) == 3
    x, y = windows.take(np.array([0, 2]))
    assert x.tolist() == [[0, 10, 20], [60, 70, 80]]
    assert y.tolist() == [[10, 20, 30], [70, 80, 90]]
    overlapping = TextWindows(tokens, 3, step=1)
    assert len(overlapping) == 8
    assert overlapping[7][1].tolist() == [80, 90, 100]
    assert overlapping[-1][1].tolist() == [80, 90, 100]


@pytest.mark.parametrize(("length", "step"), [(0, None), (11, None), (3, 0)])
def test_windows_that_do_not_fit(length, step):
    """Ground truth: the documented ranges."""
    with pytest.raises(SettingError, match="do not fit the text"):
        TextWindows(np.arange(11), length, step)


def test_a_damaged_copy_is_refused(tmp_path):
    """Ground truth: the published sha256."""
    (tmp_path / "tinyshakespeare.txt").write_text("To be")
    with pytest.raises(DataError, match=r"tinyshakespeare\.txt is damaged"):
        load_tiny_shakespeare(tmp_path)


def test_windows_make_batches():
    """Ground truth: the shapes of language modelling, (B, T) and (B, T)."""
    tokens = np.frombuffer(b"to be or not to be, that is the question", np.uint8)
    for x, y in DataLoader(TextWindows(tokens, 4), 2, shuffle=True, drop_last=True):
        assert x.shape == y.shape == (2, 4)
        assert np.array_equal(x[:, 1:], y[:, :-1])


@pytest.mark.data
def test_shakespeare(official_data):
    """Ground truth: 1,115,394 characters, 65 different ones (counted with wc and sort)."""
    text = load_tiny_shakespeare(official_data)
    assert (len(text), len(set(text))) == (1115394, 65)
