"""Writing a file so that it is there whole or not at all.

Knows paths and bytes, never what they mean.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file that takes the place of `path` when the block ends without an error.

    The bytes go to a temporary file in the same folder, are forced to the disk (fsync), and that
    file is renamed over `path`: a reader sees the old one or the new one, also after a power cut.

    Args:
        path: where the file will be. Its folder is made if it is missing.

    Returns:
        a context manager that gives the open temporary file.

    Raises:
        OSError: the folder cannot be written; `path` is as it was.

    Cost: one extra copy on disk while writing, two fsyncs.

    Example:
        >>> import tempfile
        >>> place = Path(tempfile.mkdtemp()) / "greeting.txt"
        >>> with replacing(place) as file:
        ...     written = file.write(b"hello")
        >>> place.read_bytes()
        b'hello'
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            # mkstemp makes files private to the user; a new file follows the user's umask.
            os.fchmod(file.fileno(), _mode_of_new_files() if not target.exists() else _mode(target))
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Force the names in `folder` to the disk: a rename is lasting only after this."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def _mode_of_new_files() -> int:
    umask = os.umask(0o077)  # it can only be read by setting it
    os.umask(umask)
    return 0o666 & ~umask
