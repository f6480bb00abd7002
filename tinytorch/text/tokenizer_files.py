"""A tokenizer from whatever file or folder it comes in.

Knows how each kind of file begins, and who reads it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinytorch.base import files
from tinytorch.base.errors import FileFormatError, NotFoundError, short
from tinytorch.text import byte_pairs, sentence_pieces, tokenizer
from tinytorch.text.byte_pairs import BytePairTokenizer, load_gpt2_tokenizer
from tinytorch.text.sentence_pieces import (
    SentencePieceTokenizer,
    read_llama2c,
    read_sentencepiece,
)
from tinytorch.text.tokenizer import ByteTokenizer, CharacterTokenizer, Tokenizer
from tinytorch.text.tokenizer_json import load_tokenizer_json
from tinytorch.text.vocabulary import read_object

# In a folder, the first of these that is there.
NAMES = ("tokenizer.json", "tokenizer.model", "tokenizer.bin")
OWN: dict[str, Callable[[Any], Tokenizer]] = {
    tokenizer.KIND: CharacterTokenizer.load,
    tokenizer.BYTE_KIND: ByteTokenizer.load,
    byte_pairs.KIND: BytePairTokenizer.load,
    sentence_pieces.KIND: SentencePieceTokenizer.load,
}


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """The tokenizer in a file, or in a folder as models come in.

    Args:
        path: a file that a tokenizer's `save` wrote, a `tokenizer.json` of the library
            `tokenizers`, a `tokenizer.model` of SentencePiece, or a `tokenizer.bin` of llama2.c,
            under any name; or a folder with one of these, or with GPT-2's two files.

    Returns:
        a CharacterTokenizer, ByteTokenizer, BytePairTokenizer or SentencePieceTokenizer.

    Raises:
        FileFormatError: a file holds something else.
        SettingError: its merges do not fit its tokens.
        StorageError: there is no such file; then it is a NotFoundError.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     CharacterTokenizer("abc").save(folder + "/tokenizer.json")
        ...     load_tokenizer(folder)
        CharacterTokenizer(3 tokens)
    """
    path = Path(files.user_path(path))
    if path.is_dir():
        found = next((path / name for name in NAMES if (path / name).exists()), None)
        if found is None:
            return _two_files(path)
        path = found
    with files.reading(path, links=True) as file:
        start = file.read(2)
    if start[:1] in (b"{", b" ", b"\r") or start == b"\n{":
        whole = read_object(path)
        if "model" in whole:
            return load_tokenizer_json(path)
        read = OWN.get(str(whole.get("kind")))
        if read is None:
            raise FileFormatError(
                "this file holds no tokenizer",
                got=f"{path}: JSON with {short(sorted(whole))}",
                rule=f"a tokenizer.json of the library tokenizers, or one of {sorted(OWN)}",
                fix="check the path; a vocabulary alone does not say how a text is cut",
            )
        return read(path)
    # A message of Protocol Buffers begins with its first field, a piece, which has a length;
    # llama2.c's file with a 32-bit number.
    if start[:1] == b"\n" and start[1:] != b"\0":
        return read_sentencepiece(path)
    return read_llama2c(path)


def _two_files(folder: Path) -> Tokenizer:
    """GPT-2's tokenizer in a folder."""
    for tokens, merges in byte_pairs.FILES:
        if (folder / tokens).exists() and (folder / merges).exists():
            return load_gpt2_tokenizer(folder)
    named = [*NAMES, *(" and ".join(pair) for pair in byte_pairs.FILES)]
    raise NotFoundError(
        "there is no tokenizer in this folder",
        got=f"{folder}",
        rule=f"one of {', '.join(named)}",
        fix="the path of a tokenizer's file, or a folder that a model was published in",
    )
