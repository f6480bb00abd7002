"""Ground truth: what was put; damage, foreign folders and full disks behave as cache.py says."""

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import tinytorch as tt
from tinytorch.base.errors import CompileError
from tinytorch.codegen import cache
from tinytorch.codegen.cache import ProgramCache, program_key, sources_key
from tinytorch.compiler.run import program as programs

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
        os.utime(kept.folder / cache._name(f"key {i}"), (i, i)) if i < 9 else None
    present = [i for i in range(10) if kept.get(f"key {i}")]
    assert present == [5, 6, 7, 8, 9]


def test_one_entry_larger_than_the_limit_stays(tmp_path):
    """Else the largest program would be compiled each time."""
    kept = ProgramCache(tmp_path / "programs", limit=10)
    kept.put("key", OBJECTS, PLAN)
    assert kept.get("key") == (OBJECTS, PLAN)


def test_a_full_disk_is_not_an_error(kept, monkeypatch):
    """os.replace that fails, as on a full or read-only disk: nothing kept, nothing left."""

    def refuse(*_, **__):
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


# --- folders and entries that others could have made ---


def sealed(head: object, objects: bytes = b"") -> bytes:
    """An entry with the right checksum around whatever this is."""
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    body = len(text).to_bytes(8, "little") + text + objects
    return b"tinytorch program 1\n" + hashlib.sha256(body).digest() + body


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
@pytest.mark.parametrize("above", [1, 2])
def test_a_folder_that_others_can_exchange_is_refused(tmp_path, mode, above):
    """Ground truth: whoever may write to a folder above can put his own in the place of ours: code
    of another user was run."""
    folder = tmp_path / "shared" / "cache" / "programs"
    folder.mkdir(parents=True, mode=0o700)
    folder.parents[above - 1].chmod(mode)
    with pytest.raises(CompileError, match="exchange what lies there") as told:
        ProgramCache(folder)
    assert "chmod" not in told.value.fix
    folder.parents[above - 1].chmod(mode | stat.S_ISVTX)  # as /tmp: nobody can exchange it
    ProgramCache(folder).put("key", OBJECTS, PLAN)


def test_a_link_on_the_way_is_followed_and_its_way_checked(tmp_path):
    """Ground truth: the folder it leads to, and those it leads through."""
    real, shared = tmp_path / "real", tmp_path / "shared"
    real.mkdir(mode=0o700)
    shared.mkdir(mode=0o700)
    (tmp_path / "direct").symlink_to(real)
    (shared / "hop").symlink_to("../real")
    (tmp_path / "through").symlink_to("shared/hop")
    ProgramCache(tmp_path / "direct").put("key", OBJECTS, PLAN)
    assert ProgramCache(tmp_path / "through").get("key") == (OBJECTS, PLAN)
    shared.chmod(0o777)
    ProgramCache(tmp_path / "direct")
    with pytest.raises(CompileError, match="exchange what lies there"):
        ProgramCache(tmp_path / "through")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(CompileError, match="cannot be used"):
        ProgramCache(tmp_path / "loop" / "programs")


def test_the_advice_for_a_folder_that_was_open_is_to_remove_it(tmp_path):
    """Ground truth: closing it (chmod 700) would trust what others have put there. The path is one
    word of a shell."""
    folder = tmp_path / "my programs"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(CompileError) as told:
        ProgramCache(folder)
    assert f"rm -r '{folder}'" in told.value.fix and "chmod" not in str(told.value)


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_folders_are_made_for_this_user_alone(tmp_path, umask):
    """Ground truth: the modes; with umask 0 the parents were open to everybody."""
    before = os.umask(umask)
    try:
        kept = ProgramCache(tmp_path / "a" / "b" / "programs")
        kept.put("key", OBJECTS, PLAN)
    finally:
        os.umask(before)
    for folder in (kept.folder, *kept.folder.parents[:2]):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = [entry(kept), kept.folder.with_name("programs.total")]
    assert [stat.S_IMODE(p.stat().st_mode) for p in files] == [0o600, 0o600]
    assert kept.get("key") == (OBJECTS, PLAN)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_an_entry_that_others_can_write_to_is_not_run(kept, mode):
    """Ground truth: its mode; it is removed, and the next one is kept."""
    kept.put("key", OBJECTS, PLAN)
    entry(kept).chmod(mode)
    assert kept.get("key") is None and not list(kept.folder.iterdir())
    kept.put("key", OBJECTS, PLAN)
    assert kept.get("key") == (OBJECTS, PLAN)


def test_an_entry_of_another_user_is_not_run(kept, monkeypatch):
    """Ground truth: its owner, by pretending to be another user."""
    kept.put("key", OBJECTS, PLAN)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert kept.get("key") is None


@pytest.mark.parametrize("what", ["link", "link to nothing", "pipe", "folder"])
def test_an_entry_that_is_no_file(kept, tmp_path, what):
    """Ground truth: nothing is waited for (a pipe was), followed or overwritten; the next program
    is kept where that can be."""
    kept.put("key", OBJECTS, PLAN)
    path, mine = entry(kept), tmp_path / "thesis"
    path.replace(mine)
    before = mine.read_bytes()
    if what.startswith("link"):
        path.symlink_to(mine if what == "link" else "nothing")
    else:
        os.mkfifo(path) if what == "pipe" else path.mkdir()
    assert kept.get("key") is None
    kept.put("key", OBJECTS, PLAN)
    assert kept.get("key") == (None if what == "folder" else (OBJECTS, PLAN))
    assert mine.read_bytes() == before


def test_the_folder_that_was_checked_is_the_one_that_is_used(kept, tmp_path):
    """Ground truth: the entries, after the name leads elsewhere: names are looked up in the folder
    itself. One that was removed is made again."""
    kept.put("key", OBJECTS, PLAN)
    kept.folder.rename(tmp_path / "moved")
    (tmp_path / "evil").mkdir()
    kept.folder.symlink_to(tmp_path / "evil")
    assert kept.get("key") == (OBJECTS, PLAN)
    kept.put("other", OBJECTS, PLAN)
    assert not list((tmp_path / "evil").iterdir())
    kept.folder.unlink()
    kept.clear()
    (tmp_path / "moved").rmdir()
    assert kept.get("key") is None
    kept.put("key", OBJECTS, PLAN)
    assert kept.folder.is_dir() and kept.get("key") == (OBJECTS, PLAN)


WRONG = {
    "no JSON": sealed(b"{"), "no text": sealed(b"\xff"), "a list": sealed([1, 2]),
    "no sizes": sealed({"plan": PLAN}), "no plan": sealed({"sizes": []}),
    "sizes of text": sealed({"plan": PLAN, "sizes": "abc"}, b"abc"),
    "negative": sealed({"plan": PLAN, "sizes": [-1, 4]}, b"abc"),
    "fractions": sealed({"plan": PLAN, "sizes": [1.5, 1.5]}, b"abc"),
    "too long": sealed({"plan": PLAN, "sizes": [4]}, b"abc"),
    "too short": sealed({"plan": PLAN, "sizes": [2]}, b"abc"),
    "nested": sealed(b"[" * 100_000), "empty": sealed(b""),
    "a head beyond the end": b"tinytorch program 1\n" + hashlib.sha256(b"\xff" * 8).digest()
    + b"\xff" * 8,
}  # fmt: skip


@pytest.mark.parametrize("content", WRONG)
def test_a_right_checksum_around_wrong_content(kept, content):
    """Ground truth: the entry is removed like a damaged one; it was a bare error."""
    kept.put("key", OBJECTS, PLAN)
    entry(kept).write_bytes(WRONG[content])
    assert kept.get("key") is None and not list(kept.folder.iterdir())


def test_a_right_checksum_around_a_wrong_plan(tmp_path, monkeypatch):
    """Ground truth: what it gave before: a plan whose numbers are out of their ranges, or no
    numbers, is compiled again, whatever field it is in."""
    monkeypatch.setenv("TINYTORCH_CACHE", str(tmp_path / "cache"))
    x = tt.Tensor([[1.0, 2.0], [3.0, 4.0]])

    def run():
        programs.forget_programs()
        return tt.compile(lambda x: (x + x, x * 3))(x)

    right = [y.tolist() for y in run()]
    kept = cache.open_cache()
    assert kept is not None
    # beside it lies the run loop of the team, if this test is the first to need one
    entries = {path: cache._decode(path.read_bytes()) for path in kept.folder.glob("*.program")}
    ((path, (objects, plan)),) = ((p, e) for p, e in entries.items() if "tasks" in e[1])
    whole = path.read_bytes()
    odd = (None, -1, "x", {}, [None], [10**9], [["result", 8, 7]], [["x", 1, 1]], [{"symbol": 1}])
    changes = [(name, value) for name in plan for value in odd]
    first, *rest = plan["tasks"]
    changes += [("tasks", [first | {n: value}, *rest]) for n in ("symbol", "tiles", "arguments")
                for value in (None, "x", [10**9], [-1])]  # fmt: skip
    found = []
    real = programs._from_disk

    def noting(*args):
        found.append(real(*args))
        return found[-1]

    monkeypatch.setattr(programs, "_from_disk", noting)
    for name, value in changes:
        if name == "memory" or plan[name] == value or name == "tasks" and value == []:
            continue
        path.write_bytes(cache._encode(objects, plan | {name: value}))
        path.chmod(0o600)
        assert [y.tolist() for y in run()] == right, (name, value)
    path.write_bytes(whole)
    run()
    assert found[-1] is not None  # and the right one is still used


KILLED = """
import os, signal, sys
from pathlib import Path
from tinytorch.codegen.cache import ProgramCache
kept = ProgramCache(Path(sys.argv[1]))
def kill(descriptor):
    os.kill(os.getpid(), signal.SIGKILL)
os.fsync = kill
kept.put("key", [b"x" * 1000], None)
"""


def test_what_killed_processes_left_is_removed(kept):
    """Ground truth: a process killed while it wrote, and a half from before locks were taken; one
    that is being written stays."""
    run = [sys.executable, "-c", KILLED, str(kept.folder)]
    done = subprocess.run(run, timeout=300, cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL
    (kept.folder / "tmp1234.part").write_bytes(b"half")
    assert len(list(kept.folder.glob("*.part")) + list(kept.folder.glob(".*.part"))) >= 2
    from tinytorch.base.files import replacing

    with replacing(kept.folder / "in use") as file:
        file.write(b"half")
        kept.put("key", OBJECTS, PLAN)
        assert len([p for p in kept.folder.iterdir() if p.suffix == ".part"]) == 1
    assert {p.suffix for p in kept.folder.iterdir()} == {".program", ""}


def test_keeping_one_costs_the_same_however_many_there_are(tmp_path, monkeypatch):
    """Ground truth: how often the folder is listed, and the system calls that look at one entry: it
    took 7 ms with 10 entries and 456 ms with 15,000."""
    kept = ProgramCache(tmp_path / "programs")
    looked = []
    for name in ("listdir", "scandir", "stat", "lstat"):
        real = getattr(os, name)

        def noting(*args, real=real, **kwargs):
            looked.append(args)
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, noting)
    counts = []
    for i in range(300):
        looked.clear()
        kept.put(f"key {i}", [b"x" * 100], None)
        counts.append(len(looked))
    assert len(set(counts[1:])) == 1, counts


def test_the_number_of_bytes_survives_damage(tmp_path):
    """Ground truth: the limit: a total that is lost, wrong or a link is worked out again, or does
    without; nothing outside is written."""
    kept = ProgramCache(tmp_path / "programs", limit=6000)
    total, mine = tmp_path / "programs.total", tmp_path / "thesis"
    mine.write_text("years of work")
    for i in range(8):
        kept.put(f"key {i}", [bytes(1000)], None)
        total.unlink()
        if i % 4 == 1:
            total.write_bytes(b"\xff nonsense")
        if i % 4 == 2:
            total.symlink_to(mine)
            kept.put(f"more {i}", [bytes(1000)], None)
            total.unlink()
    kept.put("last", [bytes(1000)], None)
    assert sum(p.stat().st_size for p in kept.folder.iterdir()) <= 6000
    assert mine.read_text() == "years of work"


def test_no_descriptor_stays_open(tmp_path):
    """Ground truth: the system's list of this process's descriptors."""
    before = len(os.listdir("/proc/self/fd"))
    for i in range(5):
        kept = ProgramCache(tmp_path / f"programs {i}")
        kept.put("key", OBJECTS, PLAN)
        kept.get("key")
        del kept
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_child_forked_while_entries_are_counted_goes_on(tmp_path, monkeypatch):
    """Ground truth: flock(2): a lock of an open file lasts until all copies of it are closed, those
    that a child inherits too, so the child would wait for itself. Fault of 2026-11-27."""
    cache = ProgramCache(tmp_path / "programs", limit=0)
    children = []

    def forking(self, folder):
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # ends it, whatever it waits for
            ProgramCache(tmp_path / "programs").put("another", OBJECTS, PLAN)
            os._exit(0)
        children.append(child)
        return 0

    monkeypatch.setattr(ProgramCache, "_prune", forking)
    cache.put("one", OBJECTS, PLAN)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0]
    assert cache.get("another") == (OBJECTS, PLAN)
