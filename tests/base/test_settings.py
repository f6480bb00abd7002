"""Threads, cache folder, structure counter."""

import os
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
