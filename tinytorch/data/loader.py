"""Batches of a data set, in an order that depends on the seed and the epoch alone.

Knows sample numbers and NumPy arrays, never a model.
"""

from __future__ import annotations

import operator
import weakref
from collections.abc import Iterator, Mapping

import numpy as np

from tinytorch.base import checks
from tinytorch.base.errors import SettingError
from tinytorch.data.augmentation import Transform
from tinytorch.data.dataset import Dataset
from tinytorch.data.processes import Processes
from tinytorch.data.samplers import BatchSampler, RandomSampler, Sampler, SequentialSampler
from tinytorch.data.samples import check_dataset, take
from tinytorch.data.stream import Stream
from tinytorch.data.threads import Job, Pool, Threads, in_order


class BatchMaker:
    """What makes a batch, from its job alone: so any worker makes the same.

    Args:
        dataset: where samples come from.
        batches: which sample numbers a batch has.
        transform: applied to each batch, or None.
    """

    def __init__(self, dataset: Dataset, batches: BatchSampler, transform: Transform | None):
        self.dataset, self.batches, self.transform = dataset, batches, transform

    def __call__(self, job: Job) -> tuple[np.ndarray, ...]:
        """The arrays of batch `i` of an epoch."""
        seed, epoch, i = job
        arrays = take(self.dataset, self.batches.batch(i, seed, epoch))
        return arrays if self.transform is None else self.transform(arrays, Stream(*job))


class DataLoader:
    """Goes through a data set in batches; each `for` over it is one epoch.

    Batch i of epoch e is made from (seed, e, i) alone, its order and its augmentation: the same on
    every machine, with any number of workers and after a restart. `state_dict` holds the position,
    also in the middle of an epoch: after `load_state_dict` the next `for` yields the batches that
    were still to come. So does the next `for` after a `break`.

    Args:
        dataset: with `__len__`, and `take(indices)` or `dataset[i]`.
        batch_size: samples in a batch, >= 1.
        shuffle: a new order each epoch; otherwise the data set's own.
        seed: 0 <= seed < 2**64.
        drop_last: leave out a last batch that is not full, so that all have one shape.
        prefetch: batches made early for each worker, >= 0; by one thread if there are no workers.
            None means 2 with workers and 0 without.
        sampler: the order instead of `shuffle`; a BatchSampler also brings the batch size.
        transform: `transform(batch, stream) -> batch` on whole batches, for augmentation.
        workers: how many threads or processes make batches; 0 makes each when it is asked for.
        processes: the workers are processes (forkserver): for data sets whose work is Python.
            They keep a copy of the data set and live until `close`, or until the loader is gone.

    Raises:
        SettingError: a setting outside its range; the message names it and the value.

    Cost: one permutation of N numbers each epoch; prefetch * workers + 1 batches of memory.

    Differs from PyTorch: yields NumPy arrays; threads unless asked for processes; `seed` in place
    of a generator; transforms see batches, not samples; a `break` is a pause, not an end.

    Example:
        >>> from tinytorch.data import ArrayDataset
        >>> loader = DataLoader(ArrayDataset(np.arange(5)), batch_size=2, shuffle=True, seed=1)
        >>> [batch.tolist() for (batch,) in loader], len(loader)
        ([[3, 2], [0, 1], [4]], 3)
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 32,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        prefetch: int | None = None,
        sampler: Sampler | BatchSampler | None = None,
        transform: Transform | None = None,
        workers: int = 0,
        processes: bool = False,
    ):
        check_dataset(dataset)
        _check("batch_size", batch_size, 1, 2**31)
        _check("seed", seed, 0, 2**64 - 1)
        _check("workers", workers, 0, 1024)
        prefetch = (2 if workers else 0) if prefetch is None else prefetch
        _check("prefetch", prefetch, 0, 1024)
        self.shuffle = checks.flag("DataLoader", "shuffle", shuffle)
        self.processes = checks.flag("DataLoader", "processes", processes)
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
        if transform is not None and not callable(transform):
            raise SettingError(
                "DataLoader: the transform cannot be called",
                got=f"transform={transform!r}",
                rule="transform(batch, stream) -> batch",
                fix="Compose([first, second]) makes one of several",
            )
        if sampler is None:
            sampler = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
        if not isinstance(sampler, BatchSampler):
            sampler = BatchSampler(
                sampler, batch_size, checks.flag("DataLoader", "drop_last", drop_last)
            )
        self.dataset, self.sampler, self.transform = dataset, sampler, transform
        self.batch_size, self.drop_last = sampler.batch_size, sampler.drop_last
        self.seed, self.workers, self.prefetch = seed, workers, prefetch
        self.epoch = 0  # epochs finished
        self.position = 0  # batches of the present epoch that were handed out
        self._pool: Pool | None = None  # kept from epoch to epoch

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.sampler)

    def order(self, epoch: int) -> np.ndarray:
        """The sample numbers of epoch `epoch` in the order they are used, (N,) int64."""
        return self.sampler.sampler.order(self.seed, epoch)

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        """The batches of the present epoch that are still to come."""
        for batch in self._batches():
            self.position += 1
            yield batch
        self.epoch, self.position = self.epoch + 1, 0

    def _batches(self) -> Iterator[tuple[np.ndarray, ...]]:
        jobs = [(self.seed, self.epoch, i) for i in range(self.position, len(self))]
        make = BatchMaker(self.dataset, self.sampler, self.transform)
        if not self.workers and not self.prefetch:
            yield from map(make, jobs)
            return
        pool, self._pool = self._pool or self._start(make), None
        ended = False
        try:
            yield from in_order(jobs, pool, self.prefetch * max(1, self.workers))
            ended = True
        finally:
            if ended and self._pool is None and self.processes:
                self._pool = pool
            else:  # batches are on their way that nobody will take
                pool.close()

    def _start(self, make: BatchMaker) -> Pool:
        kind = Processes if self.processes else Threads
        pool = kind(make, max(1, self.workers))
        if self.processes:
            weakref.finalize(self, pool.close)
        return pool

    def close(self) -> None:
        """End the worker processes; the next `for` starts new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def state_dict(self) -> dict[str, int]:
        """The position in the data: whole numbers that can be saved anywhere."""
        return {
            "seed": self.seed,
            "epoch": self.epoch,
            "position": self.position,
            "batch_size": self.batch_size,
            "samples": len(self.sampler.sampler),
        }

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go to a position that `state_dict` gave, with any number of workers.

        Raises:
            SettingError: a number is missing or outside its range, or the position is one of a
                loader with another batch size or another number of samples.
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
        given = {name: _whole(name, state.get(name, here[name])) for name in here}
        for name in ("batch_size", "samples"):
            if given[name] != here[name]:
                raise SettingError(
                    f"DataLoader: the position is one of another {name}",
                    got=f"{name}={given[name]}",
                    rule=f"{name}={here[name]}, as this loader has",
                    fix="the same data set and batch size as when it was saved",
                )
        _check("seed", given["seed"], 0, 2**64 - 1)
        _check("epoch", given["epoch"], 0, 2**64 - 1)
        _check("position", given["position"], 0, len(self))
        self.seed, self.epoch, self.position = given["seed"], given["epoch"], given["position"]


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
