"""Arrays that stay in their files: the system reads what is touched, and may forget it again.

Knows files of records of one size; never what a record means.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import BinaryIO

import numpy as np

from tinytorch.base import files
from tinytorch.base.errors import FileFormatError, IndexRangeError

MOST_AXES = 64  # NumPy's limit


class MappedArray:
    """Records of one size in one or more files, read by their numbers as an array is.

    Only whole entries of axis 0 are read: `x[5]`, `x[2:9]`, `x[indices]`, `x[mask]` give new arrays
    in memory. Sent to another process it travels as file names, and is opened there; a file that
    has changed meanwhile is refused.

    Args:
        paths: the files, one after the other along axis 0.
        dtype: of a number, or a structured type of a record with fields.
        shape: of a record, () for one number.
        offset: bytes before the first record of each file.
        field: of a structured type, which field the array has.

    Raises:
        FileFormatError: a file does not hold a whole number of records, or none.
        StorageError: a file cannot be read; a NotFoundError if it is not there.

    Cost: no memory of its own; a read touches the pages of its records.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     _ = file.write(bytes(range(6))), file.flush()
        ...     x = MappedArray([file.name], np.uint8, (2,))
        ...     x.shape, x[[2, 0]].tolist()
        ((3, 2), [[4, 5], [0, 1]])
    """

    def __init__(
        self, paths: Sequence[str | os.PathLike[str]], dtype: np.dtype | type,
        shape: tuple[int, ...] = (), offset: int = 0, field: str | None = None,
    ):  # fmt: skip
        self.paths = [Path(p).absolute() for p in paths]
        self._record, self._shape = np.dtype(dtype), tuple(shape)
        self._offset = offset
        size = self._record.itemsize * math.prod(shape)
        if len(self._shape) + self._record.ndim >= MOST_AXES:
            got, rule = f"records of {len(shape)} axes", f"at most {MOST_AXES} axes in all"
            raise _not_records(self.paths[0], got, rule)
        self._maps: dict[int, mmap.mmap] = {}
        self._facts = []  # of each file: bytes, time of its last change
        for path in self.paths:
            with files.reading(path, links=True) as file:
                self._facts.append(_facts(file))
            _check_records(path, self._facts[-1][0] - offset, size)
        self._ends = np.cumsum([(facts[0] - offset) // size for facts in self._facts])
        self._first = 0  # the record that has number 0
        self._choose(field, int(self._ends[-1]))

    def _choose(self, field: str | None, length: int) -> None:
        self._field = field
        one = self._record if field is None else self._record[field]
        self.dtype = one.base
        self.shape = (length, *self._shape, *one.shape)

    def field(self, name: str) -> MappedArray:
        """One field of the records, out of the same openings of the files."""
        other = self._again()
        other._choose(name, len(self))
        return other

    def part(self, start: int, stop: int) -> MappedArray:
        """Some of the records, left where they are: `x[start:stop]` would read them.

        Args:
            start, stop: 0 <= start < stop <= len(self).

        Raises:
            IndexRangeError: there are no such records.
        """
        if not 0 <= start < stop <= len(self):
            raise IndexRangeError(
                "a part of an array begins and ends in it",
                got=f"{start} to {stop}",
                rule=f"0 <= start < stop <= {len(self)}",
                fix=f"x.part(0, {len(self)})",
            )
        other = self._again()
        other._first += start
        other._choose(self._field, stop - start)
        return other

    def _again(self) -> MappedArray:
        other = object.__new__(MappedArray)
        other.__dict__.update(self.__dict__)
        return other

    def contents(self, i: int) -> memoryview:
        """The bytes of file `i`, as they are mapped here."""
        return memoryview(self._map(i))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_maps": {}}

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype)

    def __getitem__(self, index) -> np.ndarray:
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        numbers = np.asarray(index)
        if numbers.dtype == bool:
            numbers = np.flatnonzero(numbers)
        out = self._take(np.atleast_1d(numbers).astype(np.int64))
        return out if numbers.ndim else out[0]

    def _take(self, numbers: np.ndarray) -> np.ndarray:
        wrong = (numbers < -len(self)) | (numbers >= len(self))
        if wrong.any():
            raise IndexRangeError(
                "there is no record of that number",
                got=int(numbers[wrong][0]),
                rule=f"{-len(self)} <= index < {len(self)}",
                fix=f"x[{len(self) - 1}] is the last",
            )
        numbers = np.where(numbers < 0, numbers + len(self), numbers) + self._first
        which = np.searchsorted(self._ends, numbers, side="right")
        out = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        for i in np.unique(which):
            here = which == i
            start = self._ends[i - 1] if i else 0
            out[here] = self._records(int(i))[numbers[here] - start]
        return out

    def _records(self, i: int) -> np.ndarray:
        start = int(self._ends[i - 1]) if i else 0
        shape = (int(self._ends[i]) - start, *self._shape)
        whole = np.ndarray(shape, self._record, self._map(i), self._offset)
        return whole if self._field is None else whole[self._field]

    def _map(self, i: int) -> mmap.mmap:
        if i not in self._maps:
            self._maps[i] = self._opened(i)
        return self._maps[i]

    def _opened(self, i: int) -> mmap.mmap:
        """The bytes of file `i`; the file must be as it was when it was first opened."""
        path = self.paths[i]
        with files.reading(path, links=True) as file:
            facts = _facts(file)
            if facts != self._facts[i]:
                raise FileFormatError(
                    f"{path.name} was changed",
                    got=f"{path}, {facts[0]} bytes, now",
                    rule=f"the file as it was first opened, {self._facts[i][0]} bytes",
                    fix="load the data again",
                )
            return mmap.mmap(file.fileno(), facts[0], access=mmap.ACCESS_READ)


def map_npy(path: str | os.PathLike[str]) -> MappedArray:
    """The array in a `.npy` file, left there.

    Args:
        path: a file that `numpy.save` wrote, of numbers, in C order, with at least one axis.

    Returns:
        the array, for `ArrayDataset`.

    Raises:
        FileFormatError: the file is not such a file, is truncated, or holds Python objects (which
            would have to be executed).
    """
    path = Path(path)
    with files.reading(path, links=True) as file:
        try:
            version = np.lib.format.read_magic(file)
            header = {(1, 0): np.lib.format.read_array_header_1_0,
                      (2, 0): np.lib.format.read_array_header_2_0}.get(version)  # fmt: skip
            if header is None:
                raise ValueError(f"version {version}")
            found, fortran, dtype = header(file)
            shape = list(found)
        except Exception as error:  # NumPy reads it as Python, whose reader fails in many ways
            raise _not_records(path, error, "what numpy.save writes for numbers") from None
        offset = file.tell()
    if dtype.hasobject:
        raise _not_records(path, "Python objects", "what numpy.save writes for numbers")
    if not shape or (fortran and len(shape) > 1) or min(shape) < 0:
        raise _not_records(path, f"shape {found}", "C order and at least one axis")
    mapped = MappedArray([path], dtype, tuple(shape[1:]), offset)
    if len(mapped) != shape[0]:
        raise _not_records(path, f"{len(mapped)} records", f"{shape[0]}, as the header says")
    return mapped


def _facts(file: BinaryIO) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


def _check_records(path: Path, length: int, size: int) -> None:
    if length <= 0 or size == 0 or length % size:
        raise _not_records(path, f"{length} bytes", f"a multiple of {size}, at least one record")


def _not_records(path: Path, got: object, rule: str) -> FileFormatError:
    return FileFormatError(
        f"{path.name} does not hold a whole number of records",
        got=got,
        rule=rule,
        fix=f"fetch or write {quote(str(path))} again",
    )
