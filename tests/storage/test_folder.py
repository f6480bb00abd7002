"""Folders that are there whole or not at all."""

import errno
import hashlib
import io
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from tinytorch.base.errors import FileFormatError, SettingError, StorageError
from tinytorch.storage import FutureVersionError, reading_folder, writing_folder
from tinytorch.storage import folder as module
from tinytorch.storage.folder import (
    FileRecord,
    Manifest,
    checksum_of,
    decode_manifest,
    encode_manifest,
)


def put(path, **files: bytes):
    with writing_folder(path, "notes") as new:
        for name, content in files.items():
            with new.file(name) as file:
                file.write(content)


def content(path) -> dict[str, bytes]:
    found = reading_folder(path, "notes")
    return {name: found.read(name, 10**6) for name in found.manifest.files}


def test_written_replaced_and_nothing_left_over(tmp_path):
    """Ground truth: the bytes that were written; one name in the parent folder."""
    put(tmp_path / "deep" / "n", a=b"old", b=b"")
    put(tmp_path / "deep" / "n", a=b"new")
    assert content(tmp_path / "deep" / "n") == {"a": b"new"}
    assert os.listdir(tmp_path / "deep") == ["n"]


class Late:
    """A thread that is as late as it may be: it works when it is waited for."""

    def submit(self, function, *args):
        return SimpleNamespace(result=lambda: function(*args))


@pytest.mark.parametrize("beside", [ThreadPoolExecutor(1), Late()])
def test_long_pieces_are_hashed_beside_the_writing(beside):
    """Ground truth: the checksum of the whole, made of long and short pieces in turn."""
    lengths = (3, 9_000_000, 5, 1 << 20, (1 << 20) - 1, 0, 7)
    pieces = [bytes([i]) * n for i, n in enumerate(lengths)]
    file = io.BytesIO()
    hashing = module._Hashing(file, beside)
    assert [hashing.write(memoryview(piece)) for piece in pieces] == list(lengths)
    whole = b"".join(pieces)
    assert file.getvalue() == whole
    assert hashing.record() == FileRecord(len(whole), hashlib.sha256(whole).hexdigest())


def test_a_failed_write_leaves_the_old_folder_and_nothing_else(tmp_path):
    """Ground truth: the old bytes; also without an old folder."""
    put(tmp_path / "n", a=b"old")
    for name in ("n", "m"):
        with pytest.raises(RuntimeError, match="in the middle"):
            with writing_folder(tmp_path / name, "notes") as new, new.file("a") as file:
                file.write(b"half")
                raise RuntimeError("in the middle")
    assert content(tmp_path / "n") == {"a": b"old"}
    assert os.listdir(tmp_path) == ["n"]


SYSTEM_CALLS = ["fsync", "rename", "mkdir", "open"]


@pytest.mark.parametrize("call", SYSTEM_CALLS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_whatever_the_system_refuses_the_old_folder_stays(tmp_path, refuses, call, code):
    """Ground truth: the old bytes, after each call of a save failed once with a system error."""
    put(tmp_path / "n", a=b"old")
    failed = 0
    for nth in range(8):
        with refuses(call, nth, OSError(code, os.strerror(code))):
            try:
                put(tmp_path / "n", a=b"new")
            except StorageError as error:
                failed += 1
                assert error.errno == code and isinstance(error, OSError)
                assert "could not be written" in error.what and os.strerror(code) in error.got
        # Whole in any case: the new one where it only failed after the rename.
        assert content(tmp_path / "n") in ({"a": b"old"}, {"a": b"new"})
        if call == "rename":
            assert os.listdir(tmp_path) == ["n"]
    assert failed >= 1
    put(tmp_path / "n", a=b"newer")
    assert content(tmp_path / "n") == {"a": b"newer"}
    assert os.listdir(tmp_path) == ["n"]


def test_a_folder_under_a_file(tmp_path):
    """Ground truth: POSIX: a file has no folders in it. (Permissions do not stop a superuser.)"""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="could not be written") as told:
        put(tmp_path / "file" / "n", a=b"")
    assert told.value.fix == "another folder"


def test_whether_a_folder_can_be_written_is_known_before(tmp_path, monkeypatch):
    """Ground truth: a folder that can, one under a file that cannot, one on a full disk."""
    module.check_writable(tmp_path / "new" / "n")
    assert os.listdir(tmp_path / "new" / "n") == []
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file/n could not be written"):
        module.check_writable(tmp_path / "file" / "n")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="could not be written"):
        module.check_writable(tmp_path / "new" / "n")
    assert os.listdir(tmp_path / "new" / "n") == []


def test_other_peoples_folders_are_not_replaced(tmp_path):
    """Ground truth: the file that was there; an empty folder may be used."""
    (tmp_path / "n").mkdir()
    put(tmp_path / "n", a=b"1")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "thesis.tex").write_text("years")
    (tmp_path / "f").write_text("years")
    for name in ("m", "f"):
        with pytest.raises(SettingError, match="not a folder that can be replaced"):
            put(tmp_path / name, a=b"1")
    assert (tmp_path / "m" / "thesis.tex").read_text() == (tmp_path / "f").read_text() == "years"
    assert sorted(os.listdir(tmp_path)) == ["f", "m", "n"]


def test_names_that_look_like_patterns_and_links(tmp_path):
    """Ground truth: leftovers of "n[1]*" go, those of "n1" stay. A link that the
    user named is read through and never written through."""
    put(tmp_path / "n[1]*", a=b"1")
    for left in (".n[1]*.0123456789ab.new", ".n1.0123456789ab.new"):
        (tmp_path / left).mkdir()
    put(tmp_path / "n[1]*", a=b"2")
    assert sorted(os.listdir(tmp_path)) == [".n1.0123456789ab.new", "n[1]*"]
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "latest").symlink_to(tmp_path / "n[1]*")
    with pytest.raises(SettingError, match="not a folder that can be replaced"):
        put(tmp_path / "links" / "latest", a=b"3")
    assert content(tmp_path / "n[1]*") == content(tmp_path / "links" / "latest") == {"a": b"2"}
    assert os.listdir(tmp_path / "links") == ["latest"]


def test_every_change_to_a_file_is_seen(tmp_path):
    """Ground truth: SHA-256; lengths alone see the cut one, and not the changed one."""
    put(tmp_path / "n", a=b"12345", b=b"6")
    for change, phrase in [
        (lambda p: p.write_bytes(b"12346"), "was changed"),
        (lambda p: p.write_bytes(b"1234"), "another length"),
        (lambda p: p.unlink(), "no a"),
    ]:
        change(tmp_path / "n" / "a")
        with pytest.raises(FileFormatError, match=phrase):
            reading_folder(tmp_path / "n", "notes")
    (tmp_path / "n" / "a").write_bytes(b"54321")
    assert reading_folder(tmp_path / "n", "notes", checksums=False).read("a", 5) == b"54321"
    (tmp_path / "n" / "manifest.json").unlink()
    with pytest.raises(FileFormatError, match="not whole"):
        reading_folder(tmp_path / "n", "notes")


def test_what_is_not_there(tmp_path):
    """Ground truth: the system's number for "no such file"; an unlisted file has no path."""
    with pytest.raises(StorageError, match="there is no notes here") as told:
        reading_folder(tmp_path / "n", "notes")
    assert told.value.errno == errno.ENOENT
    put(tmp_path / "n", a=b"")
    (tmp_path / "n" / "extra").write_text("of somebody else")
    with pytest.raises(FileFormatError, match="lacks a file"):
        reading_folder(tmp_path / "n", "notes").read("extra", 1)


def test_killed_between_two_renames(tmp_path):
    """Ground truth: the old folder under its other name is read, and put back by the next save."""
    put(tmp_path / "n", a=b"old")
    os.rename(tmp_path / "n", tmp_path / ".n.before")
    assert content(tmp_path / "n") == {"a": b"old"}
    module.remove_leftovers(tmp_path, "n", "notes")
    assert os.listdir(tmp_path) == ["n"]
    # Killed after both renames: the new one counts, the old one goes.
    put(tmp_path / ".n.before", a=b"older")
    module.remove_leftovers(tmp_path, "n", "notes")
    assert os.listdir(tmp_path) == ["n"] and content(tmp_path / "n") == {"a": b"old"}


HALF = """
import os, signal, sys
from tinytorch.storage import writing_folder
with writing_folder(sys.argv[1], "notes") as new, new.file("a") as file:
    file.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_is_not(tmp_path):
    """Ground truth: a process killed while it wrote; another that is still writing."""
    done = subprocess.run(
        [sys.executable, "-c", HALF, str(tmp_path / "n")],
        timeout=300,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == -9
    (left,) = os.listdir(tmp_path)
    assert left.startswith(".n.") and left.endswith(".new")
    with writing_folder(tmp_path / "n", "notes"):
        (being_written,) = os.listdir(tmp_path)
        module.remove_leftovers(tmp_path, "n", "notes")
        assert os.listdir(tmp_path) == [being_written] != [left]
    assert os.listdir(tmp_path) == ["n"]


SMALL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
from tinytorch.base.errors import StorageError
from tinytorch.storage import writing_folder
try:
    with writing_folder(sys.argv[1], "notes") as new, new.file("a") as file:
        file.write(b"x" * 5000)
except StorageError as error:
    print(error)
"""


def test_a_file_that_the_system_does_not_let_grow(tmp_path):
    """Ground truth: the system's own refusal (a limit on file sizes); the old bytes stay."""
    put(tmp_path / "n", a=b"old")
    done = subprocess.run(
        [sys.executable, "-c", SMALL, str(tmp_path / "n")],
        capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert "could not be written" in done.stdout and "free some space" in done.stdout, done.stderr
    assert content(tmp_path / "n") == {"a": b"old"} and os.listdir(tmp_path) == ["n"]


SOUND = Manifest(
    "note", 1, {"step": 3}, {"a": FileRecord(5, "0" * 64), "b é": FileRecord(0, "f" * 64)}
)


def signed(table: object) -> bytes:
    """A manifest with these contents and the right checksum."""
    return json.dumps({"manifest": table, "sha256": checksum_of(table)}).encode()


def table(**changes) -> dict:
    return {**json.loads(encode_manifest(SOUND))["manifest"], **changes}


def test_a_manifest_that_is_encoded_is_decoded():
    """Ground truth: round trip."""
    assert decode_manifest(encode_manifest(SOUND), "note", 1) == SOUND


def test_no_byte_of_a_manifest_can_change():
    """Ground truth: each byte replaced by three others is refused, or was white space."""
    text = encode_manifest(SOUND)
    for i, byte in enumerate(text):
        for other in (byte ^ 1, byte ^ 32, ord("7")):
            if other == byte:
                continue
            try:
                found = decode_manifest(text[:i] + bytes([other]) + text[i + 1 :], "note", 1)
            except FileFormatError:
                continue
            assert found == SOUND, i


def test_later_versions_are_told_apart_from_damage():
    """Ground truth: an error of its own, that says to install something and to keep the folder."""
    with pytest.raises(FutureVersionError, match="written by a newer TinyTorch") as told:
        decode_manifest(signed(table(version=2, fields="we do not know")), "note", 1)
    assert "keep it" in told.value.fix
    assert decode_manifest(signed(table(version=2)), "note", newest=2).version == 2


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        (b"", "the manifest is not JSON"),
        (b'{"a":1,"a":2}', "a key stands twice"),
        (b"[]", "not a manifest"),
        (b'{"manifest":{}}', "not a manifest"),
        (b'{"manifest":{},"sha256":"00"}', "was changed"),
        (b'{"manifest":{},"sha256":[1]}', "was changed"),
        (signed([]), "was changed"),
        (signed({}), "not a note"),
        (signed(table(kind="list")), "not a note"),
        (signed(table(version=0)), "no version"),
        (signed(table(version=True)), "no version"),
        (signed(table(version="1")), "no version"),
        (signed(table(more=1)), "not a manifest"),
        (signed(table(about=[])), "not a manifest"),
        (signed(table(files=[])), "lists no files"),
        (signed(table(files={"a": {}})), "does not describe"),
        (signed(table(files={"a": {"bytes": -1, "sha256": "0" * 64}})), "does not describe"),
        (signed(table(files={"a": {"bytes": 1, "sha256": "0"}})), "does not describe"),
        (signed(table(files={"../a": {"bytes": 1, "sha256": "0" * 64}})), "outside the folder"),
        (signed(table(files={"..": {"bytes": 1, "sha256": "0" * 64}})), "outside the folder"),
        (signed(table(files={"manifest.json": {}})), "outside the folder"),
    ],
)
def test_manifests_that_are_refused(text, phrase):
    """Ground truth: the rules of a manifest; a phrase of each refusal."""
    with pytest.raises(FileFormatError, match=phrase):
        decode_manifest(text, "note", 1)
