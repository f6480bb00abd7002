"""Arrays that stay in their files: the system reads what is touched, and may forget it again.

Knows files of records of one size; never what a record means.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinytorch.base.errors import FileFormatError, IndexRangeError


class MappedArray:
    """Records of one size in one or more files, read by their numbers as an array is.

    Only whole entries of axis 0 are read: `x[5]`, `x[2:9]`, `x[indices]`, `x[mask]` give new arrays
    in memory. Sent to another process it travels as file names, and is opened there.

    Args:
        paths: the files, one after the other along axis 0.
        dtype: of a number, or a structured type of a record with fields.
        shape: of a record, () for one number.
        offset: bytes before the first record of each file.
        field: of a structured type, which field the array has.

    Raises:
        FileFormatError: a file does not hold a whole number of records, or none.
        OSError: a file cannot be read.

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
        self,
        paths: Sequence[str | os.PathLike[str]],
        dtype: np.dtype | type,
        shape: tuple[int, ...] = (),
        offset: int = 0,
        field: str | None = None,
    ):
        self.paths = [Path(p).absolute() for p in paths]
        self._record, self._shape = np.dtype(dtype), tuple(shape)
        self._offset, self._field = offset, field
        size = self._record.itemsize * math.prod(shape)
        counts = [_records(path, size, offset) for path in self.paths]
        self._ends = np.cumsum(counts)
        one = self._record if field is None else self._record[field]
        self.dtype = one.base
        self.shape = (int(self._ends[-1]), *self._shape, *one.shape)
        self._maps: dict[int, np.ndarray] = {}

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
        numbers = np.where(numbers < 0, numbers + len(self), numbers)
        which = np.searchsorted(self._ends, numbers, side="right")
        out = np.empty((len(numbers), *self.shape[1:]), self.dtype)
        for i in np.unique(which):
            here = which == i
            start = self._ends[i - 1] if i else 0
            out[here] = self._map(int(i))[numbers[here] - start]
        return out

    def _map(self, i: int) -> np.ndarray:
        if i not in self._maps:
            start = int(self._ends[i - 1]) if i else 0
            shape = (int(self._ends[i]) - start, *self._shape)
            whole = np.memmap(self.paths[i], self._record, "r", self._offset, shape)
            self._maps[i] = whole if self._field is None else whole[self._field]
        return self._maps[i]


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
    try:
        # The header alone is read here; a memory map refuses files that are too short.
        whole = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError) as error:
        raise _not_records(path, error, "what numpy.save writes for numbers") from None
    if not whole.ndim or not whole.flags.c_contiguous:
        raise _not_records(path, f"shape {whole.shape}", "C order and at least one axis")
    offset, count = whole.offset, len(whole)
    mapped = MappedArray([path], whole.dtype, whole.shape[1:], offset)
    if len(mapped) != count:
        raise _not_records(path, f"{len(mapped)} records", f"{count}, as the header says")
    return mapped


def _records(path: Path, size: int, offset: int) -> int:
    length = path.stat().st_size - offset
    if length <= 0 or size == 0 or length % size:
        raise _not_records(path, f"{length} bytes", f"a multiple of {size}, at least one record")
    return length // size


def _not_records(path: Path, got: object, rule: str) -> FileFormatError:
    return FileFormatError(
        f"{path.name} does not hold a whole number of records",
        got=got,
        rule=rule,
        fix=f"fetch or write {path} again",
    )
