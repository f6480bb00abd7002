"""Batches: complete, in an order that (seed, epoch) decides, continued where they stopped."""

import threading
import time
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinytorch as tt
from tinytorch.base.errors import SettingError
from tinytorch.data import (
    ArrayDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    WeightedSampler,
)


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
    here = {"seed": 0, "epoch": 1, "position": 0, "batch_size": 2, "samples": 6}
    assert loader.state_dict() == here | {"draws": 1, "begun": 0}
    loader = DataLoader(numbers(6), 2, seed=0)
    next(iter(loader))
    assert loader.state_dict() == here | {"epoch": 0, "position": 1, "draws": 0, "begun": 1}


def test_the_default_batch_is_one_sample():
    """Ground truth: PyTorch's default (porting.md)."""
    assert drain(DataLoader(numbers(3))) == [[0], [1], [2]]


@pytest.mark.parametrize("settings", [{}, {"prefetch": 2}, {"workers": 2}], ids=str)
def test_each_pass_begins_anew(settings):
    """Ground truth: PyTorch: a break, a next(iter()) and an error leave nothing behind."""
    loader = DataLoader(numbers(8), 2, **settings)
    whole = [[0, 1], [2, 3], [4, 5], [6, 7]]
    for _ in loader:
        break
    assert drain(loader) == whole
    assert [next(iter(loader))[0].tolist() for _ in range(2)] == [[0, 1], [0, 1]]
    with pytest.raises(KeyError):
        for _ in loader:
            raise KeyError
    assert drain(loader) == whole


@pytest.mark.parametrize("seed", [None, 3])
def test_two_passes_are_independent(seed):
    """Ground truth: each alone: side by side they share nothing, not even the order."""
    loader = DataLoader(numbers(40), 5, shuffle=True, seed=seed)
    first, second = iter(loader), iter(loader)
    together = list(zip(first, second, strict=True))
    orders = [[x.tolist() for x, _ in batches] for batches in zip(*together, strict=True)]
    assert orders[0] != orders[1]
    for order in orders:
        assert sorted(i for batch in order for i in batch) == list(range(40))
    inner = [[x.tolist() for _ in range(2) for x, _ in loader] for _ in DataLoader(numbers(2))]
    assert all(len(seen) == 16 for seen in inner)


def test_the_order_is_drawn_from_the_default_generator():
    """Ground truth: tt.manual_seed: the same again; loaders and passes differ (porting.md)."""
    one, two = (DataLoader(numbers(50), 5, shuffle=True) for _ in range(2))

    def passes():
        tt.manual_seed(7)
        return [drain(one), drain(two), drain(one), drain(two)]

    found = passes()
    assert len({str(order) for order in found}) == 4
    assert passes() == found
    tt.manual_seed(8)
    assert drain(one) != found[0]
    state = tt.default_generator.state_dict()["state"].tolist()
    drain(DataLoader(numbers(50), 5))  # no chance, no seed: nothing is drawn
    drain(DataLoader(numbers(50), 5, shuffle=True, seed=1))
    assert tt.default_generator.state_dict()["state"].tolist() == state


def test_a_generator_of_its_own_draws():
    """Ground truth: equal generators give equal orders."""
    orders = [
        drain(DataLoader(numbers(50), 5, shuffle=True, generator=tt.Generator(3))) for _ in range(2)
    ]
    assert orders[0] == orders[1]
    for settings in ({"generator": 3}, {"generator": tt.Generator(0), "seed": 1}):
        with pytest.raises(SettingError, match="who draws the seeds"):
            DataLoader(numbers(3), **settings)


@pytest.mark.parametrize("stop", [0, 1, 4])
def test_a_drawn_order_goes_on_where_it_stopped(stop):
    """Ground truth: the loader that was not stopped; the generator's state is the Trainer's part.

    Stopped before the first batch, in the middle, and at the last one; then another pass.
    """
    tt.manual_seed(5)
    whole = DataLoader(numbers(20), 5, shuffle=True)
    wanted = drain(whole) + drain(whole)
    tt.manual_seed(5)
    first = DataLoader(numbers(20), 5, shuffle=True)
    batches = iter(first)
    seen = [next(batches)[0].tolist() for _ in range(stop)]
    state, drawn = first.state_dict(), tt.default_generator.state_dict()["state"].numpy()
    drawn = drawn.copy()
    tt.manual_seed(1)
    second = DataLoader(numbers(20), 5, shuffle=True)
    drain(second)
    tt.default_generator.load_state_dict({"state": drawn})
    second.load_state_dict(state)
    assert second.state_dict() == state
    assert seen + drain(second) + drain(second) == wanted
    assert batches.state_dict() == state and len(list(batches)) == 4 - stop


def test_the_state_of_an_older_version_brings_its_seed():
    """Ground truth: the order of that seed: checkpoints of version 1 hold no "draws"."""
    known = DataLoader(numbers(20), 5, shuffle=True, seed=9)
    drain(known)
    older = {"seed": 9, "epoch": 1, "position": 0, "batch_size": 5, "samples": 20}
    loader = DataLoader(numbers(20), 5, shuffle=True)
    loader.load_state_dict(older)
    assert [drain(loader), drain(loader)] == [drain(known), drain(known)]


class Named(Dataset):
    """Samples as PyTorch's users write them: a subclass, dicts (porting.md, C5)."""

    def __len__(self):
        return 5

    def __getitem__(self, i):
        return {"x": np.full(2, i, np.float32), "y": i, "pair": (i, [float(i), -i])}


WAYS = [{}, {"workers": 2}, {"workers": 2, "processes": True}]


@pytest.mark.parametrize("settings", WAYS, ids=str)
def test_samples_that_are_dicts_give_batches_that_are_dicts(settings):
    """Ground truth: by hand; as in PyTorch, to any depth, through threads and processes."""
    loader = DataLoader(Named(), 3, **settings)
    batches = list(loader)
    assert [list(b) for b in batches] == [["x", "y", "pair"]] * 2
    last = batches[1]
    assert last["x"].tolist() == [[3, 3], [4, 4]] and last["y"].tolist() == [3, 4]
    first, (second, third) = last["pair"]
    assert (first.tolist(), second.tolist(), third.tolist()) == ([3, 4], [3.0, 4.0], [-3, -4])
    loader.close()


class Sentences(IterableDataset):
    def __iter__(self):
        return (float(i) for i in range(5))


def test_samples_that_come_by_themselves():
    """Ground truth: their order; no length, no shuffling; a place to go on from."""
    loader = DataLoader(Sentences(), 2)
    assert (
        [x.tolist() for (x,) in loader] == [[0, 1], [2, 3], [4]] == [x.tolist() for (x,) in loader]
    )
    assert len(list(DataLoader(Sentences(), 2, drop_last=True))) == 2
    with pytest.raises(TypeError, match="is not known before they came"):
        len(loader)
    for settings in ({"shuffle": True}, {"workers": 1}, {"sampler": SequentialSampler([1])}):
        with pytest.raises(SettingError, match="come in their own order"):
            DataLoader(Sentences(), 2, **settings)
    batches = iter(loader)
    next(batches)
    other = DataLoader(Sentences(), 2)
    other.load_state_dict(batches.state_dict())
    assert [x.tolist() for (x,) in other] == [[2, 3], [4]]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (type("Empty", (Dataset,), {})(), "__len__"),
        (type("Long", (Dataset,), {"__len__": lambda self: 3})(), "__getitem__"),
        (type("Nothing", (IterableDataset,), {})(), "__iter__"),
    ],
)
def test_what_a_data_set_does_not_define_is_named(data, name):
    """Ground truth: what the base class asks for."""
    with pytest.raises(SettingError, match=f"has no {name}"):
        list(DataLoader(data, 2))


def test_an_order_of_ten_thousand_million_samples_is_never_made():
    """Ground truth: minutes and 80 GB otherwise (C4); each within range, the passes differ."""
    many = range(10**10)
    for sampler in (
        None,
        RandomSampler(many),
        RandomSampler(many, num_samples=10**9),
        RandomSampler(many, replacement=True),
        RandomSampler([1, 2, 3], replacement=True, num_samples=10**10),
        WeightedSampler([1, 2, 3], 10**10),
    ):
        loader = DataLoader(many, 4, sampler=sampler, seed=1)
        first = [next(iter(loader))[0].tolist() for _ in range(2)]
        assert all(0 <= i < 10**10 for batch in first for i in batch)
        assert sampler is None or len(sampler) < 10**10 or first[0] != first[1]
        far = loader.state_dict() | {"position": len(loader) - 1, "begun": 1}
        loader.load_state_dict(far)
        assert len(list(loader)) == 1
    assert [x.tolist() for (x,) in islice(DataLoader(many, 2), 2)] == [[0, 1], [2, 3]]


def prefetch_threads():
    return [t for t in threading.enumerate() if t.name.startswith("tinytorch-loader")]


def test_prefetching_changes_nothing_and_ends():
    """Ground truth: the same loader without the thread; no thread is left."""
    plain = DataLoader(numbers(33), 4, shuffle=True, seed=5)
    ahead = DataLoader(numbers(33), 4, shuffle=True, seed=5, prefetch=2)
    assert drain(plain) == drain(ahead)
    for _ in ahead:
        break
    deadline = time.monotonic() + 60
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
    for name in ("seed", "epoch"):
        with pytest.raises(SettingError, match=f"{name} is outside"):
            DataLoader(numbers(10), 2).load_state_dict(state | {name: 2**64})


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
