"""The idx format of the MNIST files: a block of bytes with a shape, compressed with gzip.

Knows bytes and shapes, never what the numbers show.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits": two zero bytes,
a type byte (8 is unsigned byte), the number of axes, each axis as a big-endian 32-bit number, data.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import zlib
from pathlib import Path
from shlex import quote

import numpy as np

from tinytorch.base import files
from tinytorch.base.errors import FileFormatError

UNSIGNED_BYTE = 8
MOST_AXES = 64  # NumPy's limit
MOST = 1 << 30  # bytes of numbers: twice what the largest data set in this format (EMNIST) has


def read_idx(path: str | os.PathLike[str], most: int = MOST) -> np.ndarray:
    """The array in a gzip-compressed idx file of unsigned bytes.

    Args:
        path: the .gz file.
        most: bytes beyond which the array is refused before it is unpacked: a few megabytes of gzip
            can hold gigabytes. Default 1 GiB.

    Returns:
        uint8 array, read-only, of the shape that the file names.

    Raises:
        FileFormatError: not gzip, damaged, its size does not fit its shape, or it is too large.
        StorageError: it cannot be read; a NotFoundError if it is not there.

    Cost: the unpacked bytes, once.
    """
    return unpacked(files.contents(path, most, links=True), os.fspath(path), most)


def unpacked(packed: bytes, name: str, most: int = MOST) -> np.ndarray:
    """The array in the bytes of such a file; see `read_idx`.

    Args:
        packed: the file's content.
        name: of the file, for messages.
        most: as for `read_idx`.
    """
    path = Path(name)
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            head = file.read(4)
            axes = head[3] if len(head) == 4 else 0
            sizes = file.read(4 * axes)
            if head[:3] != bytes([0, 0, UNSIGNED_BYTE]) or len(sizes) < 4 * axes:
                raise _damaged(path, head.hex(" "), "it begins with 00 00 08 and the axis count")
            shape = tuple(int(n) for n in np.frombuffer(sizes, ">u4"))
            count = math.prod(shape)
            if axes > MOST_AXES or count > most:
                rule = f"at most {MOST_AXES} axes and {most} bytes"
                raise _damaged(path, f"{axes} axes, {count} bytes", rule)
            data = file.read(count + 1)  # the end of the file is where gzip's checksum is looked at
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, error, "a whole gzip file") from None
    if len(data) != count:
        more = "more than " if len(data) > count else ""
        rule = f"shape {shape} takes {count} bytes"
        raise _damaged(path, f"{more}{min(len(data), count)} bytes", rule)
    return np.frombuffer(data, np.uint8).reshape(shape)


def _damaged(path: Path, got: object, rule: str) -> FileFormatError:
    return FileFormatError(
        f"{path.name} is not a valid idx file",
        got=got,
        rule=rule,
        fix=f"rm {quote(str(path))}, and fetch it again",
    )
