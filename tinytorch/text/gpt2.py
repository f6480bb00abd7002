"""GPT-2's vocabulary, from the two files that OpenAI published.

Knows those files, never how byte-pair encoding works.
"""

from __future__ import annotations

import os
from pathlib import Path

from tinytorch.base import files
from tinytorch.base.errors import DataError, FileFormatError, short
from tinytorch.data import official
from tinytorch.text.byte_pairs import LETTER, BytePairTokenizer
from tinytorch.text.vocabulary import LONGEST, Vocabulary, read_object

PART = "gpt2-bpe"
TOKENS, MERGES = "encoder.json", "vocab.bpe"


def load_gpt2_tokenizer(folder: str | os.PathLike[str] | None = None) -> BytePairTokenizer:
    """GPT-2's tokenizer: 50,257 tokens, of which "<|endoftext|>" is special.

    Any other vocabulary in the same two files is read too.

    Args:
        folder: where `encoder.json` and `vocab.bpe` are. None: in TINYTORCH_DATA or the user's
            cache, there or in the subfolder "gpt2-bpe".

    Raises:
        DataError: a file is missing.
        FileFormatError: a file holds something else.
        SettingError: the two files do not belong together.

    Source: Radford et al. 2019, https://openaipublic.blob.core.windows.net/gpt-2/models/124M/.
    """
    encoder, merges = _found(TOKENS, folder), _found(MERGES, folder)
    ids = read_object(encoder)
    tokens = sorted(ids, key=lambda token: short(ids[token]).zfill(9))  # ids may be no numbers yet
    numbers = [ids[token] for token in tokens]
    if numbers != list(range(len(tokens))) or any(type(n) is not int for n in numbers):
        raise FileFormatError(
            "the ids of this vocabulary are not the numbers from 0 on",
            got=f"{encoder}: {len(tokens)} tokens, the first {short(tokens[:3])}",
            rule='{"token": id, ...} with each of 0..V-1 once',
            fix="copy the file again",
        )
    pairs = _pairs(merges)
    made = {first + second for first, second in pairs} | set(LETTER.values())
    specials = [token for token in tokens if token not in made]
    return BytePairTokenizer(Vocabulary(tokens, specials), pairs)


def _pairs(path: Path) -> list[tuple[str, str]]:
    """The merges in a text file: two tokens on each line, after a line with the version."""
    try:
        lines = files.contents(path, LONGEST, links=True).decode("utf-8").split("\n")
        wrong = None
    except UnicodeDecodeError as error:
        lines, wrong = [], f"no UTF-8 at byte {error.start}"
    pairs: list[tuple[str, str]] = []
    for number, line in enumerate(lines):
        if not line or (number == 0 and line.startswith("#version")):
            continue
        first, _, second = line.partition(" ")
        if not second or " " in second:
            wrong = f"line {number + 1}: {short(line)}"
            break
        pairs.append((first, second))
    if wrong:
        raise FileFormatError(
            "this file is not a list of merges",
            got=f"{path}, {wrong}",
            rule="UTF-8, two tokens with a blank between them on each line",
            fix="copy the file again",
        )
    return pairs


def _found(name: str, folder: str | os.PathLike[str] | None) -> Path:
    """Where a file is."""
    looked = official.folders(folder)
    path = official.find(name, PART, looked)
    if path is None:
        raise DataError(
            f"{name} of GPT-2's vocabulary is not there",
            got=f"looked in {', '.join(map(str, looked))}",
            rule=f"{TOKENS} and {MERGES} in one of these folders, or in its subfolder {PART}",
            fix="fetch both from https://openaipublic.blob.core.windows.net/gpt-2/models/124M/",
        )
    return path
