"""Threads, cache folder, structure counter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinytorch.base import settings
from tinytorch.base.errors import SettingError


def test_threads_follow_the_environment(monkeypatch):
    """Stated order: set_num_threads, TINYTORCH_NUM_THREADS, OMP_NUM_THREADS, the machine."""
    monkeypatch.delenv("TINYTORCH_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert settings.num_threads() == 3
    monkeypatch.setenv("TINYTORCH_NUM_THREADS", "5")
    assert settings.num_threads() == 5
    before = settings.STRUCTURE.value
    settings.set_num_threads(7)
    assert settings.num_threads() == 7 and settings.STRUCTURE.value == before + 1
    settings.set_num_threads(None)
    for wrong in ("0", "many", "-1"):
        monkeypatch.setenv("TINYTORCH_NUM_THREADS", wrong)
        with pytest.raises(SettingError, match="not a number of threads"):
            settings.num_threads()


def test_cores_are_counted_by_core_not_by_hardware_thread(tmp_path, monkeypatch):
    """Made-up machine: four hardware threads on two cores."""
    monkeypatch.setattr(settings, "_allowed", lambda: {0, 1, 2, 3})
    for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings + "\n")
    assert settings._physical_cores(str(tmp_path)) == 2
    assert settings._physical_cores(str(tmp_path / "nothing")) == 4


@pytest.mark.parametrize(
    ("text", "cores"), [("150000 100000", 2), ("50000 100000", 1), ("max 100000", None)]
)
def test_quota_of_the_control_group(tmp_path, text, cores):
    """Made-up cpu.max: quota and period in microseconds (Linux cgroup v2 documentation)."""
    (tmp_path / "cpu.max").write_text(text)
    assert settings._quota_cores(str(tmp_path)) == (cores or os.cpu_count())


def test_quota_of_an_old_control_group(tmp_path):
    """Made-up version 1 files; -1 means no limit."""
    folder = tmp_path / "cpu"
    folder.mkdir()
    (folder / "cpu.cfs_period_us").write_text("100000")
    for quota, cores in (("300000", 3), ("-1", os.cpu_count())):
        (folder / "cpu.cfs_quota_us").write_text(quota)
        assert settings._quota_cores(str(tmp_path)) == cores


def test_cache_folder(monkeypatch, tmp_path):
    """Stated: TINYTORCH_CACHE, else the user's cache folder."""
    monkeypatch.setenv("TINYTORCH_CACHE", str(tmp_path))
    assert settings.cache_folder() == tmp_path
    monkeypatch.delenv("TINYTORCH_CACHE")
    assert isinstance(settings.cache_folder(), Path) and "inytorch" in str(settings.cache_folder())


def test_this_machine_has_a_core():
    """Invariant."""
    assert 1 <= settings.available_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(("given", "used"), [("/absolute", True), ("relative", False), ("", False)])
def test_a_cache_folder_of_the_desktop_has_to_be_absolute(monkeypatch, tmp_path, given, used):
    """Ground truth: the XDG base directory specification: a relative path is ignored."""
    monkeypatch.delenv("TINYTORCH_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    monkeypatch.setattr(settings.sys, "platform", "linux")
    expected = Path(given) if used else tmp_path / ".cache"
    assert settings.cache_folder() == expected / "tinytorch"


NOWHERE = """
import os, pwd, sys, warnings
def getpwuid(uid):
    raise KeyError(uid)
pwd.getpwuid = getpwuid
warnings.simplefilter("always")
import tinytorch as tt
from tinytorch.base.settings import cache_folder
from tinytorch.data import official
x = tt.Tensor([1.0, 2.0])
assert tt.compile(lambda x: x + x)(x).tolist() == [2.0, 4.0]
assert tt.compile(lambda x: x * x)(x).tolist() == [1.0, 4.0]
folder = cache_folder()
assert folder == cache_folder() and official.user_cache().parent == folder
assert os.stat(folder).st_mode & 0o777 == 0o700
assert len(os.listdir(folder / "programs")) == 3  # theirs, and the thread team's loop
if os.fork() == 0:
    sys.exit(0)
os.wait()
assert folder.is_dir()
print(folder)
"""


@pytest.mark.parametrize(
    "environment", [{}, {"TINYTORCH_CACHE": "~no-such-user-here/x"}, {"HOME": "relative"}]
)
def test_without_a_home_there_is_a_temporary_folder_and_one_warning(tmp_path, environment):
    """Ground truth: a process without HOME and without an entry for its user, as in containers: it
    compiles and keeps, warns once, and leaves nothing behind."""
    kept = {n: v for n, v in os.environ.items()
            if n not in ("HOME", "TINYTORCH_CACHE", "XDG_CACHE_HOME")}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", NOWHERE], capture_output=True, text=True, timeout=300,
        cwd=Path(__file__).parents[2], env={**kept, "TMPDIR": str(tmp_path), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Warning: there is no place for a cache") == 1
    assert done.stderr.count("Warning") == 1, done.stderr
    folder = Path(done.stdout.strip())
    assert folder.parent == tmp_path and not folder.exists()
