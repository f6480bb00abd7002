"""Batches: complete, in an order that (seed, epoch) decides, continued where they stopped."""

import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytorch.base.errors import SettingError
from tinytorch.data import ArrayDataset, DataLoader, SequentialSampler


def numbers(n):
    return ArrayDataset(np.arange(n), -np.arange(n))


def drain(loader):
    return [x.tolist() for x, _ in loader]


@given(
    n=st.integers(0, 40),
    batch_size=st.integers(1, 12),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    seed=st.integers(0, 2**64 - 1),
)
def test_every_sample_once(n, batch_size, shuffle, drop_last, seed):
    """Ground truth: counting: each sample once an epoch, except those of a dropped last batch."""
    loader = DataLoader(numbers(n), batch_size, shuffle=shuffle, drop_last=drop_last, seed=seed)
    batches = drain(loader)
    seen = [i for b in batches for i in b]
    assert len(batches) == len(loader)
    assert len(set(seen)) == len(seen) == (n - n % batch_size if drop_last else n)
    assert all(len(b) == batch_size for b in batches[:-1])
    if not shuffle:
        assert seen == list(range(len(seen)))


def test_the_order_is_fixed_for_ever():
    """Ground truth: numbers written down once; Philox words are the same on every machine."""
    loader = DataLoader(numbers(8), 8, shuffle=True, seed=7)
    assert [drain(loader)[0] for _ in range(2)] == [
        [4, 1, 6, 3, 2, 7, 5, 0],
        [3, 1, 6, 2, 5, 4, 0, 7],
    ]


def test_epochs_and_seeds_differ_and_repeat():
    """Ground truth: equal (seed, epoch) gives equal order, unequal gives another."""
    a, b, c = (DataLoader(numbers(100), 10, shuffle=True, seed=s) for s in (1, 1, 2))
    first, second = drain(a), drain(a)
    assert first != second
    assert (drain(b), drain(b)) == (first, second)
    assert drain(c) != first


@pytest.mark.parametrize("prefetch", [0, 3])
@pytest.mark.parametrize("stop", [0, 1, 4, 10])
def test_continued_where_it_stopped(stop, prefetch):
    """Ground truth: the epochs of a loader that was never stopped."""
    whole = DataLoader(numbers(47), 5, shuffle=True, seed=3)
    wanted = drain(whole) + drain(whole)
    first = DataLoader(numbers(47), 5, shuffle=True, seed=3, prefetch=prefetch)
    seen = []
    batches = iter(first)
    for _ in range(stop):
        seen.append(next(batches)[0].tolist())
    state = first.state_dict()
    batches.close()
    second = DataLoader(numbers(47), 5, shuffle=True, seed=0, prefetch=prefetch)
    second.load_state_dict(state)
    while len(seen) < len(wanted):
        seen += drain(second)
    assert seen == wanted


def test_a_batch_is_counted_when_it_is_handed_out():
    """Ground truth: a batch in use at the time of saving is not handed out again."""
    loader = DataLoader(numbers(6), 2)
    for i, _ in enumerate(loader):
        assert loader.state_dict()["position"] == i + 1
    state = loader.state_dict()
    assert state == {"seed": 0, "epoch": 1, "position": 0, "batch_size": 2, "samples": 6}


def prefetch_threads():
    return [t for t in threading.enumerate() if t.name.startswith("tinytorch-loader")]


def test_prefetching_changes_nothing_and_ends():
    """Ground truth: the same loader without the thread; no thread is left."""
    plain = DataLoader(numbers(33), 4, shuffle=True, seed=5)
    ahead = DataLoader(numbers(33), 4, shuffle=True, seed=5, prefetch=2)
    assert drain(plain) == drain(ahead)
    for _ in ahead:
        break
    deadline = time.monotonic() + 5
    while prefetch_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not prefetch_threads()


def test_an_error_in_the_thread_is_raised_in_its_place():
    """Ground truth: the batches before the fault arrive, then the fault itself."""

    class Faulty:
        def __len__(self):
            return 6

        def take(self, indices):
            if 4 in indices:
                raise OSError("disk gone")
            return (indices,)

    seen = []
    with pytest.raises(OSError, match="disk gone"):
        for (batch,) in DataLoader(Faulty(), 2, prefetch=2):
            seen.append(batch.tolist())
    assert seen == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    ("setting", "value"),
    [("batch_size", 0), ("batch_size", 2.0), ("seed", -1), ("seed", 2**64), ("prefetch", -1)],
)
def test_bad_settings_are_named(setting, value):
    """Ground truth: the documented ranges."""
    with pytest.raises(SettingError, match=f"DataLoader: {setting} is outside"):
        DataLoader(numbers(3), **{setting: value})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"workers": -1}, "workers is outside"),
        ({"workers": 1.5}, "workers is outside"),
        ({"shuffle": 1}, "shuffle is a yes or no"),
        ({"drop_last": None}, "drop_last is a yes or no"),
        ({"processes": True}, "processes without a number"),
        ({"shuffle": True, "sampler": SequentialSampler([1])}, "two orders at once"),
        ({"transform": 3}, "transform cannot be called"),
    ],
)
def test_settings_that_contradict_are_named(settings, says):
    """Ground truth: the documented settings."""
    with pytest.raises(SettingError, match=says):
        DataLoader(numbers(3), **settings)


def test_a_position_of_another_loader_is_refused():
    """Ground truth: the same samples in the same batches, or the position means something else."""
    state = DataLoader(numbers(10), 2).state_dict()
    with pytest.raises(SettingError, match="another batch_size"):
        DataLoader(numbers(10), 5).load_state_dict(state)
    with pytest.raises(SettingError, match="another samples"):
        DataLoader(numbers(9), 2).load_state_dict(state)
    with pytest.raises(SettingError, match="not a position"):
        DataLoader(numbers(9), 2).load_state_dict({"seed": 1})
    with pytest.raises(SettingError, match="epoch is outside"):
        DataLoader(numbers(10), 2).load_state_dict(state | {"epoch": "one"})


def test_a_position_from_a_file():
    """Ground truth: arrays of one number, as files give them back."""
    loader = DataLoader(numbers(10), 2)
    loader.load_state_dict(
        {n: np.array(v) for n, v in (loader.state_dict() | {"position": 3}).items()}
    )
    assert [x.tolist() for x, _ in loader] == [[6, 7], [8, 9]]


def test_a_position_beyond_the_epoch_is_refused():
    """Ground truth: the documented range of a position."""
    loader = DataLoader(numbers(4), 2)
    with pytest.raises(SettingError, match="position is outside"):
        loader.load_state_dict(loader.state_dict() | {"position": 3})
