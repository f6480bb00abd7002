"""The manifest of a folder: what files it has, how long each is, and its checksum.

Knows text and numbers, never files. It also covers itself with a checksum, so that no byte of a
saved folder can change unnoticed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from tinytorch.base.errors import FileFormatError, SettingError, short
from tinytorch.base.files import NotStrictError, parse_json

NAME = "manifest.json"
LONGEST = 4 << 20  # bytes; one of a checkpoint has about 1000
MOST_FILES = 256  # each is held open while the folder is read
_FIELDS = {"kind", "version", "about", "files"}


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


def refuse(what: str, got: object, rule: str) -> NoReturn:
    """Raise the error of a folder whose manifest or files are not as they were written."""
    raise FileFormatError(
        what,
        got=got,
        rule=rule,
        fix="use an older checkpoint, or copy the folder again; this one is damaged",
    )


def encode(manifest: Manifest) -> bytes:
    """The manifest as text that people can read.

    Raises:
        SettingError: it is longer, or has more files, than `decode` reads.

    Example:
        >>> text = encode(Manifest("note", 1, {}, {"a.txt": FileRecord(0, "0" * 64)}))
        >>> decode(text, "note", newest=1).files
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
    whole = {"manifest": table, "sha256": _checksum(table)}
    text = json.dumps(whole, indent=1, allow_nan=False).encode() + b"\n"
    if len(text) > LONGEST or len(manifest.files) > MOST_FILES:
        raise SettingError(
            "this is too much for a manifest",
            got=f"{len(text)} bytes, {len(manifest.files)} files",
            rule=f"at most {LONGEST} bytes and {MOST_FILES} files",
            fix="put what is large into a file of the folder",
        )
    return text


def decode(text: bytes, kind: str, newest: int) -> Manifest:
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
        whole = parse_json(text)
    except NotStrictError as error:
        refuse(f"the manifest {error.what}", error.got, error.rule)
    if not isinstance(whole, dict) or whole.keys() != {"manifest", "sha256"}:
        refuse("this is not a manifest", short(whole), "an object with manifest and sha256")
    table = whole["manifest"]
    if not isinstance(table, dict) or _checksum(table) != whole["sha256"]:
        refuse("the manifest was changed", "another checksum", f"SHA-256 {whole['sha256']!s:.64}")
    _check_version(table, kind, newest)
    if table.keys() != _FIELDS or not isinstance(table["about"], dict):
        rule = "the fields " + ", ".join(sorted(_FIELDS))
        refuse("this is not a manifest", short(sorted(table)), rule)
    files = table["files"]
    if not isinstance(files, dict) or len(files) > MOST_FILES:
        refuse("the manifest lists no files", short(files), f"at most {MOST_FILES} files by name")
    return Manifest(
        kind, table["version"], table["about"], {n: _record(n, f) for n, f in files.items()}
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


class FutureVersionError(FileFormatError):
    """A folder is of a version that is written later than this code."""


def is_plain(name: str) -> bool:
    """Whether a file of this name lies in the folder itself, and is not its manifest.

    >>> is_plain("weights.safetensors"), is_plain("../weights.safetensors")
    (True, False)
    """
    return name not in ("", ".", "..", NAME) and name.isprintable() and not set(name) & set("/\\")


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


def _checksum(table: Mapping[str, Any]) -> str:
    text = json.dumps(table, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
