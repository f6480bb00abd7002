"""A text to learn from, and windows of token ids for language modelling.

Knows token ids, never how a text becomes them: tokenizers live in `text`.
"""

from __future__ import annotations

import os

import numpy as np

from tinytorch.base.errors import SettingError
from tinytorch.data import official
from tinytorch.data.dataset import check_index
from tinytorch.data.official import Progress, Remote, download, read_intact

PART = "text"
TINY_SHAKESPEARE = Remote(
    "tinyshakespeare.txt",
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",),
    algorithm="sha256",
    size=1_115_394,
)


class TextWindows:
    """Windows of a token sequence: each input is `length` tokens, its target the same one later.

    Args:
        tokens: (M,) token ids.
        length: T, tokens in a window, 1 <= T < M.
        step: tokens between the starts of two windows, >= 1; None means `length` (no overlap).

    Raises:
        SettingError: a setting outside its range.

    Cost: nothing but the tokens; a batch is cut when it is taken.

    Example:
        >>> TextWindows(np.arange(6), length=2)[1]
        (array([2, 3]), array([3, 4]))
    """

    def __init__(self, tokens: np.ndarray, length: int, step: int | None = None):
        step = length if step is None else step
        if not 1 <= length < len(tokens) or step < 1:
            raise SettingError(
                "TextWindows: these windows do not fit the text",
                got=f"length={length}, step={step}, {len(tokens)} tokens",
                rule="1 <= length < number of tokens, step >= 1",
                fix=f"length={max(1, min(length, len(tokens) - 1))}",
            )
        self.tokens, self.length, self.step = np.asarray(tokens), length, step

    def __len__(self) -> int:
        """Number of whole windows, N."""
        return (len(self.tokens) - 1 - self.length) // self.step + 1

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        check_index(index, len(self))
        inputs, targets = self.take(np.array([index % len(self)]))
        return inputs[0], targets[0]

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """Inputs (B, T) and targets (B, T) of the windows with these numbers."""
        at = np.asarray(indices)[:, None] * self.step + np.arange(self.length)  # (B, T)
        return self.tokens[at], self.tokens[at + 1]


def load_tiny_shakespeare(
    folder: str | os.PathLike[str] | None = None, progress: Progress | None = None
) -> str:
    """1.1 million characters of Shakespeare's plays, 65 different ones.

    Found or downloaded as in `load_mnist`; the subfolder is "text".

    Args:
        folder: where the file is or shall be.
        progress: called as progress(name, bytes so far, bytes in all) while downloading.

    Returns:
        the text.

    Raises:
        DataError: the file is damaged, or missing and cannot be downloaded.

    Source: A. Karpathy (2015), char-rnn.
    """
    looked = official.folders(folder)
    found = official.find(TINY_SHAKESPEARE.name, PART, looked)
    if found is None:
        found = download(TINY_SHAKESPEARE, looked[-1] / PART, progress, links=False)
    return read_intact(found, TINY_SHAKESPEARE).decode("utf-8")
