"""Threads and processes: the same batches in the same order, errors in their place, no one left."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tinytorch.base.errors import DataError
from tinytorch.data import (
    ArrayDataset,
    Compose,
    DataLoader,
    ImageDataset,
    Normalize,
    RandomCrop,
    RandomFlip,
)
from tinytorch.data.workers import in_order

RNG = np.random.default_rng(0)
IMAGES = ImageDataset(RNG.integers(0, 256, (50, 3, 8, 8), dtype=np.uint8), np.arange(50))
AUGMENT = Compose([RandomCrop(8, padding=2), RandomFlip(), Normalize(0.5, 0.25)])
WAYS = [
    {"prefetch": 3},
    {"workers": 1},
    {"workers": 3, "prefetch": 1},
    {"workers": 2, "prefetch": 0},
    {"workers": 2, "processes": True},
]


class Faulty:
    """Six samples of which one cannot be read."""

    def __init__(self, error):
        self.error = error

    def __len__(self):
        return 6

    def take(self, indices):
        if 4 in indices:
            raise self.error
        return (indices,)


class Odd(Exception):
    """An error that cannot be pickled and read again."""

    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


class FaultyInItsOwnWay(Faulty):
    """The same with that error."""

    def take(self, indices):
        raise Odd(1, 2)


class Pid:
    """Samples that say which process made them, or end it."""

    def __init__(self, fatal=-1):
        self.fatal = fatal

    def __len__(self):
        return 8

    def take(self, indices):
        if self.fatal in indices:
            os.kill(os.getpid(), signal.SIGKILL)
        return (np.array([os.getpid()]),)


def loader(**settings):
    return DataLoader(IMAGES, 8, shuffle=True, seed=3, transform=AUGMENT, **settings)


def drain(batches):
    return [(x.copy(), y.copy()) for x, y in batches]


def equal(a, b):
    return len(a) == len(b) and all(
        np.array_equal(x, v) and np.array_equal(y, w) for (x, y), (v, w) in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_same_batches_and_the_same_place(way):
    """Ground truth: the batches of a loader without workers, two epochs, stopped in the second.

    Augmented, so that order, samples and random choices all count.
    """
    plain = loader()
    wanted = drain(plain) + drain(plain)
    worked = loader(**way)
    seen = drain(worked)
    batches = iter(worked)
    for _ in range(4):
        seen += drain([next(batches)])
    state = worked.state_dict()
    batches.close()
    assert equal(seen, wanted[:11])
    for other in (loader(), worked):  # another number of workers, and the same loader again
        other.load_state_dict(state)
        assert equal(drain(other), wanted[11:])
    worked.close()


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_error_comes_in_its_place(way):
    """Ground truth: the batches before the fault arrive, then the fault itself."""
    seen = []
    with pytest.raises(OSError, match="disk gone"):
        for (batch,) in DataLoader(Faulty(OSError("disk gone")), 2, **way):
            seen.append(batch.tolist())
    assert seen == [[0, 1], [2, 3]]


def test_errors_of_processes_say_where():
    """Ground truth: the note with the worker's own traceback; one that cannot travel as text."""
    with pytest.raises(OSError) as raised:
        list(DataLoader(Faulty(OSError("x")), 6, workers=1, processes=True))
    assert "in take" in raised.value.__notes__[0]
    with pytest.raises(DataError, match="Odd: 1 and 2"):
        list(DataLoader(FaultyInItsOwnWay(None), 6, workers=1, processes=True))


def test_what_cannot_be_sent_is_named():
    """Ground truth: a function without a name has no place to be found again."""
    data = ArrayDataset(np.arange(4))
    with pytest.raises(DataError, match="cannot be sent to a process"):
        list(DataLoader(data, 2, workers=2, processes=True, transform=lambda batch, _: batch))
    assert not multiprocessing.active_children()


def test_objects_do_not_travel():
    """Ground truth: the documented kinds of arrays."""
    data = ArrayDataset(np.array([{}, None], object))
    assert len(list(DataLoader(data, 1, workers=1))) == 2
    with pytest.raises(DataError, match="Python objects"):
        list(DataLoader(data, 1, workers=1, processes=True))


def test_kinds_and_empty_arrays_travel():
    """Ground truth: the arrays themselves."""
    small, columns = np.arange(3, dtype=np.int16), np.asfortranarray(np.ones((3, 4)))
    arrays = [np.zeros((3, 0)), np.arange(3) > 1, small, columns]
    for a, b in zip(
        next(iter(DataLoader(ArrayDataset(*arrays), 3, workers=1, processes=True))),
        arrays,
        strict=True,
    ):
        assert a.dtype == b.dtype and np.array_equal(a, b)


def test_processes_are_kept_from_epoch_to_epoch():
    """Ground truth: process numbers."""
    pids = DataLoader(Pid(), 2, workers=2, processes=True)
    first, second = ({int(p[0]) for (p,) in pids} for _ in range(2))
    assert first == second and len(first) == 2 and os.getpid() not in first
    pids.close()
    assert {int(p[0]) for (p,) in pids}.isdisjoint(first)
    del pids
    assert not multiprocessing.active_children()


def test_a_killed_process_is_named():
    """Ground truth: SIGKILL, as a system without memory sends it."""
    with pytest.raises(DataError, match="a process of the DataLoader ended") as raised:
        list(DataLoader(Pid(fatal=5), 2, workers=2, processes=True))
    assert "exit code -9" in raised.value.got
    assert not multiprocessing.active_children()


def test_processes_end_with_a_killed_parent(tmp_path):
    """Ground truth: the process table after SIGKILL of the process that trains."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys, time\n"
        "import numpy as np\n"
        "from tinytorch.data import DataLoader\n"
        "class Pid:\n"
        "    def __len__(self): return 100\n"
        "    def take(self, indices): return (np.full(200_000, os.getpid()),)\n"
        "if __name__ == '__main__':\n"
        "    batches = iter(DataLoader(Pid(), 1, workers=2, processes=True))\n"
        "    print(next(batches)[0][0], next(batches)[0][0], flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    pids = [int(p) for p in process.stdout.readline().split()]
    assert len(set(pids)) == 2
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(alive(pid) for pid in pids)


def alive(pid):
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_script_without_a_guard_is_told(tmp_path):
    """Ground truth: the error's cure names the line that is missing."""
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy as np\n"
        "from tinytorch.data import ArrayDataset, DataLoader\n"
        "list(DataLoader(ArrayDataset(np.arange(4)), 2, workers=1, processes=True))\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode and "__main__" in done.stderr.splitlines()[-1]


def test_as_many_are_begun_early_as_asked():
    """Ground truth: counting the jobs that were begun when one is handed out."""
    begun = []

    class Counting:
        def submit(self, job):
            begun.append(job)
            return lambda: (job,)

        def close(self):
            pass

    for ahead in (0, 3):
        begun.clear()
        results = in_order([(0, 0, i) for i in range(9)], Counting(), ahead)
        assert next(results) == ((0, 0, 0),) and len(begun) == ahead + 1
        assert [r[0][2] for r in results] == list(range(1, 9))


def test_ctrl_c_does_not_reach_the_processes():
    """Ground truth: SIGINT to each worker, as a terminal sends it; the epoch goes on."""
    batches = iter(DataLoader(Pid(), 1, workers=2, processes=True))
    pids = {int(next(batches)[0][0]), int(next(batches)[0][0])}
    for pid in pids:
        os.kill(pid, signal.SIGINT)
    assert {int(p[0]) for (p,) in batches} == pids


def test_augmentation_differs_between_epochs():
    """Ground truth: the same samples, other choices; an epoch repeated repeats them."""
    data = DataLoader(IMAGES, 50, transform=AUGMENT, seed=1)
    (first,), (second,) = drain(data), drain(data)
    assert np.array_equal(first[1], second[1]) and not np.array_equal(first[0], second[0])
    data.load_state_dict(data.state_dict() | {"epoch": 0})
    assert np.array_equal(drain(data)[0][0], first[0])


def test_threads_end_when_the_loop_is_left():
    """Ground truth: the list of threads."""
    for _ in loader(workers=2):
        break
    assert not [t for t in threading.enumerate() if t.name.startswith("tinytorch-loader")]


ELSEWHERE = """
import os
import numpy as np
from tinytorch.data import ArrayDataset, DataLoader
if __name__ == "__main__":
    data = ArrayDataset(np.arange(12.0), np.arange(12))
    loader = DataLoader(data, 4, workers=2, processes=True, transform=safe)
    print([x.tolist() for x, _ in loader], os.environ.get("PYTHONSAFEPATH"))
"""


@pytest.mark.parametrize("given", [None, "1"])
def test_workers_import_nothing_from_the_present_folder(tmp_path, given):
    """Ground truth: modules of the names that the server of workers imports, which say so if they
    run; the environment that workers see is the user's."""
    (tmp_path / "here").mkdir()
    for name in ("multiprocessing", "socket", "selectors", "struct", "json", "numpy", "tinytorch"):
        (tmp_path / "here" / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    safe = (
        "def safe(batch, stream):\n    import os\n"
        "    return batch[0] * 0 + (os.environ.get('PYTHONSAFEPATH') == 'tinytorch'), batch[1]\n"
    )
    (tmp_path / "program.py").write_text(safe + ELSEWHERE)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    environment.pop("PYTHONSAFEPATH", None)
    if given:
        environment["PYTHONSAFEPATH"] = given
    done = subprocess.run(
        [sys.executable, str(tmp_path / "program.py")], cwd=tmp_path / "here", env=environment,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.stdout == f"{[[0.0] * 4] * 3} {given}\n", done.stderr
    assert not (tmp_path / "ran").exists()


class Slow:
    """Samples that take a minute each, after the first two."""

    def __len__(self):
        return 8

    def __getitem__(self, i):
        if i > 1:
            time.sleep(60)
        return i


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts what Linux lists")
def test_a_pass_that_is_left_leaves_no_descriptor():
    """Ground truth: the system's list; 3.5 were left each time (attack.md)."""
    loader = DataLoader(Pid(), 1, workers=1, processes=True)
    next(iter(loader))  # the server of processes stays
    before = descriptors()
    for _ in loader:
        break
    with pytest.raises(IndexError):
        next(iter(loader))[9]
    with pytest.raises(OSError, match="x"):
        list(DataLoader(Faulty(OSError("x")), 6, workers=1, processes=True))
    assert descriptors() == before and not multiprocessing.active_children()
    list(loader)
    assert descriptors() > before  # a worker that waits for the next pass
    loader.close()
    assert descriptors() == before


def test_workers_in_the_middle_of_a_sample_are_not_waited_for():
    """Ground truth: a clock: a sample takes a minute, ending two workers much less, whatever else
    the machine does."""
    batches = iter(DataLoader(Slow(), 1, workers=2, processes=True))
    next(batches)
    began = time.monotonic()
    del batches
    assert time.monotonic() - began < 30
    assert not multiprocessing.active_children()


def test_ctrl_c_ends_a_loop_over_slow_samples_at_once(tmp_path):
    """Ground truth: a clock: it waited 10 seconds (attack.md)."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal, sys, time\n"
        # a shell's background job ignores it
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from tinytorch.data import DataLoader\n"
        "from tests.data.test_workers import Slow\n"
        "if __name__ == '__main__':\n"
        "    for batch in DataLoader(Slow(), 1, workers=2, processes=True):\n"
        "        print('one', flush=True)\n"
    )
    path = os.pathsep.join([os.getcwd(), *sys.path])
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert [process.stdout.readline() for _ in range(2)] == ["one\n"] * 2
    time.sleep(0.3)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert time.monotonic() - began < 9.0 and "KeyboardInterrupt" in said
