"""Compiled programs kept on disk: object code and its launch plan, by key.

Knows bytes, files and whom they belong to; never graphs or machine code. A cached object is code
that this process will run: a folder that others can change, or put another in the place of, is not
used, nor an entry that is not this user's own regular file. Names are looked up in the folder that
was checked. An entry whose checksum does not fit is removed and compiled again.

    entry = cache.get(key)                      # None, or (objects, plan)
    cache.put(key, objects, plan)               # atomic; the least recently used go when it is full

File: a first line with the format, SHA-256 of the rest, then a length (8 bytes) and the JSON of the
plan with the lengths of the objects, then the objects. How many bytes all of them have stands in a
file beside the folder, so that keeping one more costs the same however many there are.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
import warnings
import weakref
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from shlex import quote
from typing import Any, TypeGuard, cast

from tinytorch.base import files, settings
from tinytorch.base.errors import CompileError, FileFormatError

_MAGIC = b"tinytorch program 1\n"
_SUFFIX = ".program"
# a GPT training step takes about 1 MB: room for some hundred programs
DEFAULT_LIMIT = 256 * 2**20
LARGEST = 1 << 30  # bytes of one entry
# How full it is after programs were removed: below 1, or each program kept would look at all.
_LEFT = 15 / 16
# whose text shapes generated code
_LONGEST_SOURCE = 1 << 22  # bytes
_COMPILER_FOLDERS = ("base", "codegen", "compiler", "kernels", "primitives")


class ProgramCache:
    """The programs in one folder.

    Args:
        folder: where; made if missing, as all above it, for this user alone. Default: `programs` in
            `settings.cache_folder()`.
        limit: bytes to keep at most, > 0.

    Raises: CompileError if the folder, or one on the way to it, can be changed by others, or it
        cannot be made.
    Cost: a get reads and hashes one file (about 1 ms a megabyte); a put writes one (two fsyncs) and
        looks at the others only when they are too many.
    """

    def __init__(self, folder: Path | None = None, limit: int = DEFAULT_LIMIT):
        self.folder = folder or settings.cache_folder() / "programs"
        self.limit = limit
        self._descriptor = -1
        self._tidy = False  # whether what killed processes left was looked for
        self._directory()

    def get(self, key: str) -> tuple[list[bytes], Any] | None:
        """The objects and the plan kept under `key`; None if there are none or they are damaged."""
        name = _name(key)
        try:
            folder = self._directory()
        except CompileError:
            return None
        try:
            entry = _own_entry(name, folder)
        except FileFormatError:  # a pipe or a link: none of ours
            entry = None
        except OSError:
            return None
        with contextlib.suppress(OSError):
            if entry is None:
                os.unlink(name, dir_fd=folder)
            else:
                os.utime(name, dir_fd=folder, follow_symlinks=False)  # of last use, for `_prune`
        return entry

    def put(self, key: str, objects: Sequence[bytes], plan: Any) -> None:
        """Keep objects and a plan (anything JSON can say). A full disk is not an error.

        The file appears whole or not at all, also when the machine stops meanwhile.
        """
        content = _encode(objects, plan)
        try:
            folder = self._directory()
            if not self._tidy:
                self._tidy = True
                _remove_abandoned(folder)
            with files.replacing(_name(key), folder=folder, mode=0o600) as file:
                file.write(content)
            self._count(folder, len(content))
        except (OSError, CompileError):
            return

    def clear(self) -> None:
        """Remove every program."""
        with contextlib.suppress(OSError, CompileError):
            folder = self._directory()
            for name in os.listdir(folder):
                if name.endswith(_SUFFIX):
                    with contextlib.suppress(OSError):
                        os.unlink(name, dir_fd=folder)
            with files.extending(self._total, mode=0o600) as file:
                file.truncate(0)

    @property
    def _total(self) -> Path:
        return self.folder.with_name(self.folder.name + ".total")

    def _directory(self) -> int:
        """The descriptor of the folder; opened again if the folder was removed and made anew."""
        if self._descriptor >= 0 and os.fstat(self._descriptor).st_nlink:
            return self._descriptor
        try:
            files.make_folder(self.folder, 0o700)
            path = _checked(self.folder)
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise _unusable(self.folder, getattr(error, "got", "") or str(error)) from None
        if self._descriptor >= 0:
            self._close()
        self._close = weakref.finalize(self, os.close, descriptor)
        self._descriptor = descriptor
        return descriptor

    def _count(self, folder: int, added: int) -> None:
        """Add to the number of bytes; where it is unknown or too large, look at every entry."""
        with files.extending(self._total, mode=0o600) as file:
            # of this process: a child forked meanwhile does not inherit it and wait for itself
            fcntl.lockf(file, fcntl.LOCK_EX)
            text = file.read(20)
            total = int(text) + added if text.isdigit() else self.limit + 1
            if total > self.limit:
                total = self._prune(folder)
            file.seek(0)
            file.write(b"%d" % total)
            file.truncate()

    def _prune(self, folder: int) -> int:
        """Remove the least recently used if there are too many; how many bytes are left."""
        entries: list[tuple[float, int, str]] = []
        with os.scandir(folder) as found:
            for entry in found:
                if entry.name.endswith(_SUFFIX):
                    with contextlib.suppress(OSError):  # another process may remove it meanwhile
                        facts = entry.stat(follow_symlinks=False)
                        entries.append((facts.st_mtime, facts.st_size, entry.name))
        total = sum(size for _, size, _ in entries)
        if total <= self.limit:
            return total
        for _, size, name in sorted(entries)[:-1]:  # the newest stays, however large
            if total <= self.limit * _LEFT:
                break
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder)
            total -= size
        return total


def _name(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:32] + _SUFFIX


def _own_entry(name: str, folder: int) -> tuple[list[bytes], Any] | None:
    """The entry in a file of this user that nobody else can write to; None if it is another."""
    with files.reading(name, folder=folder) as file:
        facts = os.fstat(file.fileno())
        mine = facts.st_uid == os.geteuid() and not facts.st_mode & _OTHERS
        if not mine or facts.st_size > LARGEST:
            return None
        return _decode(file.read(LARGEST))


def _remove_abandoned(folder: int) -> None:
    """Remove the halves that killed processes left."""
    for name in os.listdir(folder):
        if name.endswith(files.PART) and files.is_abandoned(name, folder):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder)


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
        for path in sorted((package / folder).rglob("*.py")):
            digest.update(f"{path.relative_to(package).as_posix()}\n".encode())
            digest.update(files.contents(path, _LONGEST_SOURCE, links=True))
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
    try:
        head = json.loads(body[8:end])
        sizes, plan = head["sizes"], head["plan"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
    if not _are_sizes(sizes) or end + sum(sizes) != len(body):
        return None
    objects: list[bytes] = []
    for size in sizes:
        objects.append(body[end : end + size])
        end += size
    return objects, plan


def _are_sizes(x: object) -> TypeGuard[list[int]]:
    return isinstance(x, list) and all(type(n) is int and n >= 0 for n in cast("list[object]", x))


_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_MOST_LINKS = 40  # followed on the way to a folder, as Linux does


def _checked(folder: Path) -> str:
    """The path of a folder, without links, to which nobody but this user and the superuser can put
    anything: neither in the folder nor, by exchanging one on the way, in its place.

    Raises:
        CompileError: somebody else can.
        OSError: the way does not lead to a folder.
    """
    way, here, links = [*folder.absolute().parts[:0:-1]], "/", 0
    facts = os.lstat(here)
    while way:
        _check_on_the_way(folder, here, facts)
        name = way.pop()
        here = os.path.dirname(here) if name == ".." else os.path.join(here, name)
        facts = os.lstat(here)
        if stat.S_ISLNK(facts.st_mode):
            links += 1
            if links > _MOST_LINKS or facts.st_uid not in (0, os.getuid()):
                raise _unusable(folder, f"the link {here} is not this user's, or one of too many")
            target = Path(os.readlink(here))
            way += target.parts[: 0 if target.is_absolute() else None : -1]
            here = "/" if target.is_absolute() else os.path.dirname(here)
            facts = os.lstat(here)
    remove = f"rm -r {quote(here)}, or "
    if facts.st_uid != os.getuid():
        why = f"it belongs to user {facts.st_uid}, this process is {os.getuid()}"
        raise _unusable(folder, why, remove)
    if facts.st_mode & _OTHERS:
        why = f"others can write to it (mode {stat.S_IMODE(facts.st_mode):o})"
        raise _unusable(folder, why, remove)
    return here


def _check_on_the_way(folder: Path, here: str, facts: os.stat_result) -> None:
    if facts.st_uid not in (0, os.getuid()):
        raise _unusable(folder, f"{here} belongs to user {facts.st_uid}")
    # In a folder with the sticky bit, as /tmp has it, nobody can exchange what is not his.
    open_to_others = facts.st_mode & _OTHERS and not facts.st_mode & stat.S_ISVTX
    if open_to_others and not _is_private(facts):
        raise _unusable(folder, f"others can write to {here}, and exchange what lies there")


def _is_private(facts: os.stat_result) -> bool:
    """Whether the group that can write is one that many systems make for each user alone."""
    import grp
    import pwd

    if facts.st_mode & stat.S_IWOTH or not facts.st_gid:
        return False
    with contextlib.suppress(KeyError):
        user, group = pwd.getpwuid(os.getuid()), grp.getgrgid(facts.st_gid)
        own = user.pw_gid == facts.st_gid and group.gr_name == user.pw_name
        return own and set(group.gr_mem) <= {user.pw_name}
    return False


def _unusable(folder: Path, why: str, remove: str = "") -> CompileError:
    return CompileError(
        "the cache of compiled programs cannot be used",
        got=f"{folder}: {why}",
        rule="a folder of this user that nobody else can write to or exchange: its code will be "
        "run, and what others have put there too if it is closed to them afterwards",
        fix=f"{remove}TINYTORCH_CACHE=<a folder in one that is yours alone>",
    )
