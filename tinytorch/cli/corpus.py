"""A text that `tito` learns, read in pieces; the tokens of a long one are kept in the run's folder.

Knows files, digests and tokenizers, never what learns the tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np

from tinytorch.base import files
from tinytorch.base.errors import FileFormatError, NotFoundError
from tinytorch.cli.runs import RunFolder
from tinytorch.data.mapped import MappedArray
from tinytorch.text import (
    BytePairTokenizer,
    Tokenizer,
    load_tokenizer,
    map_tokens,
    save_tokenizer_json,
    write_tokens,
)
from tinytorch.text.corpus import decoded

# Bytes of a text whose tokens are held in memory, in 16 times as many, and of what pairs of bytes
# are learned of.
HELD = 16 << 20
LONGEST_NOTES = 1 << 12  # bytes


@dataclass(frozen=True)
class Source:
    """A text that can be read in pieces, as often as is asked.

    Args:
        text: the whole of it, or a file in UTF-8.
    """

    text: str | Path

    def pieces(self) -> Iterator[str]:
        """All of it; of a file never more than PIECE bytes at once.

        Raises:
            FileFormatError: the file is no UTF-8.
        """
        if isinstance(self.text, str):
            yield self.text
            return
        with files.reading(self.text, links=True) as file:
            yield from decoded(file, self.text)

    def some(self) -> Iterator[str]:
        """Pieces from the beginning to the end, at equal distances, of HELD bytes together; of a
        shorter text all."""
        return islice(self.pieces(), 0, None, -(-self.size // HELD) if self.is_long else 1)

    def characters(self) -> set[str]:
        """Those that occur in it."""
        return set(chain.from_iterable(self.pieces()))

    @property
    def size(self) -> int:
        """Bytes of a file; characters of what is in memory already."""
        return len(self.text) if isinstance(self.text, str) else self.text.stat().st_size

    @property
    def is_long(self) -> bool:
        """Whether its tokens are too many for the memory."""
        return isinstance(self.text, Path) and self.size > HELD

    def digest(self) -> str:
        """SHA-256 of its UTF-8, read piece by piece."""
        return _sha256(piece.encode("utf-8", "surrogatepass") for piece in self.pieces())


def save_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Write a tokenizer, as other programs read it if they can."""
    if isinstance(tokenizer, BytePairTokenizer):
        save_tokenizer_json(tokenizer, path)
    else:
        tokenizer.save(path)


def held_tokens(source: Source, tokenizer: Tokenizer) -> np.ndarray:
    """The tokens of a text, in memory, (M,) int64."""
    return np.concatenate([np.empty(0, np.int64), *tokenizer.encode_parts(source.pieces())])


def kept_tokens(
    source: Source, digest: str, learn: Callable[[], Tokenizer], run: RunFolder
) -> tuple[Tokenizer, MappedArray]:
    """The tokens of a text in the run's folder, and the tokenizer that made them.

    What is there already is taken, if it was made of this text and nobody changed it since;
    otherwise it is made, and the memory needed does not depend on the text's length.

    Args:
        source: a file.
        digest: of the text.
        learn: makes the tokenizer.
        run: where they lie.
    """
    notes = run.tokens.with_suffix(".json")
    if notes.exists() and _noted(notes) == _digests(digest, run):
        return load_tokenizer(run.tokenizer), map_tokens(run.tokens)
    tokenizer = learn()
    save_tokenizer(tokenizer, run.tokenizer)
    write_tokens(tokenizer, source.text, run.tokens)
    with files.replacing(notes) as file:  # last: it says that the others are whole
        file.write((json.dumps(_digests(digest, run), indent=1) + "\n").encode())
    return tokenizer, map_tokens(run.tokens)


def _noted(notes: Path) -> object:
    """What the notes of a run say; None of notes that somebody spoiled."""
    try:
        return files.parse_json(files.contents(notes, LONGEST_NOTES))
    except (files.NotStrictError, FileFormatError):
        return None


def _digests(text: str, run: RunFolder) -> dict[str, str]:
    """SHA-256 of the text and of the files that were made of it, those that are there."""
    found = {"text": text}
    for path in (run.tokenizer, run.tokens):
        with suppress(NotFoundError), files.reading(path) as file:
            found[path.name] = _sha256(iter(partial(file.read, files.CHUNK), b""))
    return found


def _sha256(pieces: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for piece in pieces:
        found.update(piece)
    return found.hexdigest()
