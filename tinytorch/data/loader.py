"""Batches of a data set, in an order that a seed and the number of the pass decide.

Knows sample numbers and NumPy arrays, never a model.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from tinytorch.base.arguments import flag
from tinytorch.base.errors import DTypeError, SettingError
from tinytorch.base.settings import draw_seed
from tinytorch.data.augmentation import Transform
from tinytorch.data.dataset import Dataset, IterableDataset, check_dataset, stacked, take
from tinytorch.data.samplers import BatchSampler, RandomSampler, Sampler, SequentialSampler
from tinytorch.data.stream import Stream
from tinytorch.data.workers import Job, Pool, Processes, Threads, in_order


class BatchMaker:
    """What makes a batch, from its job alone: so any worker makes the same.

    Args:
        dataset: where samples come from.
        batches: which sample numbers a batch has.
        transform: applied to each batch, or None.
    """

    def __init__(self, dataset: Dataset, batches: BatchSampler, transform: Transform | None):
        self.dataset, self.batches, self.transform = dataset, batches, transform

    def __call__(self, job: Job) -> Any:
        """The arrays of batch `i` of a pass: a tuple, or a dict if the samples are dicts."""
        seed, epoch, i = job
        arrays = take(self.dataset, self.batches.batch(i, seed, epoch))
        return arrays if self.transform is None else self.transform(arrays, Stream(*job))


@dataclass
class Place:
    """Where a pass over the data stands.

    Args:
        seed: of its order and its augmentation.
        epoch: number of the pass.
        position: batches that were handed out.
        begun: whether there is such a pass; else it is what the next one begins with.
    """

    seed: int
    epoch: int
    position: int = 0
    begun: bool = False


class DataLoader:
    """Goes through a data set in batches; each `for` over it is a pass of its own.

    Every `iter(loader)` begins anew, whatever became of the one before (`break`, an error, a
    `next(iter(loader))`), and several may run side by side. The order of a pass is drawn from
    `tt.manual_seed`'s stream when it begins, so that each differs; with a `seed` of its own the
    order of pass number e is made from (seed, e) alone, on every machine and after a restart.
    Either way batch i of a pass, its samples and its augmentation, is the same with any number of
    workers.

    `state_dict()` holds the place of the newest pass, also in its middle (`iter(loader)` has a
    `state_dict()` too, where there are several): after `load_state_dict` the next `for` yields the
    batches that were still to come.

    Args:
        dataset: with `__len__`, and `dataset[i]` or `take(indices)`; or an IterableDataset.
            Samples are arrays, numbers, tuples or dicts of them; dicts give batches that are dicts.
        batch_size: samples in a batch, >= 1; default 1, as in PyTorch.
        shuffle: a new order each pass; otherwise the data set's own.
        seed: 0 <= seed < 2**64; None: drawn when a pass begins, where order or transform need one.
        drop_last: leave out a last batch that is not full, so that all have one shape.
        prefetch: batches made early for each worker, >= 0; by one thread if there are no workers.
            None means 2 with workers and 0 without.
        sampler: the order instead of `shuffle`; a BatchSampler also brings the batch size.
        transform: `transform(batch, stream) -> batch` on whole batches, for augmentation.
        workers: how many threads or processes make batches; 0 makes each when it is asked for.
        processes: the workers are processes (forkserver): for data sets whose work is Python.
            They keep a copy of the data set and live from pass to pass until `close`, until a pass
            is left before its end, or until the loader is gone.
        generator: draws the seeds instead of the default generator, a `tt.Generator`.

    Raises:
        SettingError: a setting outside its range; the message names it and the value.

    Cost: up to 2**24 samples one permutation of N numbers each pass, more of them 1 us a sample;
    prefetch * workers + 1 batches of memory.

    Differs from PyTorch: yields NumPy arrays; threads unless asked for processes; `seed`;
    transforms see batches, not samples.

    Example:
        >>> from tinytorch.data import ArrayDataset
        >>> loader = DataLoader(ArrayDataset(np.arange(5)), batch_size=2, shuffle=True, seed=1)
        >>> [batch.tolist() for (batch,) in loader], len(loader)
        ([[3, 2], [0, 1], [4]], 3)
        >>> next(iter(DataLoader([{"x": 1.0, "y": 2}, {"x": 3.0, "y": 4}], 2)))
        {'x': array([1., 3.]), 'y': array([2, 4])}
    """

    def __init__(
        self, dataset: Dataset | IterableDataset, batch_size: int = 1, *, shuffle: bool = False,
        seed: int | None = None, drop_last: bool = False, prefetch: int | None = None,
        sampler: Sampler | BatchSampler | None = None, transform: Transform | None = None,
        workers: int = 0, processes: bool = False, generator: Any = None,
    ):  # fmt: skip
        check_dataset(dataset)
        _check("batch_size", batch_size, 1, 2**31)
        if seed is not None:
            _check("seed", seed, 0, 2**64 - 1)
        _check("workers", workers, 0, 1024)
        prefetch = (2 if workers else 0) if prefetch is None else prefetch
        _check("prefetch", prefetch, 0, 1024)
        self.shuffle = flag("DataLoader", "shuffle", shuffle)
        self.processes = flag("DataLoader", "processes", processes)
        _check_together(dataset, shuffle, sampler, transform, workers, processes, seed, generator)
        if not isinstance(sampler, BatchSampler):
            if sampler is None:
                sampler = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
            drop_last = flag("DataLoader", "drop_last", drop_last)
            sampler = BatchSampler(sampler, batch_size, drop_last)
        self.dataset, self.sampler, self.transform = dataset, sampler, transform
        self.batch_size, self.drop_last = sampler.batch_size, sampler.drop_last
        self.seed, self.workers, self.prefetch = seed, workers, prefetch
        self.generator = generator
        # An order without chance and no transform: nobody needs a seed, and none is drawn.
        self._chance = transform is not None or not isinstance(sampler.sampler, SequentialSampler)
        self._place = Place(seed or 0, 0)  # of the newest pass
        self._given: Place | None = None  # where the next one begins, if that was loaded
        self._pool: Pool | None = None  # kept from pass to pass

    def __len__(self) -> int:
        """Batches in a pass.

        Raises:
            DTypeError: (a TypeError) an IterableDataset has no length.
        """
        if isinstance(self.dataset, IterableDataset):
            raise DTypeError(
                "DataLoader: how many batches there are is not known before they came",
                got=f"len() of a loader of {type(self.dataset).__name__}, an IterableDataset",
                rule="a data set with __len__",
                fix="count the batches, or give the data set __len__ and __getitem__",
            )
        return len(self.sampler)

    @property
    def epoch(self) -> int:
        """Number of the newest pass; of the next one, if that has ended."""
        return self._place.epoch

    @property
    def position(self) -> int:
        """Batches that the newest pass has handed out; 0 if it has ended."""
        return self._place.position

    def order(self, epoch: int) -> np.ndarray:
        """The sample numbers of pass `epoch` in the order they are used, (N,) int64.

        Without a seed of the loader's own: with the seed of the newest pass.
        """
        return self.sampler.sampler.order(self._place.seed, epoch)

    def __iter__(self) -> Pass:
        """A new pass: all batches, or, after `load_state_dict`, those still to come."""
        place, self._given = self._given, None
        if place is None:
            last = self._place
            place = Place(last.seed, last.epoch + last.begun)
            if self.seed is not None:
                place.seed = self.seed
            elif self._chance:
                draw = draw_seed if self.generator is None else self.generator.draw_seed
                place = Place(draw(), 0)
        place.begun = True
        self._place = place
        return Pass(self, place)

    def aside(self) -> DataLoader:
        """A loader of the same batches whose passes leave this one's place as it is."""
        other = copy.copy(self)
        other._place, other._pool = replace(self._place), None
        return other

    def _start(self, make: BatchMaker) -> Pool:
        pool, self._pool = self._pool, None
        if pool is not None:
            return pool
        return (Processes if self.processes else Threads)(make, max(1, self.workers))

    def _keep(self, pool: Pool) -> bool:
        """Whether the workers of a pass that has ended wait for the next."""
        if not self.processes or self._pool is not None:
            return False
        self._pool = pool
        return True

    def close(self) -> None:
        """End the worker processes; the next `for` starts new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def state_dict(self) -> dict[str, int]:
        """The place in the data of the newest pass: whole numbers that can be saved anywhere."""
        return self._state(self._place)

    def _state(self, place: Place) -> dict[str, int]:
        streamed = isinstance(self.dataset, IterableDataset)
        return {
            "seed": place.seed,
            "epoch": place.epoch,
            "position": place.position,
            "batch_size": self.batch_size,
            "samples": 0 if streamed else len(self.sampler.sampler),
            "draws": int(self.seed is None),
            "begun": int(place.begun),
        }

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Let the next `for` begin at a place that `state_dict` gave, with any number of workers.

        Args:
            state: one of an older version has no "draws" and "begun": its seed becomes the
                loader's own.

        Raises:
            SettingError: a number is missing or outside its range, or the place is one of a loader
                with another batch size or another number of samples.
        """
        here = self.state_dict()
        missing = {"seed", "epoch", "position"} - state.keys()
        if missing:
            raise SettingError(
                "DataLoader: this is not a position",
                got=f"{sorted(state)}",
                rule=f"what state_dict gives; {', '.join(sorted(missing))} missing",
                fix="loader.load_state_dict(other_loader.state_dict())",
            )
        older = {"draws": 0, "begun": 1}
        given = {name: _whole(name, state.get(name, {**here, **older}[name])) for name in here}
        for name in ("batch_size", "samples"):
            if given[name] != here[name]:
                raise SettingError(
                    f"DataLoader: the position is one of another {name}",
                    got=f"{name}={given[name]}",
                    rule=f"{name}={here[name]}, as this loader has",
                    fix="the same data set and batch size as when it was saved",
                )
        most = 2**63 if isinstance(self.dataset, IterableDataset) else len(self)
        _check("seed", given["seed"], 0, 2**64 - 1)
        _check("epoch", given["epoch"], 0, 2**64 - 1)
        _check("position", given["position"], 0, most)
        self.seed = None if given["draws"] else given["seed"]
        begun = bool(given["begun"]) or given["position"] > 0
        self._place = Place(given["seed"], given["epoch"], given["position"], begun)
        self._given = self._place if begun or not given["draws"] else None


class Pass:
    """One pass over the data: what `iter(loader)` gives.

    Args:
        loader: whose batches these are.
        place: where it begins; moves on with each batch.
    """

    def __init__(self, loader: DataLoader, place: Place):
        self._loader, self._place = loader, place
        self._batches = _made(loader, place)

    def __iter__(self) -> Pass:
        return self

    def __next__(self) -> Any:
        """The next batch: a tuple of arrays, or a dict."""
        place = self._place
        try:
            batch = next(self._batches)
        except StopIteration:
            if place.begun:
                place.epoch, place.position, place.begun = place.epoch + 1, 0, False
            raise
        place.position += 1
        return batch

    def state_dict(self) -> dict[str, int]:
        """The place of this pass, for `DataLoader.load_state_dict`."""
        return self._loader._state(self._place)

    def close(self) -> None:
        """Leave it before its end; workers end too."""
        self._batches.close()


def _made(loader: DataLoader, place: Place) -> Generator[Any]:
    """The batches from `place` on. A generator: it ends its workers when it is let go."""
    if isinstance(loader.dataset, IterableDataset):
        yield from _streamed(loader, place)
        return
    seed, epoch = place.seed, place.epoch
    jobs = ((seed, epoch, i) for i in range(place.position, len(loader)))
    make = BatchMaker(loader.dataset, loader.sampler, loader.transform)
    if not loader.workers and not loader.prefetch:
        yield from map(make, jobs)
        return
    pool, ended = loader._start(make), False
    try:
        yield from in_order(jobs, pool, loader.prefetch * max(1, loader.workers))
        ended = True
    finally:
        if not (ended and loader._keep(pool)):  # batches are on their way that nobody will take
            pool.close()


def _streamed(loader: DataLoader, place: Place) -> Iterator[Any]:
    """Batches in the order in which samples come; those handed out before are passed over."""
    seed, epoch, size = place.seed, place.epoch, loader.batch_size
    samples = islice(iter(loader.dataset), place.position * size, None)  # type: ignore[arg-type]
    i = place.position
    while batch := list(islice(samples, size)):
        if len(batch) < size and loader.drop_last:
            return
        arrays = stacked(batch)
        transform = loader.transform
        yield arrays if transform is None else transform(arrays, Stream(seed, epoch, i))
        i += 1


def _check_together(
    dataset: Any, shuffle: bool, sampler: Any, transform: Any, workers: int, processes: bool,
    seed: int | None, generator: Any,
) -> None:  # fmt: skip
    """Refuse settings that contradict each other."""
    if processes and not workers:
        raise SettingError(
            "DataLoader: processes without a number",
            got="processes=True, workers=0",
            rule="workers says how many there are",
            fix="DataLoader(..., workers=2, processes=True)",
        )
    if sampler is not None and shuffle:
        raise SettingError(
            "DataLoader: two orders at once",
            got="shuffle=True and a sampler",
            rule="the sampler decides the order",
            fix="DataLoader(dataset, sampler=RandomSampler(dataset))",
        )
    if isinstance(dataset, IterableDataset) and (shuffle or sampler is not None or workers):
        raise SettingError(
            "DataLoader: the samples of an IterableDataset come in their own order, one by one",
            got=f"shuffle={shuffle}, sampler={sampler!r}, workers={workers}",
            rule="none of the three",
            fix="shuffle where the samples are made; or a data set with __len__ and __getitem__",
        )
    if transform is not None and not callable(transform):
        raise SettingError(
            "DataLoader: the transform cannot be called",
            got=f"transform={transform!r}",
            rule="transform(batch, stream) -> batch",
            fix="Compose([first, second]) makes one of several",
        )
    if generator is not None and (seed is not None or not hasattr(generator, "draw_seed")):
        raise SettingError(
            "DataLoader: who draws the seeds?",
            got=f"generator={generator!r}, seed={seed!r}",
            rule="a tt.Generator, or a seed, or neither",
            fix="DataLoader(..., generator=tt.Generator(0))",
        )


def _whole(name: str, value: object) -> int:
    """A number as it comes back from a file: an int, or an array of one."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        _check(name, value, 0, 2**64 - 1)
        raise


def _check(name: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, (int, np.integer)) or not least <= value <= most:
        raise SettingError(
            f"DataLoader: {name} is outside its range",
            got=f"{name}={value!r}",
            rule=f"a whole number, {least} <= {name} <= {most}",
            fix=f"{name}={least}",
        )
