"""Fetching a file: continued where it stopped, checked before it is used.

Knows addresses, bytes and checksums, never what a file is for.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tinytorch.base.errors import DataError

CHUNK = 1 << 16
SECONDS = 30  # without a byte, after which a server counts as silent
UNSATISFIABLE = 416  # HTTP: the range asked for begins at or after the file's end (RFC 9110)
PARTIAL = 206  # HTTP: this is the range asked for, not the whole file

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Remote:
    """A file of which the whole content is known beforehand.

    Args:
        name: its file name.
        digest: hexadecimal checksum of its content.
        addresses: where it can be fetched; each is tried in turn.
        algorithm: "md5" or "sha256". These find damage; md5 is what the MNIST files are known by.
    """

    name: str
    digest: str
    addresses: Sequence[str]
    algorithm: str = "md5"

    @classmethod
    def mirrored(cls, name: str, digest: str, mirrors: Sequence[str]) -> Remote:
        """A file that lies under its own name in each of these folders; `digest` is its md5."""
        return cls(name, digest, tuple(mirror + name for mirror in mirrors))


def is_intact(path: Path, remote: Remote) -> bool:
    """Whether the file at `path` has the checksum of `remote`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, remote.algorithm).hexdigest() == remote.digest


def content_digest(content: bytes, remote: Remote) -> str:
    """The checksum of these bytes, by the algorithm of `remote`."""
    return hashlib.new(remote.algorithm, content).hexdigest()


def check_intact(path: Path, remote: Remote) -> Path:
    """`path`, or a DataError if its content is not that of `remote`."""
    if is_intact(path, remote):
        return path
    raise DataError(
        f"{remote.name} is damaged",
        got=f"{path} ({path.stat().st_size} bytes)",
        rule=f"{remote.algorithm} {remote.digest}",
        fix=f"delete {path}; it is fetched again by the next run",
    )


def download(remote: Remote, folder: Path, progress: Progress | None = None) -> Path:
    """Fetch a file into `folder`, or continue where an earlier call stopped.

    The bytes gather in `NAME.part`, which is kept when the connection breaks; the next call asks
    the server for the rest (HTTP Range). When all are there and the checksum fits, it becomes
    `NAME`.

    Args:
        remote: what to fetch.
        folder: where to put it; made if missing.
        progress: called as progress(name, bytes so far, bytes in all or 0 if unknown).

    Returns:
        the path of the whole, checked file.

    Raises:
        DataError: no address answered, or what came is not the file; the message names the file
            and the place to put it by hand.

    Cost: the file's bytes from the network once, and once more from the disk for the checksum.
    """
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{remote.name}.part"
    with part.open("ab") as file:
        _lock(file, part)
        problems = []
        for address in remote.addresses:
            try:
                _fetch(
                    address,
                    file,
                    lambda have, total: progress and progress(remote.name, have, total),
                )
            except (OSError, http.client.HTTPException) as error:
                problems.append(f"{address}: {getattr(error, 'reason', None) or error}")
                continue
            file.flush()
            if is_intact(part, remote):
                os.fsync(file.fileno())
                part.replace(folder / remote.name)
                return folder / remote.name
            problems.append(f"{address}: {file.tell()} bytes with another checksum")
            file.truncate(0)
    raise DataError(
        f"{remote.name} could not be fetched",
        got="; ".join(problems),
        rule=f"the file with {remote.algorithm} {remote.digest}",
        fix=f"fetch it on another machine and put it at {folder / remote.name}",
    )


def _lock(file: BinaryIO, part: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DataError(
            "another process is fetching this file",
            got=part,
            rule="one process writes a file at a time",
            fix="wait for it to end, then run this again",
        ) from None


def _fetch(address: str, file: BinaryIO, progress: Callable[[int, int], object]) -> None:
    """Bring `file` to the length of the content at `address`, from its present end on."""
    have = file.seek(0, os.SEEK_END)
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
            raise OSError(f"HTTP {error.code} {error.reason}") from None
    with answer:
        if have and answer.status != PARTIAL:  # the server sends everything
            file.truncate(0)
            have = 0
        length = int(answer.headers.get("Content-Length") or 0)
        total = have + length if length else 0
        while chunk := answer.read(CHUNK):
            file.write(chunk)
            have += len(chunk)
            progress(have, total)
        if total and have < total:
            raise OSError(f"the connection ended after {have} of {total} bytes")
