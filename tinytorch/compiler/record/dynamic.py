"""`dynamic_shapes` of `tt.compile`: which axes of which arguments are lengths that differ by call.

Knows dims, signatures and arrays, never graphs. At each call the length of every dim is read from
the arrays, checked, and given to the program as a number of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from tinytorch.base.errors import SettingError, ShapeError
from tinytorch.base.lengths import Dim, Length
from tinytorch.compiler.record.objects import asked, is_a
from tinytorch.tensor.tensor import Tensor

_EXAMPLE = 'tt.compile(f, dynamic_shapes={"x": (None, tt.dim("T", max=1024))})'


@dataclass(eq=False)
class DynamicLengths:
    """What a call's arrays say of the dims.

    Args:
        lengths: how long each dim is, in the order in which they were declared.
        shapes: by id of an array: its shape with the dims in it, and with their Lengths in it.
    """

    lengths: dict[Dim, int] = field(default_factory=dict[Dim, int])
    shapes: dict[int, tuple[tuple[Any, ...], tuple[Any, ...]]] = field(
        default_factory=dict[int, "tuple[tuple[Any, ...], tuple[Any, ...]]"]
    )

    @property
    def arrays(self) -> list[np.ndarray]:
        """The lengths as the program is given them: 0-d int64."""
        return [np.array(n, np.int64) for n in self.lengths.values()]


class DynamicShapes:
    """The axes that were declared.

    Args:
        fn: the function that is compiled.
        declared: for each argument, by name: for an array a tuple with a Dim or None for each axis
            (axes left out at the end are None), or a dict of axis to Dim; None: nothing. For a
            tuple, list or dict of arrays, and for `*args`, one of these for each of them.
    """

    def __init__(self, fn: Callable[..., Any], declared: Any):
        if not is_a(declared, dict):
            self._refuse(declared)
        named: dict[Any, Any] = declared
        target = fn if inspect.isroutine(fn) else asked(fn, "forward", fn)
        try:
            parameters = inspect.signature(target).parameters
        except (TypeError, ValueError):
            self._refuse(f"{fn!r}, whose arguments have no names")
        unknown = [name for name in named if name not in parameters]
        if unknown:
            self._refuse(f"{unknown[0]!r}, among the arguments {', '.join(parameters)}")
        self.dims: dict[Dim, Length] = {}
        self.places: list[tuple[int, str, bool, Any]] = []  # position, name, *args, what is said
        for i, (name, parameter) in enumerate(parameters.items()):
            said = named.get(name)
            if said is not None:
                several = parameter.kind is parameter.VAR_POSITIONAL
                alone = parameter.kind is parameter.KEYWORD_ONLY
                self.places.append((-1 if alone else i, name, several, said))
                self._learn(said)
        if not self.dims:
            self._refuse("no dim at all")

    def _refuse(self, got: Any) -> NoReturn:
        raise SettingError(
            "compile: dynamic_shapes does not say which axes have which length",
            got=got if isinstance(got, str) else repr(got),
            rule="a dict of argument names to tuples with a dim or None for each axis",
            fix=_EXAMPLE,
        )

    def _learn(self, said: Any) -> None:
        if isinstance(said, Dim):
            if any(d is not said and d.name == said.name for d in self.dims):
                self._refuse(f"two dims named {said.name!r}")
            self.dims.setdefault(said, Length.of(said))
        elif is_a(said, (tuple, list, dict)):
            for part in said.values() if is_a(said, dict) else said:
                self._learn(part)
        elif said is not None:
            self._refuse(said)

    def find(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> DynamicLengths:
        """The lengths of a call.

        Raises:
            ShapeError: an array without such an axis, a length outside its bounds, or two arrays
                that disagree about one.
        """
        found = DynamicLengths(dict.fromkeys(self.dims, -1))
        seen: dict[Dim, str] = {}
        for position, name, several, said in self.places:
            if several:
                given: Any = tuple(args[position:])
            elif 0 <= position < len(args):
                given = args[position]
            else:
                given = kwargs.get(name)
            self._look(name, given, said, found, seen)
        for dim, n in found.lengths.items():
            if n < 0:
                raise ShapeError(
                    f"the length {dim.name} is on no array of this call",
                    got="arguments: " + ", ".join(name for _, name, _, _ in self.places),
                    rule="dynamic_shapes names an axis of an array that is given",
                    fix=_EXAMPLE,
                )
        return found

    def _look(
        self, name: str, given: Any, said: Any, found: DynamicLengths, seen: dict[Dim, str]
    ) -> None:
        if said is None or given is None:
            return
        if is_a(given, (Tensor, np.ndarray)):
            self._look_at(name, given, said, found, seen)
        elif is_a(given, (tuple, list)) and is_a(said, (tuple, list)):
            for i, (x, part) in enumerate(zip(given, said, strict=False)):
                self._look(f"{name}[{i}]", x, part, found, seen)
        elif is_a(given, dict) and is_a(said, dict):
            for key, part in said.items():
                self._look(f"{name}[{key!r}]", given.get(key), part, found, seen)
        else:
            self._refuse(f"{name}: {type(given).__name__}, for {said!r}")

    def _look_at(
        self, name: str, given: Any, said: Any, found: DynamicLengths, seen: dict[Dim, str]
    ) -> None:
        shape = tuple(given.shape)
        pairs: Any = said.items() if is_a(said, dict) else enumerate(said)
        dims: list[Any] = list(shape)
        lengths: list[Any] = list(shape)
        for axis, dim in pairs:
            if dim is None:
                continue
            if not isinstance(axis, int) or not -len(shape) <= axis < len(shape):
                raise ShapeError(
                    f"{name} has no axis {axis}, which dynamic_shapes says is {dim.name}",
                    got=f"{name} {shape}",
                    rule="one entry for each axis",
                    fix=_EXAMPLE,
                )
            n = shape[axis]
            if not dim.min <= n <= dim.max:
                raise ShapeError(
                    f"{name} is too {'long' if n > dim.max else 'short'} along axis {axis}",
                    got=f"{name} {shape}: {dim.name} = {n}",
                    rule=f"{dim.min} <= {dim.name} <= {dim.max}",
                    fix=f'tt.dim("{dim.name}", max={max(n, dim.max)}'
                    + (f", min={min(n, dim.min)})" if n < dim.min else ")"),
                )
            before = found.lengths[dim]
            if before not in (-1, n):
                raise ShapeError(
                    f"two arrays disagree about the length {dim.name}",
                    got=f"{seen[dim]} has {before}, {name} {shape} has {n} along axis {axis}",
                    rule="one dim is one length in each call",
                    fix="another dim for one of them, if they may differ",
                )
            found.lengths[dim] = n
            seen.setdefault(dim, name)
            dims[axis], lengths[axis] = dim, self.dims[dim]
        shapes = (tuple(dims), tuple(lengths))
        found.shapes[id(given)] = shapes
        node = getattr(given, "_node", None)
        gradient = getattr(node, "grad", None)
        if gradient is not None and tuple(gradient.shape) == shape:
            found.shapes[id(gradient)] = shapes
