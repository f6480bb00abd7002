"""How TinyTorch is configured on this machine: threads, the cache folder, the structure counter,
where seeds come from, what becomes of freed memory.

Knows environment variables and the operating system, never tensors. Each answer is worked out when
asked for, so that a changed environment is seen, and costs nothing at import.
"""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

from tinytorch.base.errors import SettingError
from tinytorch.base.locks import ForkSafeLock

if TYPE_CHECKING:
    from pathlib import Path

VERSION = "0.1.0"  # of TinyTorch, as pyproject.toml has it


class Counter:
    """A number that only grows, to see cheaply that something has changed.

    >>> changes = Counter()
    >>> changes.bump()
    >>> changes.value
    1
    """

    __slots__ = ("_lock", "value")

    def __init__(self):
        self.value = 0
        self._lock = ForkSafeLock()

    def bump(self) -> None:
        """Say that something has changed."""
        with self._lock:
            self.value += 1


class Modes:
    """Which of two ways each object behaves in, as one number: the same ways, the same number.

    Each object that changes its way changes the number by what its identity gives, and back again
    (Zobrist 1970, "A new hashing method with application for game playing"), so that what was made
    for a set of ways is found again when they return. Two sets are taken for one once in 2**61.

    >>> modes = Modes()
    >>> first, model = modes.value, object()
    >>> modes.flip(model)
    >>> changed = modes.value
    >>> modes.flip(model)
    >>> first == modes.value != changed
    True
    """

    __slots__ = ("_lock", "value")

    def __init__(self):
        self.value = 0
        self._lock = ForkSafeLock()

    def flip(self, owner: object) -> None:
        """Say that an object behaves the other way from now on."""
        with self._lock:
            self.value ^= hash((id(owner), Modes))


# Moves when static Python state changes what a captured program would be: attributes of Modules,
# number of threads. Compiled functions capture again when it has moved.
STRUCTURE = Counter()
# Which Modules train and which evaluate. A compiled function keeps a program for either.
MODES = Modes()
# Moves when a Tensor that was there begins or ends to gather a gradient. Compiled functions then
# look whether it was one of theirs.
LEAVES = Counter()

_threads: int | None = None


def num_threads() -> int:
    """How many threads a compiled program uses.

    `set_num_threads`, else TINYTORCH_NUM_THREADS, else OMP_NUM_THREADS, else the least of physical
    cores, cores this process may run on, and the control group's quota.

    Cost: about 1 ms the first time, when nothing is set (it reads /sys).
    """
    if _threads is not None:
        return _threads
    for name in ("TINYTORCH_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(name, "").split(",")[0].strip()
        if text:
            return _positive(text, name)
    return available_cores()


def set_num_threads(count: int | None) -> None:
    """Use `count` threads (at least 1) from now on; None: back to the default."""
    global _threads
    _threads = None if count is None else _positive(count, "set_num_threads")
    STRUCTURE.bump()


def _positive(text: object, name: str) -> int:
    try:
        count = int(str(text))
    except ValueError:
        count = 0
    if count < 1:
        raise SettingError(
            f"{name}: not a number of threads",
            got=repr(text),
            rule="a whole number >= 1",
            fix=f"{name}=2" if name.isupper() else f"{name}(2)",
        )
    return count


_cores: int | None = None


def available_cores() -> int:
    """The least of physical cores, this process's affinity and the control group's quota; >= 1."""
    global _cores
    if _cores is None:
        _cores = max(1, min(_physical_cores(), _quota_cores()))
    return _cores


def _text(*parts: str) -> str:
    from tinytorch.base import files  # with pathlib: 3 ms

    return files.contents(os.path.join(*parts), 1 << 16).decode("ascii")


def _allowed() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _physical_cores(root: str = "/sys/devices/system/cpu") -> int:
    """Physical cores among the allowed ones: threads of one core have one siblings list."""
    allowed = _allowed()
    cores: set[str] = set()
    for cpu in allowed:
        try:
            siblings = _text(root, f"cpu{cpu}", "topology", "thread_siblings_list")
        except OSError:
            return len(allowed) if sys.platform != "darwin" else os.cpu_count() or 1
        cores.add(siblings.strip())
    return len(cores)


def _quota_cores(root: str = "/sys/fs/cgroup") -> int:
    """Whole cores' worth of time that the control group grants (version 2, else 1)."""
    everything = os.cpu_count() or 1
    try:
        quota, period = _text(root, "cpu.max").split()[:2]
    except (OSError, ValueError):
        try:
            quota = _text(root, "cpu", "cpu.cfs_quota_us")
            period = _text(root, "cpu", "cpu.cfs_period_us")
        except OSError:
            return everything
    try:
        granted = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max": no limit
        return everything
    return everything if granted <= 0 else max(1, int(granted + 0.5))


def cache_folder() -> Path:
    """Where programs and downloads are kept: TINYTORCH_CACHE, else the user's cache folder.

    Where nobody knows which that is (no HOME and no entry for the user, as in some containers;
    `~name` of nobody) it is a temporary folder of this process, after one warning.

    Source: the XDG base directory specification: XDG_CACHE_HOME has to be absolute, and is passed
    over if it is not.
    """
    from pathlib import Path  # 3 ms, and only compiling and downloading need it

    named = os.environ.get("TINYTORCH_CACHE")
    try:
        if named:
            return Path(named).expanduser()
        if sys.platform == "darwin":
            return _home() / "Library" / "Caches" / "tinytorch"
        if os.name == "nt":
            local = os.environ.get("LOCALAPPDATA")
            return Path(local or _home() / "AppData" / "Local", "tinytorch")
        given = os.environ.get("XDG_CACHE_HOME", "")
        return Path(given if os.path.isabs(given) else _home() / ".cache", "tinytorch")
    except RuntimeError as error:
        return _temporary_folder(f"TINYTORCH_CACHE={named}: {error}" if named else str(error))


def _home() -> Path:
    from pathlib import Path

    home = Path.home()
    if not home.is_absolute():
        raise RuntimeError(f"the home folder is no whole path: {str(home)!r}")
    return home


_temporary: Path | None = None
_making = ForkSafeLock()


def _temporary_folder(why: str) -> Path:
    global _temporary
    from tinytorch.base import files
    from tinytorch.base.errors import printable

    with _making:
        if _temporary is None:
            _temporary = files.temporary_folder("tinytorch-")
            warnings.warn(
                f"there is no place for a cache ({printable(why)}): what is compiled and fetched "
                f"stays in {_temporary} until this program ends; TINYTORCH_CACHE=FOLDER keeps it",
                RuntimeWarning,
                stacklevel=4,
            )
        return _temporary


# --- where a seed comes from when nobody gives one ---

# One function that draws whole numbers: that of the default generator of random Tensors, once there
# is one. Loaders stand on a lower floor and ask here, so `tt.manual_seed` decides their order.
_seed_source: Callable[[], int] = count().__next__


def draw_from(source: Callable[[], int]) -> None:
    """Let `source` give the seeds from now on: whole numbers in [0, 2**64)."""
    global _seed_source
    _seed_source = source


def draw_seed() -> int:
    """A seed that nobody else gets: of the stream that `tt.manual_seed` began."""
    return _seed_source()


# --- memory that is freed ---

# Note [why freed memory is kept]
#     An eager operation allocates its result and soon frees it. glibc gives blocks over 128 KiB
#     back to the system at once, and each new block is then filled with zeros page by page, which
#     costs as much as the operation. Measured on an eager step of a small convolutional network:
#     412 ms, of them 58 ms for pages (docs/log.md, 2026-11-21).

# Numbers of mallopt(3), from malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# Freed bytes at the end of the heap that stay; beyond that the system gets them back.
KEPT = 256 << 20
# The largest that glibc takes (HEAP_MAX_SIZE / 2): larger blocks are mapped one by one.
LARGEST = 32 << 20


def keep_freed_memory() -> bool:
    """Tell glibc to keep up to 256 MiB of freed memory; True where it could be told.

    >>> keep_freed_memory() in (True, False)
    True
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_TRIM_THRESHOLD, KEPT)) and bool(mallopt(_MMAP_THRESHOLD, LARGEST))
