"""The idx format of the MNIST files: a block of bytes with a shape, compressed with gzip.

Knows bytes and shapes, never what the numbers show.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits": two zero bytes,
a type byte (8 is unsigned byte), the number of axes, each axis as a big-endian 32-bit number, data.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np

from tinytorch.base.errors import FileFormatError

UNSIGNED_BYTE = 8


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """The array in a gzip-compressed idx file of unsigned bytes.

    Args:
        path: the .gz file.

    Returns:
        uint8 array, read-only, of the shape that the file names.

    Raises:
        FileFormatError: not gzip, damaged, or its size does not fit its shape.

    Cost: the unpacked bytes, once.
    """
    path = Path(path)
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile):
            raise  # the file cannot be read at all: the system's own error says why
        raise _damaged(path, error, "a whole gzip file") from None
    axes = content[3] if len(content) >= 4 else 0
    if content[:3] != bytes([0, 0, UNSIGNED_BYTE]) or len(content) < 4 + 4 * axes:
        raise _damaged(path, content[:4].hex(" "), "it begins with 00 00 08 and the axis count")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", axes, offset=4))
    data = len(content) - 4 - 4 * axes
    if data != math.prod(shape):
        raise _damaged(path, f"{data} bytes", f"shape {shape} takes {math.prod(shape)} bytes")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _damaged(path: Path, got: object, rule: str) -> FileFormatError:
    return FileFormatError(
        f"{path.name} is not a valid idx file",
        got=got,
        rule=rule,
        fix=f"delete {path} and fetch it again",
    )
