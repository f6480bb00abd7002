"""Ground truth: what was put; damage, foreign folders and full disks behave as cache.py says."""

import os
import warnings

import pytest

from tinytorch.base.errors import CompileError
from tinytorch.codegen import cache
from tinytorch.codegen.cache import ProgramCache, program_key, sources_key

OBJECTS = [b"\x7fELF one", b"", b"two" * 1000]
PLAN = {"stages": [[0, 8], [1, 1]], "name": "step"}


@pytest.fixture
def kept(tmp_path):
    return ProgramCache(tmp_path / "programs")


def entry(kept):
    (path,) = kept.folder.glob("*.program")
    return path


def test_what_is_put_is_got(kept):
    """Round trip, also by another object on the same folder."""
    assert kept.get("key") is None
    kept.put("key", OBJECTS, PLAN)
    assert kept.get("key") == (OBJECTS, PLAN)
    assert ProgramCache(kept.folder).get("key") == (OBJECTS, PLAN)
    assert kept.get("other key") is None
    assert [p.suffix for p in kept.folder.iterdir()] == [".program"]  # nothing half written


@pytest.mark.parametrize("at", [0, 19, 25, 51, 60, -1])
def test_a_damaged_entry_is_removed(kept, at):
    """One changed byte in the first line, checksum, length, plan or object."""
    kept.put("key", OBJECTS, PLAN)
    content = bytearray(entry(kept).read_bytes())
    content[at] ^= 1
    entry(kept).write_bytes(content)
    assert kept.get("key") is None
    assert not list(kept.folder.iterdir())


@pytest.mark.parametrize("length", [0, 10, 40, 70])
def test_a_truncated_entry_is_removed(kept, length):
    """As after a full disk with another writer."""
    kept.put("key", OBJECTS, PLAN)
    entry(kept).write_bytes(entry(kept).read_bytes()[:length])
    assert kept.get("key") is None and not list(kept.folder.iterdir())


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_others_can_write_to_is_refused(tmp_path, mode):
    """The code in it would be run."""
    folder = tmp_path / "programs"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(CompileError, match="others can write to it"):
        ProgramCache(folder)


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    """Another user's folder, by pretending to be another user."""
    monkeypatch.setattr(os, "getuid", lambda: os.stat(tmp_path).st_uid + 1)
    with pytest.raises(CompileError, match="belongs to user"):
        ProgramCache(tmp_path)


def test_without_a_usable_folder_one_warning_and_no_cache(tmp_path, monkeypatch):
    """A file where the folder should be: compile() goes on without a cache."""
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("TINYTORCH_CACHE", str(tmp_path / "cache"))
    with pytest.warns(RuntimeWarning, match="not kept"):
        assert cache.open_cache() is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cache.open_cache() is None  # said once


def test_the_folder_follows_the_environment(tmp_path, monkeypatch):
    """TINYTORCH_CACHE names it."""
    monkeypatch.setenv("TINYTORCH_CACHE", str(tmp_path / "mine"))
    opened = cache.open_cache()
    assert opened is not None and opened.folder == tmp_path / "mine" / "programs"
    assert opened.folder.stat().st_mode & 0o777 == 0o700


def test_the_least_recently_used_go_when_it_is_full(tmp_path):
    """Ten entries of 1000 bytes, room for about five: the last used stay."""
    kept = ProgramCache(tmp_path / "programs", limit=6000)
    for i in range(10):
        kept.put(f"key {i}", [bytes(1000)], None)
        os.utime(kept._path(f"key {i}"), (i, i)) if i < 9 else None
    present = [i for i in range(10) if kept.get(f"key {i}")]
    assert present == [5, 6, 7, 8, 9]


def test_one_entry_larger_than_the_limit_stays(tmp_path):
    """Else the largest program would be compiled each time."""
    kept = ProgramCache(tmp_path / "programs", limit=10)
    kept.put("key", OBJECTS, PLAN)
    assert kept.get("key") == (OBJECTS, PLAN)


def test_a_full_disk_is_not_an_error(kept, monkeypatch):
    """os.replace that fails, as on a full or read-only disk: nothing kept, nothing left."""

    def refuse(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    kept.put("key", OBJECTS, PLAN)
    assert kept.get("key") is None and not list(kept.folder.iterdir())


def test_clear(kept):
    """Nothing is left."""
    kept.put("key", OBJECTS, PLAN)
    kept.clear()
    assert not list(kept.folder.iterdir())


def test_keys_depend_on_every_part_and_on_the_sources(monkeypatch):
    """Invariant: where one part ends matters; other sources, other key."""
    assert len({program_key("a", "bc"), program_key("ab", "c"), program_key("abc")}) == 3
    before = program_key("a")
    monkeypatch.setattr(cache, "sources_key", lambda: "other sources")
    assert program_key("a") != before
    assert len(sources_key()) == 64
