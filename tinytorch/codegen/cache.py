"""Compiled programs kept on disk: object code and its launch plan, by key.

Knows bytes, files and whom they belong to; never graphs or machine code. A cached object is code
that this process will run, so a folder that others can write to is not used, and an entry whose
checksum does not fit is removed and compiled again.

    entry = cache.get(key)                      # None, or (objects, plan)
    cache.put(key, objects, plan)               # atomic; the least recently used go when it is full

File: a first line with the format, SHA-256 of the rest, then a length (8 bytes) and the JSON of the
plan with the lengths of the objects, then the objects.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from tinytorch.base import settings
from tinytorch.base.errors import CompileError

_MAGIC = b"tinytorch program 1\n"
_SUFFIX = ".program"
# a GPT training step takes about 1 MB: room for some hundred programs
DEFAULT_LIMIT = 256 * 2**20
# whose text shapes generated code
_COMPILER_FOLDERS = ("base", "codegen", "compiler", "kernels", "primitives")


class ProgramCache:
    """The programs in one folder.

    Args:
        folder: where; made if missing. Default: `programs` in `settings.cache_folder()`.
        limit: bytes to keep at most, > 0.

    Raises: CompileError if the folder can be written to by others, belongs to another user, or
        cannot be made.
    Cost: a get reads and hashes one file (about 1 ms a megabyte).
    """

    def __init__(self, folder: Path | None = None, limit: int = DEFAULT_LIMIT):
        self.folder = folder or settings.cache_folder() / "programs"
        self.limit = limit
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(self.folder, error.strerror or str(error)) from None
        _refuse_foreign(self.folder)

    def get(self, key: str) -> tuple[list[bytes], Any] | None:
        """The objects and the plan kept under `key`; None if there are none or they are damaged."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        entry = _decode(content)
        with contextlib.suppress(OSError):
            if entry is None:
                path.unlink()
            else:
                os.utime(path)  # the time of last use, for `_prune`
        return entry

    def put(self, key: str, objects: Sequence[bytes], plan: Any) -> None:
        """Keep objects and a plan (anything JSON can say). A full disk is not an error.

        The file appears whole or not at all, also when the machine stops meanwhile.
        """
        content = _encode(objects, plan)
        try:
            handle, name = tempfile.mkstemp(dir=self.folder, suffix=".part")
        except OSError:
            return
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, self._path(key))
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(name)
            return
        self._prune()

    def clear(self) -> None:
        """Remove every program."""
        for path in self.folder.glob("*" + _SUFFIX):
            with contextlib.suppress(OSError):
                path.unlink()

    def _path(self, key: str) -> Path:
        return self.folder / (hashlib.sha256(key.encode()).hexdigest()[:32] + _SUFFIX)

    def _prune(self) -> None:
        entries = []
        for path in self.folder.glob("*" + _SUFFIX):
            with contextlib.suppress(OSError):  # another process may remove it meanwhile
                facts = path.stat()
                entries.append((facts.st_mtime, facts.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries)[:-1]:  # the newest stays, however large
            if total <= self.limit:
                return
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size


def open_cache() -> ProgramCache | None:
    """The user's cache; None, after one warning, where there is no folder it may be kept in."""
    return _open(str(settings.cache_folder()))


@lru_cache
def _open(folder: str) -> ProgramCache | None:
    try:
        return ProgramCache(Path(folder) / "programs")
    except CompileError as error:
        warnings.warn(f"compiled programs are not kept: {error}", RuntimeWarning, stacklevel=3)
        return None


@lru_cache
def sources_key() -> str:
    """A hash of the compiler's own source text, and of what assembles its output.

    Part of every key: changed source, other programs.
    Cost: about 5 ms, once in a process.
    """
    from tinytorch.codegen import engine

    digest = hashlib.sha256(engine.version().encode())
    package = Path(__file__).resolve().parent.parent
    for folder in _COMPILER_FOLDERS:
        for path in sorted((package / folder).glob("*.py")):
            digest.update(f"{folder}/{path.name}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def program_key(*parts: str) -> str:
    """The key of what is made from `parts` (target key, graph text, ...) by this compiler.

    >>> program_key("avx2", "graph") == program_key("avx2", "graph") != program_key("avx2g", "raph")
    True
    """
    listed = json.dumps([sources_key(), *parts])
    return hashlib.sha256(listed.encode()).hexdigest()


def _encode(objects: Sequence[bytes], plan: Any) -> bytes:
    head = json.dumps({"plan": plan, "sizes": [len(o) for o in objects]}).encode()
    body = b"".join([len(head).to_bytes(8, "little"), head, *objects])
    return _MAGIC + hashlib.sha256(body).digest() + body


def _decode(content: bytes) -> tuple[list[bytes], Any] | None:
    start = len(_MAGIC) + 32  # bytes of a SHA-256
    checksum, body = content[len(_MAGIC) : start], content[start:]
    if not content.startswith(_MAGIC) or hashlib.sha256(body).digest() != checksum:
        return None
    end = 8 + int.from_bytes(body[:8], "little")
    head = json.loads(body[8:end])
    objects = []
    for size in head["sizes"]:
        objects.append(body[end : end + size])
        end += size
    return objects, head["plan"]


def _refuse_foreign(folder: Path) -> None:
    if not hasattr(os, "getuid"):  # no owners in the sense of POSIX
        return
    facts = folder.stat()
    if facts.st_uid != os.getuid():
        raise _unusable(folder, f"it belongs to user {facts.st_uid}, this process is {os.getuid()}")
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _unusable(folder, f"others can write to it (mode {stat.S_IMODE(facts.st_mode):o})")


def _unusable(folder: Path, why: str) -> CompileError:
    return CompileError(
        "the cache of compiled programs cannot be used",
        got=f"{folder}: {why}",
        rule="a folder of this user that nobody else can write to: its code will be run",
        fix=f"chmod 700 {folder}, or TINYTORCH_CACHE=<another folder>",
    )
