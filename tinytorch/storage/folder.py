"""Writing a folder of files so that it is there whole or not at all, and reading only whole ones.

Knows paths, bytes and checksums, never what the files mean. A folder says in its manifest what
files it has, how long each is, and its checksum; the manifest covers itself with one too, so that
no byte of a saved folder can change unnoticed. The files are found in the folder that was opened,
and their contents come from the opening whose checksum was taken: whoever exchanges one meanwhile
is not followed. Only folders that are ours are replaced or removed: those with a manifest of the
right kind, and nothing beside the files it lists.

In this order: the manifest; writing; what a killed process leaves behind; reading.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import stat
import weakref
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any, BinaryIO, NoReturn, cast

from tinytorch.base import files
from tinytorch.base.errors import (
    FileFormatError,
    NotFoundError,
    SettingError,
    StorageError,
    printable,
    short,
)

MANIFEST = "manifest.json"
LONGEST_MANIFEST = 4 << 20  # bytes; one of a checkpoint has about 1000
MOST_FILES = 256  # each is held open while the folder is read
_FIELDS = {"kind", "version", "about", "files"}
_CHUNK = files.CHUNK  # bytes read at once for a checksum; 0.5 ms of hashing, a thread costs 0.05


# --- the manifest: text and numbers ---


@dataclass(frozen=True)
class FileRecord:
    """One file: its length in bytes and the SHA-256 of its bytes, in hexadecimal."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a folder says about itself.

    Args:
        kind: what it is, for example "tinytorch checkpoint".
        version: of the format of this kind, from 1 on.
        about: JSON values by name, small, readable without opening any other file.
        files: every file but the manifest, by name.
    """

    kind: str
    version: int
    about: dict[str, Any]
    files: dict[str, FileRecord]


class FutureVersionError(FileFormatError):
    """A folder is of a version that is written later than this code."""


def refuse(what: str, got: object, rule: str) -> NoReturn:
    """Raise the error of a folder whose manifest or files are not as they were written."""
    raise FileFormatError(
        what,
        got=got,
        rule=rule,
        fix="use an older checkpoint, or copy the folder again; this one is damaged",
    )


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as text that people can read.

    Raises:
        SettingError: it is longer, or has more files, than `decode_manifest` reads.

    Example:
        >>> text = encode_manifest(Manifest("note", 1, {}, {"a.txt": FileRecord(0, "0" * 64)}))
        >>> decode_manifest(text, "note", newest=1).files
        {'a.txt': FileRecord(bytes=0, sha256='000...000')}
    """
    table = {
        "kind": manifest.kind,
        "version": manifest.version,
        "about": manifest.about,
        "files": {
            n: {"bytes": f.bytes, "sha256": f.sha256} for n, f in sorted(manifest.files.items())
        },
    }
    whole = {"manifest": table, "sha256": checksum_of(table)}
    text = json.dumps(whole, indent=1, allow_nan=False).encode() + b"\n"
    if len(text) > LONGEST_MANIFEST or len(manifest.files) > MOST_FILES:
        raise SettingError(
            "this is too much for a manifest",
            got=f"{len(text)} bytes, {len(manifest.files)} files",
            rule=f"at most {LONGEST_MANIFEST} bytes and {MOST_FILES} files",
            fix="put what is large into a file of the folder",
        )
    return text


def decode_manifest(text: bytes, kind: str, newest: int) -> Manifest:
    """Read and check a manifest.

    Args:
        text: the file's bytes.
        kind: what the folder has to be.
        newest: the highest version that can be read.

    Returns:
        the manifest.

    Raises:
        FileFormatError: damaged, of another kind, or of a version that does not exist yet here.
    """
    try:
        whole = files.parse_json(text)
    except files.NotStrictError as error:
        refuse(f"the manifest {error.what}", error.got, error.rule)
    if not isinstance(whole, dict) or whole.keys() != {"manifest", "sha256"}:
        refuse("this is not a manifest", short(whole), "an object with manifest and sha256")
    table = whole["manifest"]
    if not isinstance(table, dict) or checksum_of(table) != whole["sha256"]:
        refuse("the manifest was changed", "another checksum", f"SHA-256 {whole['sha256']!s:.64}")
    _check_version(table, kind, newest)
    if table.keys() != _FIELDS or not isinstance(table["about"], dict):
        rule = "the fields " + ", ".join(sorted(_FIELDS))
        refuse("this is not a manifest", short(sorted(table)), rule)
    listed = table["files"]
    if not isinstance(listed, dict) or len(listed) > MOST_FILES:
        refuse("the manifest lists no files", short(listed), f"at most {MOST_FILES} files by name")
    return Manifest(
        kind, table["version"], table["about"], {n: _record(n, f) for n, f in listed.items()}
    )


def _check_version(table: Mapping[str, Any], kind: str, newest: int) -> None:
    if table.get("kind") != kind:
        refuse(f"this is not a {kind}", f"kind {short(table.get('kind'))}", f"kind {kind!r}")
    version = table.get("version")
    if type(version) is not int or version < 1:
        refuse("the manifest has no version", short(version), "a whole number >= 1")
    if version > newest:
        raise FutureVersionError(
            f"this {kind} was written by a newer TinyTorch",
            got=f"version {version}",
            rule=f"versions 1 to {newest} can be read here",
            fix="install a newer TinyTorch; the folder itself is fine, keep it",
        )


def is_plain(name: str) -> bool:
    """Whether a file of this name lies in the folder itself, and is not its manifest.

    >>> is_plain("weights.safetensors"), is_plain("../weights.safetensors")
    (True, False)
    """
    beside = name not in ("", ".", "..", MANIFEST) and not set(name) & set("/\\")
    return beside and name.isprintable()


def _record(name: str, fields: object) -> FileRecord:
    rule = "a plain file name with bytes >= 0 and 64 hexadecimal digits"
    shown = short(name)
    if not is_plain(name):
        refuse("the manifest names a file outside the folder", shown, rule)
    if not isinstance(fields, dict) or fields.keys() != {"bytes", "sha256"}:
        refuse(f"the manifest does not describe {shown}", short(fields), rule)
    size, checksum = fields["bytes"], fields["sha256"]
    if type(size) is not int or size < 0 or not isinstance(checksum, str) or len(checksum) != 64:
        refuse(f"the manifest does not describe {shown}", short(fields), rule)
    return FileRecord(size, checksum)


def checksum_of(table: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest's contents, however they are spaced and ordered."""
    text = json.dumps(table, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


# --- writing ---


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
        descriptor: of the folder, until it is finished.
        beside: a thread for checksums.
    """

    def __init__(self, descriptor: int, beside: ThreadPoolExecutor):
        self._folder, self._beside = descriptor, beside
        self.about: dict[str, Any] = {}  # JSON values for the manifest
        self._files: dict[str, FileRecord] = {}

    @contextlib.contextmanager
    def file(self, name: str) -> Generator[BinaryIO, None, None]:
        """A new binary file of this folder; on the disk (fsync) when the block ends.

        Args:
            name: without a folder, of characters that can be printed.

        Raises:
            SettingError: another name.
        """
        if not is_plain(name):
            raise SettingError(
                "this is not the name of a file in a folder",
                got=short(name),
                rule=f"a plain name, not {MANIFEST}",
                fix="a name without / and without control characters",
            )
        with self._writing(name) as file:
            yield file

    @contextlib.contextmanager
    def _writing(self, name: str) -> Generator[BinaryIO, None, None]:
        with files.creating(name, folder=self._folder) as file:
            hashing = _Hashing(file, self._beside)
            yield cast(BinaryIO, hashing)
        self._files[name] = hashing.record()

    def finish(self, kind: str, version: int) -> None:
        """Write the manifest: from here on the folder is whole."""
        text = encode_manifest(Manifest(kind, version, self.about, dict(self._files)))
        with self._writing(MANIFEST) as file:
            file.write(text)
        os.fsync(self._folder)


@contextlib.contextmanager
def writing_folder(
    path: str | os.PathLike[str], kind: str, version: int = 1
) -> Generator[NewFolder, None, None]:
    """A folder that takes the place of `path` when the block ends without an error.

    Its files are written to a hidden folder beside it and forced to the disk; a manifest with
    their checksums comes last; then it is renamed. Killed at any moment, `path` is the old folder
    or the new one. (Where there was an old one it is kept as ".NAME.before" for the instant between
    two renames; readers look there too.)

    Args:
        path: where the folder will be. What is replaced is an empty folder, or one with a manifest
            of this kind and no other files than it lists; anything else, a link too, is refused.
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
        >>> reading_folder(place, "notes").read("a.txt", most=100)
        b'hello'
    """
    target = Path(path)
    temporary = f".{target.name}.{secrets.token_hex(6)}.new"
    try:
        with contextlib.ExitStack() as held:
            files.make_folder(target.parent)
            parent = held.enter_context(files.open_folder(target.parent))
            _remove_leftovers(parent, re.escape(target.name), kind)
            _check_replaceable(target, parent, kind)
            os.mkdir(temporary, dir_fd=parent)
            held.callback(_remove_flat, temporary, parent)
            own = held.enter_context(_locked(temporary, parent))
            new = NewFolder(own, held.enter_context(ThreadPoolExecutor(1)))
            yield new
            new.finish(kind, version)
            _put(temporary, target.name, parent)
    except StorageError:
        raise
    except OSError as error:
        raise files.unwritable(target, error) from error


def check_writable(path: str | os.PathLike[str]) -> None:
    """Make a folder if it is missing, and write a file there that is removed at once.

    Args:
        path: the folder.

    Raises:
        StorageError: it cannot be written.
    """
    trial = f".{secrets.token_hex(6)}.trial"
    try:
        files.make_folder(path)
        with files.open_folder(path) as folder:
            try:
                with files.creating(trial, folder=folder) as file:
                    file.write(b"a few bytes, as a full disk takes none")
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(trial, dir_fd=folder)
    except StorageError:
        raise
    except OSError as error:
        raise files.unwritable(path, error) from error


def _put(temporary: str, name: str, parent: int) -> None:
    before = _before(name)
    replaces = _is_there(name, parent)
    if replaces:
        if _is_there(before, parent):  # and was not ours to remove
            _rename(before, f"{name}.before-{secrets.token_hex(3)}", parent)
        _rename(name, before, parent)
    try:
        _rename(temporary, name, parent)
    except OSError:
        if replaces:
            _rename(before, name, parent)
        raise
    os.fsync(parent)
    if replaces:
        _remove_flat(before, parent)


def _before(name: str) -> str:
    return f".{name}.before"


def _rename(old: str, new: str, parent: int) -> None:
    os.rename(old, new, src_dir_fd=parent, dst_dir_fd=parent)


def _is_there(name: str, parent: int) -> bool:
    """Whether there is anything of that name, a link that leads nowhere too."""
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _check_replaceable(target: Path, parent: int, kind: str) -> None:
    if not _is_there(target.name, parent):
        return
    try:
        with files.open_folder(target.name, links=False, folder=parent) as folder:
            names = sorted(os.listdir(folder))
            if not names or _is_own(folder, names, kind):
                return
            held = f"it holds {', '.join(map(printable, names[:3]))}"
            if MANIFEST in names:
                held += f", but is no {kind} with these files alone"
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        held = "it is a file or a link"
    raise SettingError(
        f"{target} is not a folder that can be replaced",
        got=held,
        rule=f"a new name, an empty folder, or a {kind} as it was written",
        fix=f"another name, for example {quote(f'{target.name}-2')}",
    )


def _is_own(folder: int, names: list[str], kind: str) -> bool:
    """Whether a folder has a manifest of this kind, and nothing but the files it lists."""
    try:
        text = files.contents(MANIFEST, LONGEST_MANIFEST, folder=folder)
        known = decode_manifest(text, kind, newest=10**9).files
    except (FileFormatError, NotFoundError):
        return False
    except StorageError as error:
        raise OSError(error.errno, error.got) from None
    return set(names) <= known.keys() | {MANIFEST}


def is_replaceable(path: Path, kind: str) -> bool:
    """Whether `writing_folder` would put a folder of this kind in the place of what is there."""
    try:
        with files.open_folder(path.parent) as parent:
            _check_replaceable(path, parent, kind)
    except SettingError:
        return False
    except FileNotFoundError:
        return True
    return True


# --- what a killed process leaves behind ---


@contextlib.contextmanager
def _locked(name: str, parent: int) -> Generator[int, None, None]:
    """Hold a lock on a folder that the system lets go of when the process ends, however it ends."""
    with files.open_folder(name, links=False, folder=parent) as folder:
        with contextlib.suppress(OSError):  # file systems without locks
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder


def _abandoned(name: str, parent: int) -> bool:
    try:
        with files.open_folder(name, links=False, folder=parent) as folder:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def remove_leftovers(parent: Path, name: str, kind: str) -> None:
    """Remove what processes that were killed while writing left in `parent`, and finish renames.

    Args:
        parent: the folder that holds the written folders.
        name: of the written folders, as a regular expression.
        kind: what they are.
    """
    with contextlib.suppress(OSError), files.open_folder(parent) as folder:
        _remove_leftovers(folder, name, kind)


def _remove_leftovers(parent: int, name: str, kind: str) -> None:
    for found in os.listdir(parent):
        before = re.fullmatch(rf"\.({name})\.before", found, re.DOTALL)
        if before is not None:
            if not _is_there(before[1], parent):
                # Where nothing may be written it is read under the name it has.
                with contextlib.suppress(OSError):
                    _rename(found, before[1], parent)
            elif not _is_kept(found, parent, kind):
                _remove_flat(found, parent)
        left = re.fullmatch(rf"\.(?:{name})\.[0-9a-f]{{8,}}\.(new|gone)", found, re.DOTALL)
        if left is not None and _abandoned(found, parent):
            _remove_flat(found, parent)


def _is_kept(name: str, parent: int, kind: str) -> bool:
    """Whether a folder is not ours to remove."""
    try:
        with files.open_folder(name, links=False, folder=parent) as folder:
            return not _is_own(folder, os.listdir(folder), kind)
    except OSError:
        return True


def remove_folder(path: Path, kind: str) -> None:
    """Remove a folder of ours so that no reader ever sees half of it: it is renamed first.

    A folder that holds anything else is left alone.
    """
    gone = f".{path.name}.{secrets.token_hex(6)}.gone"
    with files.open_folder(path.parent) as parent:
        if not _is_kept(path.name, parent, kind):
            _rename(path.name, gone, parent)
            _remove_flat(gone, parent)


def _remove_flat(name: str, parent: int) -> None:
    """Remove a folder and the files in it, as far as the system lets us; folders in it stay."""
    with contextlib.suppress(OSError):
        with files.open_folder(name, links=False, folder=parent) as folder:
            for inside in os.listdir(folder):
                with contextlib.suppress(OSError):
                    os.unlink(inside, dir_fd=folder)
        os.rmdir(name, dir_fd=parent)


# --- reading ---


@dataclass(frozen=True)
class Folder:
    """A folder whose every byte was found as it was written.

    Its files are held open for as long as this object lives: what is read is what was checked.

    Args:
        path: where it is.
        manifest: what it says about itself.
        descriptors: its opened files by name.
    """

    path: Path
    manifest: Manifest
    descriptors: dict[str, int] = field(repr=False)

    def descriptor(self, name: str) -> int:
        """The opened file of that name, for reading; closed with this object.

        Raises:
            FileFormatError: the manifest does not list it.
        """
        if name not in self.manifest.files:
            refuse(f"{self.path} lacks a file", name, "listed in its manifest")
        return self.descriptors[name]

    def read(self, name: str, most: int) -> bytes:
        """All bytes of one of its files.

        Args:
            name: listed in the manifest.
            most: bytes beyond which it is refused.

        Raises:
            FileFormatError: the manifest does not list it, or it is longer.
        """
        opened, size = self.descriptor(name), self.manifest.files[name].bytes
        if size > most:
            refuse(f"{self.path / name} is too long", f"{size} bytes", f"at most {most}")
        return b"".join(_pieces(opened, size))


def reading_folder(
    path: str | os.PathLike[str],
    kind: str,
    newest: int = 1,
    checksums: bool = True,
    links: bool = True,
    most: int | None = None,
) -> Folder:
    """Check a folder that `writing_folder` wrote: manifest, lengths and checksums of all its files.

    Files that the manifest does not list are passed over.

    Args:
        path: the folder.
        kind: what it has to be.
        newest: the highest version that can be read.
        checksums: False checks that the files are there in full length, without reading them.
        links: whether `path` may be a symbolic link: yes where the user named it, no where it was
            found in a folder that he named.
        most: bytes of all its files beyond which it is refused before they are read.

    Returns:
        the folder, ready to be read.

    Raises:
        StorageError: there is no such folder.
        FileFormatError: it is damaged, not whole, of another kind or of a future version, or has a
            link or a device in the place of a file.

    Cost: every byte is read once if checksums are.
    """
    place = Path(path)
    if not os.path.lexists(place) and (place.parent / _before(place.name)).is_dir():
        place, links = place.parent / _before(place.name), False
    try:
        with files.open_folder(place, links=links) as folder:
            opened = _opened(place, folder, kind, newest, most)
            if checksums:
                _check_contents(opened)
            return opened
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        if stat.S_ISLNK(os.lstat(place).st_mode) if os.path.lexists(place) else False:
            raise files.not_regular(place, "a symbolic link to a folder") from None
        raise NotFoundError(
            f"there is no {kind} here",
            got=f"{place}: {error.strerror}",
            rule="a folder written by TinyTorch",
            fix="check the path; it names the folder itself, not the one that holds it",
            errno=errno.ENOENT,
        ) from None


def _opened(place: Path, folder: int, kind: str, newest: int, most: int | None) -> Folder:
    try:
        shown = place / MANIFEST
        text = files.contents(MANIFEST, LONGEST_MANIFEST, folder=folder, shown=shown)
    except NotFoundError:
        refuse(f"{place} is not whole", "no " + MANIFEST, f"a whole {kind} has one")
    found = decode_manifest(text, kind, newest)
    total = sum(record.bytes for record in found.files.values())
    if most is not None and total > most:
        refuse(f"{place} is too large", f"{total} bytes", f"at most {most} bytes")
    descriptors: dict[str, int] = {}
    opened = Folder(place, found, descriptors)
    weakref.finalize(opened, _close, descriptors)
    for name, record in found.files.items():
        try:
            descriptors[name] = files.open_regular(name, folder=folder, shown=place / name)
        except NotFoundError:
            refuse(f"{place} is not whole", f"no {name}", "every listed file")
        if (size := os.fstat(descriptors[name]).st_size) != record.bytes:
            what = f"{place / name} has another length"
            refuse(what, f"{size} bytes", f"{record.bytes} bytes")
    return opened


def _close(descriptors: dict[str, int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)


def _check_contents(folder: Folder) -> None:
    listed = folder.manifest.files
    with ThreadPoolExecutor(min(4, max(1, len(listed)))) as pool:
        checksums = list(pool.map(lambda n: _sha256(folder.descriptor(n), listed[n].bytes), listed))
    for (name, record), checksum in zip(listed.items(), checksums, strict=True):
        if checksum != record.sha256:
            rule = f"SHA-256 {record.sha256}"
            refuse(f"{folder.path / name} was changed", "another checksum", rule)


def _pieces(descriptor: int, size: int) -> Iterator[bytes]:
    """The bytes of a file, wherever others read it."""
    at = 0
    while at < size and (piece := os.pread(descriptor, min(_CHUNK, size - at), at)):
        at += len(piece)
        yield piece


def _sha256(descriptor: int, size: int) -> str:
    total = hashlib.sha256()
    for piece in _pieces(descriptor, size):
        total.update(piece)
    return total.hexdigest()
