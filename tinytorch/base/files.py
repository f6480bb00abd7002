"""The one place that opens files: read from one opening, written whole or not at all.

Knows paths, descriptors, bytes and JSON, never what they mean. The rules for every file of the
framework, because a file may have been made by somebody else:

    read     a regular file alone (no device or pipe that never ends, no link unless the user named
             it himself), opened once: length, checksum and contents are of one descriptor; never
             more bytes than the reader says beforehand. What is JSON in it is parsed strictly
    written  into a new file with a name nobody can guess, which no link can turn elsewhere, with
             its mode from the beginning; then on the disk; then renamed over the old one, which
             must be a regular file too. Whatever fails, the new file goes and the old one stays
    folder   its descriptor is opened once and names are looked up in it, so that nobody who
             exchanges it on the way is followed
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections import Counter
from collections.abc import Generator
from io import BufferedRandom
from pathlib import Path
from shlex import quote
from typing import Any, BinaryIO, NoReturn

from tinytorch.base.errors import FileFormatError, NotFoundError, SettingError, StorageError, short

CHUNK = 1 << 20  # bytes read at once
PART = ".part"  # how names of files end that are being written
_PLAIN = os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK  # of a pipe, opening would wait for a writer
_LONGEST_STEM = 32  # characters of a name that its temporary name repeats: a name has 255 bytes

Place = str | os.PathLike[str]


# --- reading ---


@contextlib.contextmanager
def reading(
    path: Place, *, links: bool = False, folder: int | None = None, shown: Place | None = None
) -> Generator[BinaryIO, None, None]:
    """A regular file, opened for reading.

    Args:
        path: the file; with `folder`, its name in there.
        links: whether the name may be a symbolic link. Yes for what the user named himself; no for
            the files of a folder that he named, which somebody else may have filled.
        folder: descriptor of an opened folder.
        shown: what messages call it; default `path`.

    Raises:
        NotFoundError: there is none.
        FileFormatError: it is no regular file.
        StorageError: it cannot be read.
    """
    descriptor = open_regular(path, links=links, folder=folder, shown=shown)
    with os.fdopen(descriptor, "rb") as file:
        yield file


def open_regular(
    path: Place, *, links: bool = False, folder: int | None = None, shown: Place | None = None
) -> int:
    """The descriptor of a regular file, for reading; see `reading`. The caller closes it."""
    shown = path if shown is None else shown
    try:
        # Looked at first: opening a device may already do something.
        _check_regular(shown, os.stat(path, dir_fd=folder, follow_symlinks=links))
        flags = os.O_RDONLY | _PLAIN | (0 if links else os.O_NOFOLLOW)
        descriptor = os.open(path, flags, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP and not links:  # exchanged between the two lines above
            raise not_regular(shown, "a symbolic link") from None
        raise unreadable(shown, error) from None
    except ValueError as error:
        if isinstance(error, FileFormatError):
            raise
        raise unreadable(shown, OSError(errno.EINVAL, str(error))) from None  # a NUL in the name
    try:
        _check_regular(shown, os.fstat(descriptor))
    except FileFormatError:
        os.close(descriptor)
        raise
    return descriptor


def contents(
    path: Place,
    most: int,
    *,
    links: bool = False,
    folder: int | None = None,
    shown: Place | None = None,
) -> bytes:
    """All bytes of a regular file.

    Args:
        path: the file; with `folder`, its name in there.
        most: bytes beyond which it is refused, before they are read.
        links, folder, shown: as in `reading`.

    Raises:
        FileFormatError: it is longer, or no regular file.
        StorageError: it cannot be read; a NotFoundError if it is not there.

    Example:
        >>> len(contents(__file__, 10_000_000)) > 100
        True
    """
    shown = path if shown is None else shown
    with reading(path, links=links, folder=folder, shown=shown) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            # One byte more than allowed shows a file that grows, or has no length, as /proc's.
            found = file.read(most + 1) if size <= most else b""
        except OSError as error:
            raise unreadable(shown, error) from None
    if max(size, len(found)) > most:
        raise FileFormatError(
            f"{shown} is too long",
            got=f"{size} bytes" if size > most else f"more than {most} bytes",
            rule=f"at most {most} bytes",
            fix="check the path; no such file of TinyTorch is longer",
        )
    return found


def text(path: Place, most: int, *, links: bool = False, folder: int | None = None) -> str:
    """The UTF-8 text of a regular file; see `contents`.

    Raises:
        FileFormatError: it is no UTF-8.
    """
    found = contents(path, most, links=links, folder=folder)
    try:
        return found.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileFormatError(
            f"{path} is not a text",
            got=f"no UTF-8 at byte {error.start}",
            rule="UTF-8",
            fix="copy or save the file again",
        ) from None


# --- JSON, read strictly ---


class NotStrictError(ValueError):
    """Why a text is not strict JSON, in the parts of an error message.

    Args:
        what: goes on after the name of the thing: "is not JSON".
        got: what was found.
        rule: what would have been right.
    """

    def __init__(self, what: str, got: object, rule: str):
        super().__init__(f"{what}: {got}")
        self.what, self.got, self.rule = what, got, rule


def parse_json(text: bytes) -> Any:
    """The value that UTF-8 JSON text describes; what a lenient reader would guess is refused.

    Python's own reader also takes NaN, Infinity, and lets the last of two equal keys win.

    Raises:
        NotStrictError: not UTF-8, not JSON, a key twice in one object, NaN, numbers or nesting
            longer than Python reads.

    Source: RFC 8259.

    Example:
        >>> parse_json(b'{"step": 12}')
        {'step': 12}
        >>> parse_json(b'{"step": 12, "step": 13}')
        Traceback (most recent call last):
        tinytorch.base.files.NotStrictError: is not strict: a key stands twice: ['step']
    """
    try:
        return json.loads(text.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise NotStrictError("is not UTF-8", error, "JSON in UTF-8") from None
    except NotStrictError:
        raise
    except (ValueError, RecursionError) as error:
        raise NotStrictError("is not JSON", error, "JSON in UTF-8") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        twice = [name for name, times in Counter(n for n, _ in pairs).items() if times > 1]
        raise NotStrictError(
            "is not strict: a key stands twice", short(twice), "every name is there once"
        )
    return table


def _no_constant(name: str) -> NoReturn:
    raise NotStrictError("is not JSON", name, "NaN and Infinity are not JSON")


# --- writing ---


@contextlib.contextmanager
def replacing(
    path: Place, *, folder: int | None = None, mode: int = 0o666
) -> Generator[BinaryIO, None, None]:
    """A binary file that takes the place of `path` when the block ends without an error.

    The bytes go to a temporary file in the same folder, are forced to the disk (fsync), and that
    file is renamed over `path`: a reader sees the old one or the new one, also after a power cut.

    Args:
        path: where the file will be. Its folder is made if it is missing. With `folder`, its name
            in there.
        folder: descriptor of an opened folder.
        mode: of a new file, less what the process's umask says; an old one keeps its own.

    Returns:
        a context manager that gives the open temporary file.

    Raises:
        StorageError: the folder cannot be written, or `path` is a link, a device or anything else
            that is no regular file; it is as it was, and nothing else is left.

    Cost: one extra copy on disk while writing, two fsyncs.

    Example:
        >>> import tempfile
        >>> place = Path(tempfile.mkdtemp()) / "greeting.txt"
        >>> with replacing(place) as file:
        ...     written = file.write(b"hello")
        >>> contents(place, most=100)
        b'hello'
    """
    target = Path(path)
    try:
        with contextlib.ExitStack() as held:
            if folder is None:
                make_folder(target.parent)
                folder = held.enter_context(open_folder(target.parent))
            name = target.name
            temporary, file = held.enter_context(_beside(name, folder, mode))
            yield file
            file.flush()
            os.fsync(file.fileno())  # before the name: a power cut must not leave an empty file
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
    except StorageError:
        raise
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) and "null" not in str(error):
            raise
        raise unwritable(target, error) from error


@contextlib.contextmanager
def creating(name: str, *, folder: int, mode: int = 0o666) -> Generator[BinaryIO, None, None]:
    """A new binary file, on the disk (fsync) when the block ends.

    Args:
        name: in `folder`, where there must be nothing of that name.
        folder: descriptor of an opened folder.
        mode: of the file, less what the process's umask says.

    Raises:
        OSError: there is something of that name, or it cannot be made or written.
    """
    with _new(name, folder, mode) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _new(name: str, folder: int, mode: int) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(name, flags, mode, dir_fd=folder), "wb")


@contextlib.contextmanager
def _beside(name: str, folder: int, mode: int) -> Generator[tuple[str, BinaryIO], None, None]:
    """A new file beside `name`, and its own name; removed at the end if it still has that."""
    old = check_replaceable(name, folder)
    if old is not None:
        mode = stat.S_IMODE(old.st_mode) & 0o777
    temporary = f".{name[:_LONGEST_STEM]}.{secrets.token_hex(8)}{PART}"
    try:
        with _new(temporary, folder, mode) as file:
            with contextlib.suppress(OSError):  # file systems without locks
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # see `is_abandoned`
            if old is not None:
                os.fchmod(file.fileno(), mode)
            yield temporary, file
    finally:
        with contextlib.suppress(OSError):  # it has got its name, or the disk is gone
            os.unlink(temporary, dir_fd=folder)


def check_replaceable(name: str, folder: int) -> os.stat_result | None:
    """What the system knows of the regular file of that name; None if there is nothing.

    Raises:
        StorageError: there is a link, a folder or anything else that is no regular file.
    """
    try:
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(facts.st_mode):
        raise StorageError(
            f"{name} is not a file that can be replaced",
            got=_kind(facts),
            rule="a new name, or a regular file",
            fix="another name, or remove what is there",
            errno=errno.EEXIST,
        )
    return facts


def is_abandoned(name: str, folder: int) -> bool:
    """Whether a temporary file was left by a process that ended while writing it.

    Whoever writes one holds a lock on it, which the system lets go of with the process.
    """
    try:
        with reading(name, folder=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    except FileFormatError:
        return False
    return True


@contextlib.contextmanager
def extending(
    path: Place, *, folder: int | None = None, mode: int = 0o666, shown: Place | None = None
) -> Generator[BufferedRandom, None, None]:
    """A file opened for reading and writing as it is; made if it is missing.

    Args:
        path: the file; with `folder`, its name in there.
        folder: descriptor of an opened folder.
        mode: of a new file, less what the process's umask says.
        shown: what messages call it; default `path`.

    Raises:
        StorageError: it cannot be opened, or it is a link, has a second name (a hard link), is not
            a regular file, or belongs to somebody else: writing to it would write elsewhere.
    """
    shown = path if shown is None else shown
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | _PLAIN
    try:
        with contextlib.suppress(FileNotFoundError):
            _check_own(shown, os.stat(path, dir_fd=folder, follow_symlinks=False))
        descriptor = os.open(path, flags, mode, dir_fd=folder)
    except StorageError:
        raise
    except (OSError, ValueError) as error:
        raise unwritable(shown, error) from error
    with os.fdopen(descriptor, "r+b") as file:
        _check_own(shown, os.fstat(descriptor))
        yield file


def remove(path: Place) -> None:
    """Remove a file.

    Raises:
        OSError: the system refuses.
    """
    os.unlink(path)


def is_named(file: BufferedRandom, name: str, folder: int) -> bool:
    """Whether an opened file is still the one of that name."""
    try:
        there = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(file.fileno()))


def rename_over(old: str, new: str, folder: int) -> None:
    """Rename a file whose bytes are on the disk; `new` is nothing yet or a regular file.

    Raises:
        StorageError: there is something else of that name.
        OSError: the system refuses.
    """
    check_replaceable(new, folder)
    os.replace(old, new, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)


def _check_own(path: Place, facts: os.stat_result) -> None:
    wrong = None
    if not stat.S_ISREG(facts.st_mode):
        wrong = _kind(facts)
    elif facts.st_nlink > 1:
        wrong = f"a file with {facts.st_nlink} names (hard links)"
    elif facts.st_uid != os.geteuid():
        wrong = f"a file of user {facts.st_uid}"
    if wrong is not None:
        raise StorageError(
            f"{path} is not a file that can be written to",
            got=wrong,
            rule="a regular file of this user with one name: what is written stays in it",
            fix=f"rm {quote(str(path))}",
            errno=errno.EEXIST,
        )


# --- folders ---


def make_folder(path: Place, mode: int = 0o777) -> None:
    """Make a folder and those above it that are missing, all with this mode less the umask.

    Raises:
        StorageError: the system refuses, or there is something else in the way.
    """
    above = Path(path)
    missing: list[Path] = []
    try:
        while not above.is_dir():
            missing.append(above)
            if above.parent == above:
                break
            above = above.parent
        for one in reversed(missing):
            try:
                os.mkdir(one, mode)
            except FileExistsError:  # another process was faster, or it is no folder
                if not one.is_dir():
                    raise
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from error


def temporary_folder(prefix: str) -> Path:
    """A new folder of this user alone, removed when this process ends.

    Raises:
        OSError: there is no place for temporary files.
    """
    path, owner = Path(tempfile.mkdtemp(prefix=prefix)), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # and not in a forked child, which ends earlier
            shutil.rmtree(path, ignore_errors=True)

    atexit.register(remove)
    return path


@contextlib.contextmanager
def open_folder(
    path: Place, *, links: bool = True, folder: int | None = None
) -> Generator[int, None, None]:
    """The descriptor of a folder; names looked up in it stay there, whoever renames it meanwhile.

    Args:
        path: the folder; with `folder`, its name in there.
        links: whether its name may be a symbolic link; see `reading`.
        folder: descriptor of an opened folder.

    Raises:
        OSError: there is no such folder, or it is a link.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW)
    descriptor = os.open(path, flags, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def user_path(path: Place) -> Path:
    """A path as the user wrote it, "~" and "~name" filled in.

    Raises:
        SettingError: there is no such user, or nobody knows where his folder is.

    >>> user_path("/data/x")
    PosixPath('/data/x')
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise SettingError(
            "this path begins with a home folder that nobody knows",
            got=str(path),
            rule=f"a user of this computer after ~: {error}",
            fix="the whole path, from / on",
        ) from None


# --- errors ---


def _kind(facts: os.stat_result) -> str:
    kinds = {
        stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket", stat.S_IFBLK: "a device", stat.S_IFCHR: "a device",
    }  # fmt: skip
    return kinds.get(stat.S_IFMT(facts.st_mode), "something else")


def _check_regular(path: Place, facts: os.stat_result) -> None:
    if not stat.S_ISREG(facts.st_mode):
        raise not_regular(path, _kind(facts))


def not_regular(path: Place, got: str) -> FileFormatError:
    """The error of a file that is not read because of what it is."""
    return FileFormatError(
        f"{path} is not a regular file",
        got=got,
        rule="files are read themselves, never what they point to",
        fix="copy the file itself to that place",
    )


def unreadable(path: Place, error: OSError) -> StorageError:
    """The error of a file that the system does not let us read."""
    there = error.errno not in (errno.ENOENT, errno.ENOTDIR)
    return (StorageError if there else NotFoundError)(
        f"{path} cannot be read",
        got=error.strerror or str(error),
        rule="a file that is there and may be read",
        fix=f"ls -l {quote(str(Path(path).parent))}",
        errno=error.errno,
    )


def unwritable(path: Place, error: Exception) -> StorageError:
    """The error of a file or folder that the system does not let us write."""
    code = error.errno if isinstance(error, OSError) else errno.EINVAL
    full = code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return StorageError(
        f"{path} could not be written",
        got=str(error),
        rule="room on the disk and permission to write there; what was there before is as it was",
        fix="free some space, or keep fewer checkpoints" if full else "another folder",
        errno=code,
    )
