"""Texts larger than memory: token ids in a file, made piece by piece and read where they lie.

The file is what `numpy.save` writes for one array, so anything that reads NumPy's files reads it.
Knows files of text and of numbers, never how a text is cut.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tinytorch.base import files
from tinytorch.base.errors import DataError, FileFormatError
from tinytorch.data.mapped import MappedArray, map_npy
from tinytorch.text.tokenizer import Tokenizer

PIECE = 1 << 22  # bytes of text that are read at once

Place = str | os.PathLike[str]


def write_tokens(
    tokenizer: Tokenizer, texts: Place | Sequence[Place], path: Place, *, end: str | None = None,
    specials: bool = False,
) -> MappedArray:  # fmt: skip
    """Tokenize files of text into one file of token ids.

    The ids are those of `encode` of each whole text, one after the other.

    Args:
        tokenizer: cuts the texts.
        texts: a file of UTF-8 text, or several.
        path: where the ids go, a `.npy` file: uint16 where every id fits, else uint32. A file that
            is there is replaced.
        end: a special token to write behind each text, "<|endoftext|>"; None: none.
        specials: whether the names of special tokens in the texts mean these tokens.

    Returns:
        (M,) ids, left in the file: for `data.TextWindows`.

    Raises:
        FileFormatError: a text is no UTF-8; the message says where.
        DataError: a character is not in the vocabulary; or there is no token at all.
        SettingError: there is no such special token.
        StorageError: a text cannot be read, or the ids not be written.

    Cost: some 16 times PIECE of memory, whatever the texts' length; longer words than that are held
    whole.

    Example:
        >>> import tempfile
        >>> from tinytorch.data import TextWindows
        >>> from tinytorch.text import ByteTokenizer
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "text").write_text("to be or not")
        ...     tokens = write_tokens(ByteTokenizer(), folder + "/text", folder + "/ids.npy")
        ...     tokens.dtype, TextWindows(tokens, length=4)[1]
        (dtype('uint16'), (array([101,  32, 111, 114]), array([ 32, 111, 114,  32])))
    """
    listed = [texts] if isinstance(texts, str | os.PathLike) else list(texts)
    last = None if end is None else np.array([tokenizer.special_id(end)], np.int64)
    dtype = np.dtype(np.uint16 if len(tokenizer) <= 1 << 16 else np.uint32)
    count = 0
    with files.replacing(Path(files.user_path(path))) as out:
        start = _write_header(out, dtype, 0)
        for text in listed:
            with files.reading(files.user_path(text), links=True) as file:
                for ids in tokenizer.encode_parts(decoded(file, text), specials=specials):
                    out.write(ids.astype(dtype).tobytes())
                    count += len(ids)
            if last is not None:
                out.write(last.astype(dtype).tobytes())
                count += 1
        if not count:
            raise DataError(
                "there is no token to write",
                got=f"{len(listed)} texts without a character",
                rule="at least one character",
                fix="check the paths of the texts",
            )
        if _write_header(out, dtype, count) != start:
            raise FileFormatError(
                "NumPy's header does not keep its length",
                got=f"{count} tokens, numpy {np.__version__}",
                rule="a header that has room for any number of tokens (numpy >= 2.1)",
                fix="install another version of numpy",
            )
    return map_tokens(path)


def map_tokens(path: Place) -> MappedArray:
    """Token ids that stay in their file.

    Args:
        path: a file that `write_tokens` or `numpy.save` wrote: whole numbers along one axis.

    Returns:
        (M,) ids, for `data.TextWindows`; only what is asked for is read.

    Raises:
        FileFormatError: the file holds something else.
        StorageError: there is no such file.
    """
    mapped = map_npy(files.user_path(path))
    if mapped.ndim != 1 or mapped.dtype.kind not in "iu":
        raise FileFormatError(
            "this file does not hold token ids",
            got=f"{path}: shape {mapped.shape}, dtype {mapped.dtype}",
            rule="whole numbers along one axis",
            fix="write_tokens(tokenizer, texts, path) writes it",
        )
    return mapped


def decoded(file: BinaryIO, shown: Place) -> Iterator[str]:
    """The text of an opened file, PIECE by PIECE.

    Args:
        file: at its beginning, UTF-8; line ends stay as they are.
        shown: what messages call it.

    Raises:
        FileFormatError: it is no UTF-8; the message says at which byte.
    """
    decoder, done = codecs.getincrementaldecoder("utf-8")(), 0
    while True:
        data = file.read(PIECE)
        held = len(decoder.getstate()[0])  # bytes of a character that the last piece cut
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise FileFormatError(
                f"{shown} is not a text",
                got=f"no UTF-8 at byte {done - held + error.start}",
                rule="UTF-8",
                fix="save the file as UTF-8, or convert it: iconv -f latin1 -t utf-8",
            ) from None
        done += len(data)
        if text:
            yield text
        if not data:
            return


def _write_header(out: BinaryIO, dtype: np.dtype, count: int) -> int:
    """NumPy's header at the beginning of the file; where it ends."""
    out.seek(0)
    about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
    np.lib.format.write_array_header_1_0(out, about | {"shape": (count,)})
    return out.tell()
