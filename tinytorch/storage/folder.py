"""Writing a folder of files so that it is there whole or not at all, and reading only whole ones.

Knows paths, bytes and checksums, never what the files mean.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from tinytorch.base.errors import SettingError, StorageError
from tinytorch.storage import manifest
from tinytorch.storage.atomic import sync_folder
from tinytorch.storage.manifest import FileRecord, Manifest

try:
    import fcntl
except ImportError:  # Windows: leftovers of a killed process stay until somebody removes them
    fcntl = None

_CHUNK = 1 << 20  # bytes read at once for a checksum; 0.5 ms of hashing, a thread costs 0.05


class _Hashing:
    """A file that counts and hashes what is written to it, long pieces while they are written.

    Args:
        file: where the bytes go.
        beside: a thread for the hashing, which takes as long as the writing.
    """

    def __init__(self, file: BinaryIO, beside: ThreadPoolExecutor):
        self._file, self._beside = file, beside
        self._hash, self._bytes = hashlib.sha256(), 0

    def write(self, data: Any) -> int:
        """Write and hash."""
        if len(data) < _CHUNK:
            self._hash.update(data)
            self._file.write(data)
        else:
            hashed = self._beside.submit(self._hash.update, data)
            try:
                self._file.write(data)
            finally:
                hashed.result()
        self._bytes += len(data)
        return len(data)

    def record(self) -> FileRecord:
        """Length and checksum of what was written."""
        return FileRecord(self._bytes, self._hash.hexdigest())


class NewFolder:
    """A folder that is being written.

    Args:
        path: where it is until it is finished.
        beside: a thread for checksums.
    """

    def __init__(self, path: Path, beside: ThreadPoolExecutor):
        self.path, self._beside = path, beside
        self.about: dict[str, Any] = {}  # JSON values for the manifest
        self._files: dict[str, FileRecord] = {}

    @contextlib.contextmanager
    def file(self, name: str) -> Iterator[BinaryIO]:
        """A new binary file of this folder; on the disk (fsync) when the block ends.

        Args:
            name: without a folder.
        """
        with open(self.path / name, "xb") as file:
            hashing = _Hashing(file, self._beside)
            yield cast(BinaryIO, hashing)
            file.flush()
            os.fsync(file.fileno())
        self._files[name] = hashing.record()

    def finish(self, kind: str, version: int) -> None:
        """Write the manifest: from here on the folder is whole."""
        text = manifest.encode(Manifest(kind, version, self.about, dict(self._files)))
        with self.file(manifest.NAME) as file:
            file.write(text)
        sync_folder(self.path)


@contextlib.contextmanager
def writing_folder(
    path: str | os.PathLike[str], kind: str, version: int = 1
) -> Iterator[NewFolder]:
    """A folder that takes the place of `path` when the block ends without an error.

    Its files are written to a hidden folder beside it and forced to the disk; a manifest with
    their checksums comes last; then it is renamed. Killed at any moment, `path` is the old folder
    or the new one. (Where there was an old one it is kept as ".NAME.before" for the instant between
    two renames; readers look there too.)

    Args:
        path: where the folder will be; a folder with a manifest is replaced, any other is refused.
        kind: what it is, for `reading_folder` to check.
        version: of this kind's format.

    Returns:
        a context manager that gives the NewFolder.

    Raises:
        StorageError: it cannot be written (no space, no permission); `path` is as it was.
        SettingError: `path` holds something else.

    Cost: one fsync for each file, one for the folder and one for its parent.

    Example:
        >>> import tempfile
        >>> place = Path(tempfile.mkdtemp()) / "notes"
        >>> with writing_folder(place, "notes") as new, new.file("a.txt") as file:
        ...     written = file.write(b"hello")
        >>> reading_folder(place, "notes").file("a.txt").read_bytes()
        b'hello'
    """
    target = Path(path)
    if target.is_symlink():
        target = target.resolve()  # the folder itself is replaced, not the link to it
    temporary = target.parent / f".{target.name}.{secrets.token_hex(6)}.new"
    try:
        with contextlib.ExitStack() as held:
            target.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(target.parent, glob.escape(target.name))
            _check_replaceable(target)
            os.mkdir(temporary)
            held.callback(shutil.rmtree, temporary, ignore_errors=True)
            held.enter_context(_locked(temporary))
            new = NewFolder(temporary, held.enter_context(ThreadPoolExecutor(1)))
            yield new
            new.finish(kind, version)
            _put(temporary, target)
    except StorageError:
        raise
    except OSError as error:
        raise _unwritable(target, error) from error


def check_writable(path: str | os.PathLike[str]) -> None:
    """Make a folder if it is missing, and write a file there that is removed at once.

    Args:
        path: the folder.

    Raises:
        StorageError: it cannot be written.
    """
    trial = Path(path) / f".{secrets.token_hex(6)}.trial"
    try:
        trial.parent.mkdir(parents=True, exist_ok=True)
        trial.write_bytes(b"a few bytes, as a full disk takes none")
        trial.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            trial.unlink()
        raise _unwritable(Path(path), error) from error


def _put(temporary: Path, target: Path) -> None:
    before = _before(target)
    replaces = target.exists()
    if replaces:
        os.rename(target, before)
    try:
        os.rename(temporary, target)
    except OSError:
        if replaces:
            os.rename(before, target)
        raise
    sync_folder(target.parent)
    shutil.rmtree(before, ignore_errors=True)


def _before(target: Path) -> Path:
    return target.parent / f".{target.name}.before"


def _check_replaceable(target: Path) -> None:
    if not os.path.lexists(target) or (target / manifest.NAME).is_file():
        return
    if target.is_dir() and not any(target.iterdir()):
        return
    held = sorted(p.name for p in target.iterdir())[:3] if target.is_dir() else "a file"
    raise SettingError(
        f"{target} is not a folder that can be replaced",
        got=f"it holds {held}",
        rule="a new name, an empty folder, or a folder with a manifest of its own",
        fix=f"another name, for example {target.name}-2",
    )


# --- what a killed process leaves behind ---


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock on `folder` that the system lets go of when the process ends, however it ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # file systems without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _abandoned(folder: Path) -> bool:
    if fcntl is None:
        return False
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def remove_leftovers(parent: Path, name: str = "*") -> None:
    """Remove what processes that were killed while writing left in `parent`, and finish renames.

    Args:
        parent: the folder that holds the written folders.
        name: of the written folder; may be a pattern.
    """
    for before in parent.glob(f".{name}.before"):
        target = parent / before.name.removeprefix(".").removesuffix(".before")
        if target.exists():
            shutil.rmtree(before, ignore_errors=True)
        else:
            # Where nothing may be written it is read under the name it has.
            with contextlib.suppress(OSError):
                os.rename(before, target)
    for pattern in (f".{name}.*.new", f".{name}.*.gone"):
        for left in parent.glob(pattern):
            if _abandoned(left):
                shutil.rmtree(left, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove a folder so that no reader ever sees half of it: it is renamed first."""
    gone = path.parent / f".{path.name}.{secrets.token_hex(6)}.gone"
    os.rename(path, gone)
    shutil.rmtree(gone, ignore_errors=True)


# --- reading ---


@dataclass(frozen=True)
class Folder:
    """A folder whose every byte was found as it was written.

    Args:
        path: where it is.
        manifest: what it says about itself.
    """

    path: Path
    manifest: Manifest

    def file(self, name: str) -> Path:
        """The path of one of its files.

        Raises:
            FileFormatError: the manifest does not list it.
        """
        if name not in self.manifest.files:
            manifest.refuse(f"{self.path} lacks a file", name, "listed in its manifest")
        return self.path / name


def reading_folder(
    path: str | os.PathLike[str], kind: str, newest: int = 1, checksums: bool = True
) -> Folder:
    """Check a folder that `writing_folder` wrote: manifest, lengths and checksums of all its files.

    Files that the manifest does not list are passed over.

    Args:
        path: the folder.
        kind: what it has to be.
        newest: the highest version that can be read.
        checksums: False checks that the files are there in full length, without reading them.

    Returns:
        the folder, ready to be read.

    Raises:
        StorageError: there is no such folder.
        FileFormatError: it is damaged, not whole, of another kind or of a future version.

    Cost: every byte is read once if checksums are.
    """
    folder = Path(path)
    if not folder.exists() and _before(folder).is_dir():
        folder = _before(folder)
    if not folder.is_dir():
        raise StorageError(
            f"there is no {kind} here",
            got=str(folder),
            rule="a folder written by TinyTorch",
            fix="check the path; it names the folder itself, not the one that holds it",
            errno=errno.ENOENT,
        )
    if not (folder / manifest.NAME).is_file():
        manifest.refuse(f"{folder} is not whole", "no " + manifest.NAME, f"a whole {kind} has one")
    found = manifest.decode((folder / manifest.NAME).read_bytes(), kind, newest)
    for name, record in found.files.items():
        _check_length(folder / name, record)
    if checksums:
        _check_contents(folder, found.files)
    return Folder(folder, found)


def _check_length(path: Path, record: FileRecord) -> None:
    if not path.is_file():
        manifest.refuse(f"{path.parent} is not whole", f"no {path.name}", "every listed file")
    if (size := path.stat().st_size) != record.bytes:
        manifest.refuse(f"{path} has another length", f"{size} bytes", f"{record.bytes} bytes")


def _check_contents(folder: Path, files: dict[str, FileRecord]) -> None:
    with ThreadPoolExecutor(min(4, max(1, len(files)))) as pool:
        found = list(pool.map(_sha256, [folder / name for name in files]))
    for (name, record), checksum in zip(files.items(), found, strict=True):
        if checksum != record.sha256:
            rule = f"SHA-256 {record.sha256}"
            manifest.refuse(f"{folder / name} was changed", "another checksum", rule)


def _sha256(path: Path) -> str:
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest()


def _unwritable(target: Path, error: OSError) -> StorageError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return StorageError(
        f"{target} could not be written",
        got=str(error),
        rule="room on the disk and permission to write there; what was there before is as it was",
        fix="free some space, or keep fewer checkpoints" if full else "another folder",
        errno=error.errno,
    )
