"""The files of a published data set: found here and intact, or fetched.

Knows a data set's name, its files and where to look; never what the files hold.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shlex import quote

from tinytorch.base.errors import DataError
from tinytorch.data import places
from tinytorch.data.download import Progress, Remote, download, read_intact


@dataclass(frozen=True)
class Published:
    """A data set that is a few files.

    Args:
        title: its name, for messages.
        part: the subfolder it is kept in.
        files: of each split.
    """

    title: str
    part: str
    files: Mapping[str, Sequence[Remote]]


def obtain(
    file: Remote,
    data: Published,
    folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> bytes:
    """The content of one of the files: found and intact, or downloaded.

    Args:
        file: which.
        data: the data set it is of.
        folder: the only place to look in; None means `TINYTORCH_DATA` and the user's cache.
        progress: called as progress(name, bytes so far, bytes in all) while downloading.

    Raises:
        DataError: the file is damaged, or missing and cannot be downloaded.

    Cost: the file in memory, and one pass over it for its checksum.
    """
    looked = places.folders(folder)
    found = places.find(file.name, data.part, looked)
    if found is not None:
        return read_intact(found, file)
    target = looked[-1] / data.part
    try:
        return read_intact(download(file, target, progress, links=False), file)
    except (DataError, OSError) as error:
        names = [f.name for files in data.files.values() for f in files]
        raise DataError(
            f"{data.title} is not here and could not be downloaded: {file.name}",
            got=f"looked in {', '.join(str(p) for p in looked)}; {getattr(error, 'got', error)}",
            rule=f"the official files, unchanged: {', '.join(names)}",
            fix=f"put them in {quote(str(target))}, or name their folder: "
            f"--data-dir FOLDER or {places.VARIABLE}=FOLDER",
        ) from error
