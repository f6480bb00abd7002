"""The official files of data sets: where they lie, found here and intact, or fetched.

Knows folders, names, addresses, bytes and checksums, never what a file holds, but for one that is a
text and used as it is. A download is continued where it stopped and checked before it is used. A
server may be anybody: what it says of lengths and ranges is checked, and no more is taken than the
file has.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from shlex import quote

from tinytorch.base import files
from tinytorch.base.errors import DataError, StorageError, short
from tinytorch.base.settings import cache_folder

VARIABLE = "TINYTORCH_DATA"
CHUNK = 1 << 16
LARGEST = 1 << 31  # bytes of a file whose size is not known beforehand
SECONDS = 30  # without a byte, after which a server counts as silent
UNSATISFIABLE = 416  # HTTP: the range asked for begins at or after the file's end (RFC 9110)
WHOLE, PARTIAL = 200, 206  # HTTP: this is the whole file, or the range asked for

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Remote:
    """A file of which the whole content is known beforehand.

    Args:
        name: its file name.
        digest: hexadecimal checksum of its content.
        addresses: where it can be fetched; each is tried in turn.
        algorithm: "md5" or "sha256". These find damage; md5 is what the MNIST files are known by.
        size: its bytes, if known: not one more is fetched or read.
    """

    name: str
    digest: str
    addresses: Sequence[str]
    algorithm: str = "md5"
    size: int | None = None

    @property
    def most(self) -> int:
        """Bytes that it has at most."""
        return LARGEST if self.size is None else self.size


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


def user_cache() -> Path:
    """The folder in which downloads are kept for this user; it may not exist yet."""
    return cache_folder() / "data"


def folders(folder: str | os.PathLike[str] | None = None) -> list[Path]:
    """Where to look, first to last: the folder asked for, `TINYTORCH_DATA`, the user's cache.

    Args:
        folder: asked for by the user; then it is the only place, so that nothing else is taken
            by mistake.
    """
    if folder is not None:
        return [files.user_path(folder)]
    named = os.environ.get(VARIABLE)
    return [*([files.user_path(named)] if named else []), user_cache()]


def find(name: str, part: str, places: list[Path]) -> Path | None:
    """The file `name` of the data set `part`, or None.

    Looks in each place for `part/name` and `name`, so a folder of many data sets and the folder
    of one both work.
    """
    candidates = (path for place in places for path in (place / part / name, place / name))
    return next((path for path in candidates if path.is_file()), None)


def obtain(
    file: Remote, data: Published, folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> bytes:  # fmt: skip
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
    looked = folders(folder)
    found = find(file.name, data.part, looked)
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
            f"--data-dir FOLDER or {VARIABLE}=FOLDER",
        ) from error


def read_intact(path: Path, remote: Remote) -> bytes:
    """The content of the file at `path`: of one reading, whose checksum is that of `remote`.

    Raises:
        DataError: it is another content.
        FileFormatError: it is no regular file.
        StorageError: it cannot be read.
    """
    with files.reading(path, links=True) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(remote.most + 1) if size <= remote.most else b""
    if len(content) > remote.most or content_digest(content, remote) != remote.digest:
        raise damaged(path, size, remote)
    return content


def content_digest(content: bytes | memoryview, remote: Remote) -> str:
    """The checksum of these bytes, by the algorithm of `remote`."""
    return hashlib.new(remote.algorithm, content).hexdigest()


def damaged(path: Path, size: int, remote: Remote) -> DataError:
    """The error of a file with another content than `remote`."""
    return DataError(
        f"{remote.name} is damaged",
        got=f"{path} ({size} bytes)",
        rule=f"{remote.algorithm} {remote.digest}"
        + (f", at most {remote.size} bytes" if remote.size is not None else ""),
        fix=f"rm {quote(str(path))}; it is fetched again by the next run",
    )


def download(
    remote: Remote, folder: Path, progress: Progress | None = None, *, links: bool = True
) -> Path:
    """Fetch a file into `folder`, or continue where an earlier call stopped.

    The bytes gather in `NAME.part`, which is kept when the connection breaks; the next call asks
    the server for the rest (HTTP Range). When all are there and the checksum fits, it becomes
    `NAME`. Where nothing came, or something else, no file is left behind.

    Args:
        remote: what to fetch.
        folder: where to put it; made if missing, and it stays: the user may put the file there.
        progress: called as progress(name, bytes so far, bytes in all or 0 if unknown).
        links: whether `folder` itself may be a symbolic link; no where its name was not given by
            the user.

    Returns:
        the path of the whole, checked file.

    Raises:
        DataError: no address answered, or what came is not the file; the message names the file
            and the place to put it by hand.
        StorageError: the folder cannot be written, or `NAME` or `NAME.part` is a link, has a second
            name or belongs to somebody else.

    Cost: the file's bytes from the network once, and once more from the disk for the checksum.
    """
    files.make_folder(folder)
    try:
        with files.open_folder(folder, links=links) as place:
            return _downloaded(remote, folder, place, progress)
    except StorageError:
        raise
    except OSError as error:
        raise files.unwritable(folder, error) from error


def _downloaded(remote: Remote, folder: Path, place: int, progress: Progress | None) -> Path:
    target, part = folder / remote.name, f"{remote.name}{files.PART}"
    problems = []
    files.check_replaceable(remote.name, place)  # before anything is fetched
    with _part(folder, part, place) as file:
        for address in remote.addresses:
            fitting, problem = _tried(address, file, remote, progress)
            if fitting:
                files.rename_over(part, remote.name, place)
                return target
            problems.append(f"{address}: {problem}")
    raise DataError(
        f"{remote.name} could not be fetched",
        got="; ".join(problems),
        rule=f"the file with {remote.algorithm} {remote.digest}",
        fix=f"fetch it on another machine and put it at {quote(str(target))}",
    )


@contextlib.contextmanager
def _part(folder: Path, name: str, place: int) -> Iterator[BufferedRandom]:
    """The file in which bytes gather, locked; it goes at the end if none did."""
    while True:
        with files.extending(name, folder=place, shown=folder / name) as file:
            _lock(file, folder / name)
            if not files.is_named(file, name, place):
                continue  # another process has finished it since it was opened
            try:
                yield file
            finally:
                if file.seek(0, os.SEEK_END) == 0 and files.is_named(file, name, place):
                    os.unlink(name, dir_fd=place)
            return


def _lock(file: BufferedRandom, part: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataError(
            "another process is fetching this file",
            got=part,
            rule="one process writes a file at a time",
            fix="wait for it to end, then run this again",
        ) from None


def _tried(
    address: str, file: BufferedRandom, remote: Remote, progress: Progress | None
) -> tuple[bool, str]:
    """Whether the content at `address` is the file, and if not, why."""
    while True:
        begun = file.seek(0, os.SEEK_END)
        try:
            _fetch(address, file, remote, progress)
            file.flush()
        except (OSError, http.client.HTTPException, ValueError) as error:
            # What broke may go on; more than the file has, or another length, is another file.
            if isinstance(error, _OtherFileError):
                file.truncate(0)
            return False, str(getattr(error, "reason", None) or error)
        file.seek(0)
        if hashlib.file_digest(file, remote.algorithm).hexdigest() == remote.digest:
            os.fsync(file.fileno())
            return True, ""
        size = file.seek(0, os.SEEK_END)
        file.truncate(0)
        if not begun:
            return False, f"{size} bytes with another checksum"
        # The beginning was of another address or of an earlier run: once more from nothing.


class _OtherFileError(OSError):
    """What an address hands out cannot be the file."""


def _fetch(address: str, file: BufferedRandom, remote: Remote, progress: Progress | None) -> None:
    """Bring `file` to the length of the content at `address`, from its present end on."""
    have = file.seek(0, os.SEEK_END)
    if have > remote.most:
        file.truncate(0)
        have = file.seek(0)
    if have == remote.size:
        return  # nothing is missing: the checksum decides
    headers = {"User-Agent": "tinytorch", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(address, headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == UNSATISFIABLE and have:
                return  # nothing is missing: the checksum decides
            raise OSError(f"HTTP {error.code} {short(error.reason)}") from None
    with answer:
        if answer.status not in (WHOLE, PARTIAL):
            raise OSError(f"HTTP {answer.status}")
        if have and answer.status == WHOLE:  # the server sends everything
            file.truncate(0)
            have = file.seek(0)
        total = _total(answer, have, remote)
        while chunk := answer.read(CHUNK):
            file.write(chunk)
            have += len(chunk)
            if have > remote.most:
                raise _OtherFileError(f"more than the {remote.most} bytes of the file")
            if progress:
                progress(remote.name, have, total)
    if total and have < total:
        raise OSError(f"the connection ended after {have} of {total} bytes")


def _total(answer, have: int, remote: Remote) -> int:
    """The length of the whole content as the server says it; 0 if it does not."""
    said = answer.headers.get("Content-Length")
    if said is not None and not re.fullmatch(r"[0-9]{1,18}", said.strip()):
        raise OSError(f"a Content-Length that is no number: {short(said)}")
    total = have + int(said) if said else 0
    given = answer.headers.get("Content-Range")
    if answer.status == PARTIAL and given is not None:
        match = re.fullmatch(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", given.strip())
        if match is None or int(match[1]) != have:
            raise OSError(f"bytes from {have} on were asked for, these come: {short(given)}")
        if match[3] != "*":
            total = int(match[3])
    if total and total != (remote.size or total) or total > remote.most:
        raise _OtherFileError(f"{total} bytes, and the file has {remote.most} at most")
    return total


# --- a text to learn from ---

TINY_SHAKESPEARE = Remote(
    "tinyshakespeare.txt",
    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",),
    algorithm="sha256",
    size=1_115_394,
)


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
    looked = folders(folder)
    found = find(TINY_SHAKESPEARE.name, "text", looked)
    if found is None:
        found = download(TINY_SHAKESPEARE, looked[-1] / "text", progress, links=False)
    return read_intact(found, TINY_SHAKESPEARE).decode("utf-8")
