"""Chapter "text": texts as numbers, and back."""

from __future__ import annotations

from tinytorch.text import BytePairTokenizer as BPETokenizer
from tinytorch.text import CharacterTokenizer as CharTokenizer
from tinytorch.text import Vocabulary, pad

__all__ = ["BPETokenizer", "CharTokenizer", "Vocabulary", "pad"]
