"""The one reader and the one writer: what is no regular file is refused, whatever is written is
whole or not there, and nobody else's file changes. JSON in them is read strictly."""

import errno
import os
import re
import socket
import stat
import threading
from pathlib import Path

import pytest

from tinytorch.base import files
from tinytorch.base.errors import (
    FileFormatError,
    NotFoundError,
    SettingError,
    StorageError,
    TinyTorchError,
    printable,
    short,
)
from tinytorch.base.files import NotStrictError, contents, extending, parse_json, replacing


def write(path, content=b"new"):
    with replacing(path) as file:
        file.write(content)


# --- written whole or not at all ---


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    """Ground truth: the old bytes, and a folder with one name in it."""
    path = tmp_path / "weights"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="in the middle"), replacing(path) as file:
        file.write(b"half of the new")
        raise RuntimeError("in the middle")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["weights"]


@pytest.mark.parametrize("call", ["open", "fsync", "replace", "stat", "fchmod"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_whatever_the_system_refuses_the_old_file_stays(tmp_path, refuses, call, code):
    """Ground truth: the old bytes and no other name, after each call was refused once."""
    path = tmp_path / "weights"
    path.write_bytes(b"old")
    refused = 0
    for nth in range(5):
        with refuses(call, nth, OSError(code, os.strerror(code))):
            try:
                write(path)
            except StorageError as error:
                refused += 1
                assert error.errno == code and "could not be written" in error.what
        assert path.read_bytes() in (b"old", b"new") and os.listdir(tmp_path) == ["weights"]
    assert refused


def test_a_reader_keeps_the_file_it_opened(tmp_path):
    """Ground truth: POSIX rename: an open file is not changed by the name pointing elsewhere."""
    path = tmp_path / "weights"
    path.write_bytes(b"old")
    with path.open("rb") as before:
        write(path)
        assert before.read() == b"old"
    assert path.read_bytes() == b"new"


def test_folders_are_made_and_permissions_kept(tmp_path):
    """Ground truth: the mode a plain open() gives, and the mode the old file had."""
    plain = tmp_path / "plain"
    plain.touch()
    path = tmp_path / "deep" / "er" / "file"
    write(path)
    assert path.stat().st_mode == plain.stat().st_mode
    for mode in (0o600, 0o644, 0o666):
        path.chmod(mode)
        write(path)
        assert path.stat().st_mode & 0o777 == mode


def test_the_umask_is_never_touched(tmp_path, monkeypatch):
    """Ground truth: os.umask is for the whole process, so another thread would make open files."""

    def touched(mask):
        raise AssertionError("the umask of every thread was changed")

    monkeypatch.setattr(os, "umask", touched)
    write(tmp_path / "file")


def test_a_temporary_file_is_never_wider_than_the_old_one(tmp_path):
    """Ground truth: a private file's new content, looked at while it is written."""
    path = tmp_path / "private"
    path.touch(0o600)
    with replacing(path) as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600
        file.write(b"secret")


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "x" * 200 + ".json"])
def test_the_longest_names_can_be_written(tmp_path, name):
    """Ground truth: a name has at most 255 bytes; its temporary name has to fit too."""
    write(tmp_path / name)
    assert contents(tmp_path / name, 10) == b"new"


# --- what is in the way ---


def a_link(place: Path, target: Path) -> None:
    place.symlink_to(target)


def a_link_to_nothing(place: Path, target: Path) -> None:
    place.symlink_to(target.with_name("nothing"))


def a_pipe(place: Path, target: Path) -> None:
    os.mkfifo(place)


def a_folder(place: Path, target: Path) -> None:
    place.mkdir()


def a_socket(place: Path, target: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(place.parent)  # a socket's path has at most 108 bytes
        listening.bind(place.name)
        os.chdir(here)


IN_THE_WAY = [a_link, a_link_to_nothing, a_pipe, a_folder, a_socket]


@pytest.mark.parametrize("make", IN_THE_WAY)
@pytest.mark.parametrize("act", [write, lambda p: contents(p, 100), lambda p: extend(p, b"x")])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, make, act):
    """Ground truth: the other's bytes, and what was in the way is still there. (A pipe that is
    opened without care would wait for ever: the test would too.)"""
    target, place = tmp_path / "thesis", tmp_path / "place"
    target.write_bytes(b"years of work")
    make(place, target)
    kind = stat.S_IFMT(place.lstat().st_mode)
    with pytest.raises((StorageError, FileFormatError)) as told:
        act(place)
    assert told.value.got and told.value.fix
    assert target.read_bytes() == b"years of work"
    assert stat.S_IFMT(place.lstat().st_mode) == kind
    assert sorted(os.listdir(tmp_path)) == ["place", "thesis"]


def extend(path, content):
    with extending(path) as file:
        file.seek(0, os.SEEK_END)
        file.write(content)


def test_a_device_is_neither_read_nor_replaced(tmp_path):
    """Ground truth: /dev/zero never ends, and a superuser could replace /dev/null."""
    with pytest.raises(FileFormatError, match="not a regular file"):
        contents("/dev/zero", 100, links=True)
    with pytest.raises(StorageError, match="not a file that can be replaced"):
        write("/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_file_with_two_names_is_replaced_and_not_extended(tmp_path):
    """Ground truth: the other name's bytes."""
    thesis, place = tmp_path / "thesis", tmp_path / "place"
    thesis.write_bytes(b"years of work")
    os.link(thesis, place)
    with pytest.raises(StorageError, match="not a file that can be written to") as told:
        extend(place, b"x")
    assert "2 names" in told.value.got
    write(place)
    assert thesis.read_bytes() == b"years of work" and place.read_bytes() == b"new"


def test_a_link_that_the_user_named_is_read(tmp_path):
    """Ground truth: the bytes behind it: model hubs keep their files so."""
    (tmp_path / "blob").write_bytes(b"weights")
    (tmp_path / "name").symlink_to("blob")
    assert contents(tmp_path / "name", 100, links=True) == b"weights"


def test_a_file_exchanged_for_a_link_after_it_was_looked_at(tmp_path, monkeypatch):
    """Ground truth: the race, made certain: the exchange happens between the look and the open."""
    thesis, place = tmp_path / "thesis", tmp_path / "place"
    thesis.write_bytes(b"years of work")
    place.write_bytes(b"harmless")
    real = os.open

    def exchanging(path, flags, *args, **kwargs):
        if str(path).endswith("place") and not place.is_symlink():
            place.unlink()
            place.symlink_to(thesis)
        return real(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", exchanging)
    with pytest.raises(FileFormatError, match="not a regular file"):
        contents(place, 100)
    place.unlink()
    place.write_bytes(b"harmless")
    with pytest.raises(StorageError):
        extend(place, b"x")
    assert thesis.read_bytes() == b"years of work"


def test_a_link_that_is_put_there_while_the_file_is_written(tmp_path):
    """Ground truth: the other's bytes: a rename takes the link's place and never follows it."""
    thesis, place = tmp_path / "thesis", tmp_path / "place"
    thesis.write_bytes(b"years of work")
    with replacing(place) as file:
        file.write(b"new")
        place.symlink_to(thesis)
    assert thesis.read_bytes() == b"years of work" and place.read_bytes() == b"new"


def test_a_folder_exchanged_while_the_file_is_written(tmp_path):
    """Ground truth: the file appears in the folder that was opened, under whatever name it has."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "theirs").mkdir()
    with replacing(tmp_path / "mine" / "file") as file:
        file.write(b"new")
        (tmp_path / "mine").rename(tmp_path / "moved")
        (tmp_path / "mine").symlink_to("theirs")
    assert (tmp_path / "moved" / "file").read_bytes() == b"new"
    assert os.listdir(tmp_path / "theirs") == []


def test_two_threads_write_one_file(tmp_path):
    """Ground truth: each reader sees one of the two contents in full; nothing is left over."""
    path, contents_of = tmp_path / "file", (b"a" * 70_000, b"b" * 50_000)
    threads = [
        threading.Thread(target=lambda c=c: [write(path, c) for _ in range(20)])
        for c in contents_of
    ]
    write(path, contents_of[0])
    for thread in threads:
        thread.start()
    for _ in range(50):
        assert contents(path, 100_000) in contents_of
    for thread in threads:
        thread.join()
    assert os.listdir(tmp_path) == ["file"]


# --- reading ---


def test_lengths_are_known_before_a_byte_is_read(tmp_path):
    """Ground truth: a sparse file of 20 GB takes no room on the disk and all memory if it is read;
    a file of /proc has no length, and ends where the reader says."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(20 << 30)
    with pytest.raises(FileFormatError, match="too long") as told:
        contents(path, 1000)
    assert told.value.got == f"{20 << 30} bytes"
    path.write_bytes(b"x" * 1000)
    assert contents(path, 1000) == b"x" * 1000
    with pytest.raises(FileFormatError, match="too long"):
        contents(path, 999)
    with pytest.raises(FileFormatError, match="more than 3 bytes"):
        contents("/proc/loadavg", 3)


@pytest.mark.parametrize("name", ["missing", "missing/er", "file/er", "nul\0", "x" * 256])
def test_names_that_lead_nowhere(tmp_path, name):
    """Ground truth: four parts in every case; what is not there is a FileNotFoundError."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as told:
        contents(f"{tmp_path}/{name}", 10)
    assert isinstance(told.value, NotFoundError) == (name in ("missing", "missing/er", "file/er"))
    assert isinstance(told.value, FileNotFoundError) == isinstance(told.value, NotFoundError)
    if name not in ("missing",):
        if name == "missing/er":
            return
        with pytest.raises(StorageError, match="could not be written"):
            write(f"{tmp_path}/{name}")
    assert os.listdir(tmp_path) == ["file"]


def test_text_is_utf_8(tmp_path):
    """Ground truth: byte 3 begins no character."""
    (tmp_path / "file").write_bytes(b"abc\xff")
    with pytest.raises(FileFormatError, match="not a text") as told:
        files.text(tmp_path / "file", 100)
    assert "byte 3" in told.value.got


def test_paths_in_commands_are_quoted(tmp_path):
    """Ground truth: a shell that is given the line sees one word."""
    place = tmp_path / "; rm -rf x"
    place.symlink_to("nothing")
    with pytest.raises(StorageError) as told:
        extend(place, b"x")
    assert told.value.fix == f"rm '{place}'"


def test_a_home_that_nobody_knows():
    """Ground truth: four parts."""
    with pytest.raises(SettingError, match="a home folder that nobody knows"):
        files.user_path("~no-such-user-of-this-computer/x")


def test_an_abandoned_temporary_file_is_told_from_one_in_use(tmp_path):
    """Ground truth: the lock that a living writer holds."""
    with files.open_folder(tmp_path) as folder, replacing(tmp_path / "file") as file:
        file.write(b"x")
        (part,) = os.listdir(tmp_path)
        assert part.endswith(files.PART) and not files.is_abandoned(part, folder)
        (tmp_path / "left.part").touch()
        assert files.is_abandoned("left.part", folder)
        os.mkfifo(tmp_path / "pipe.part")
        assert not files.is_abandoned("pipe.part", folder)


def test_every_file_is_closed(tmp_path):
    """Ground truth: the system's list of this process's descriptors."""
    (tmp_path / "link").symlink_to("file")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        write(tmp_path / "file")
        contents(tmp_path / "file", 100)
        extend(tmp_path / "file", b"x")
        for act in (write, lambda p: contents(p, 1)):
            with pytest.raises(TinyTorchError):
                act(tmp_path / "link")
    assert len(os.listdir("/proc/self/fd")) == before


# --- what a message shows ---


@pytest.mark.parametrize("bad", ["\x1b]0;title\x07", "\r", "\x9b2J", "\u202e", "\x00", "\ud800"])
def test_control_characters_are_never_shown_raw(bad):
    """Ground truth: str.isprintable; text that can be written to any terminal."""
    shown = f"loss{bad}"
    error = FileFormatError(f"{shown} is odd", got=shown, rule=shown, fix=shown)
    for text in (str(error).replace("\n", ""), error.what, error.got, printable(shown)):
        assert text.isprintable() and text.encode()
    assert bad not in str(error) and "loss" in error.got


def test_a_line_end_in_a_name_makes_no_part_of_its_own():
    """Ground truth: the lines that begin with "  fix:" are one."""
    error = FileFormatError("x", got="name\n  fix:  rm -rf /", rule="r", fix="the right one")
    fixes = [line for line in str(error).split("\n") if re.match(r"  fix:", line)]
    assert fixes == ["  fix:  the right one"]


def test_messages_have_an_end():
    """Ground truth: 201 MB of text were printed for a pickle of 205 bytes."""
    nested: object = ()
    for _ in range(60):
        nested = (nested, nested)  # 2 ** 60 of them, if anybody went through all
    assert len(short(nested)) <= 80
    assert len(str(FileFormatError("x", got="y" * 10**7, rule="r", fix="f"))) < 10_000


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        (b"", "not JSON"),
        (b"{}x", "not JSON"),
        (b"[NaN]", "not JSON"),
        (b"[-Infinity]", "not JSON"),
        (b'{"\xff": 1}', "not UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a": {"b": 1, "b": 2}}', "a key stands twice"),
        (b"[" * 100_000, "not JSON"),
        (b"9" * 5000, "not JSON"),
    ],
)
def test_json_that_is_refused(text, phrase):
    """Ground truth: RFC 8259; equal keys, a byte order mark and long numbers are refused too."""
    with pytest.raises(NotStrictError, match=phrase):
        parse_json(text)


def test_json_that_is_read():
    """Ground truth: values written by hand."""
    assert parse_json(b' {"a": [1, -0.5, null, true, "\\u00e9"]} ') == {
        "a": [1, -0.5, None, True, "é"]
    }


def test_only_the_keys_that_stand_twice_are_named():
    """Ground truth: counted by hand."""
    with pytest.raises(NotStrictError) as raised:
        parse_json(b'{"a":1,"b":2,"a":3,"c":4}')
    assert raised.value.got == short(["a"])
