"""A Body: a program as data, lines of rows over numbered values.

Knows rows of the table, arrays and Specs. What is done again and again, or in one case only
(loop.py, branch.py), is a Body; so what is known of its rows (shapes, definition, cost) is known of
it. It prints as Python, and is compared and hashed as that text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tinytorch.primitives.primitive import Array, Primitive, Spec


@dataclass(frozen=True, eq=False)
class Line:
    """One application of a row.

    Args:
        row: the row of the table.
        inputs: numbers of the values it reads.
        params: its static parameters.
    """

    row: Primitive
    inputs: tuple[int, ...]
    params: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Body:
    """What one trip of a loop, or one case of a branch, does.

    Args:
        inputs: shape and number type of what it is given: values 0, 1, ...
        lines: what it computes, in order; the outputs of each are the values that follow.
        results: numbers of the values that it gives.
    """

    inputs: tuple[Spec, ...]
    lines: tuple[Line, ...]
    results: tuple[int, ...]

    @staticmethod
    def of(*inputs: Spec) -> Callable[[Callable[..., Any]], Body]:
        """Decorator: the Body that a function over operands writes down when it is run once.

        >>> import numpy as np
        >>> from tinytorch.base.dtypes import float64
        >>> from tinytorch.primitives.elementwise import add
        >>> @Body.of(Spec((2,), float64))
        ... def doubled(x):
        ...     return add(x, x)
        >>> doubled(np.array([1.0, 2.0]))
        (array([2., 4.]),)
        """

        def decorate(function: Callable[..., Any]) -> Body:
            lines: list[Line] = []
            specs = list(inputs)
            _written_down.append((lines, specs))
            try:
                out = function(*(_Symbol(lines, specs, i) for i in range(len(inputs))))
            finally:
                _written_down.pop()
            return Body(inputs, tuple(lines), tuple(x.number for x in _several(out)))

        return decorate

    @cached_property
    def made(self) -> tuple[tuple[Spec, ...], ...]:
        """Shape and number type of the outputs of each line."""
        known, made = list(self.inputs), list[tuple[Spec, ...]]()
        for line in self.lines:
            made.append(_several(line.row.infer(*(known[i] for i in line.inputs), **line.params)))
            known += made[-1]
        return tuple(made)

    @cached_property
    def specs(self) -> tuple[Spec, ...]:
        """Shape and number type of every value."""
        return (*self.inputs, *(spec for outs in self.made for spec in outs))

    @property
    def outputs(self) -> tuple[Spec, ...]:
        """Shape and number type of what it gives."""
        return tuple(self.specs[i] for i in self.results)

    @property
    def flops(self) -> int:
        """Arithmetic operations of one run."""
        ins = ([self.specs[i] for i in line.inputs] for line in self.lines)
        given = zip(self.lines, ins, self.made, strict=True)
        return sum(line.row.flops(ins, outs, **line.params) for line, ins, outs in given)

    def __call__(self, *arrays: Array) -> tuple[Array, ...]:
        """The definition, on stored arrays (bfloat16 as uint16)."""
        held = list(arrays)
        for line in self.lines:
            dtypes = tuple(self.specs[i].dtype for i in line.inputs)
            inputs = tuple(held[i] for i in line.inputs)
            held += _several(line.row.evaluate(inputs, dtypes, line.params))
        return tuple(held[i] for i in self.results)

    def written(self, name: str) -> list[str]:
        """The lines of a Python function over the rows, which `of` makes this Body of again."""
        names = [f"a{i}" for i in range(len(self.inputs))]
        text = [f"@Body.of({', '.join(map(repr, self.inputs))})"]
        text.append(f"def {name}({', '.join(names)}):")
        for line, made in zip(self.lines, self.made, strict=True):
            outs = [f"v{len(names) - len(self.inputs) + i}" for i in range(len(made))]
            bodies, params = params_written(line.params, f"{name}_{outs[0]}")
            text += ["    " + inner for inner in bodies]
            call = ", ".join([*(names[n] for n in line.inputs), *params])
            text.append(f"    {', '.join(outs)} = {line.row.name}({call})")
            names += outs
        return [*text, f"    return {', '.join(names[i] for i in self.results) or '()'}"]

    def reads(self, results: Sequence[int]) -> set[int]:
        """Numbers of the values that these are computed from, their own among them."""
        needed, at = set(results), len(self.specs)
        for line, made in zip(reversed(self.lines), reversed(self.made), strict=True):
            at -= len(made)
            if not needed.isdisjoint(range(at, at + len(made))):
                needed.update(line.inputs)
        return needed

    def part(self, inputs: Sequence[int], results: Sequence[int]) -> Body:
        """The Body that is given these inputs alone, and gives these values alone."""
        needed, at = self.reads(results), len(self.inputs)
        number = {old: new for new, old in enumerate(inputs)}
        lines: list[Line] = []
        for line, made in zip(self.lines, self.made, strict=True):
            own = range(at, at + len(made))
            at += len(made)
            if not needed.isdisjoint(own):
                lines.append(Line(line.row, tuple(number[i] for i in line.inputs), line.params))
                number.update(zip(own, range(len(number), len(number) + len(own)), strict=True))
        specs = tuple(self.inputs[i] for i in inputs)
        return Body(specs, tuple(lines), tuple(number[i] for i in results))

    @cached_property
    def rows(self) -> tuple[Primitive, ...]:
        """The rows that it applies, those of Bodies inside it too, each once."""
        found = dict.fromkeys(line.row for line in self.lines)
        for inner in (p for line in self.lines for p in line.params.values()):
            if isinstance(inner, Body):
                found.update(dict.fromkeys(inner.rows))
        return tuple(found)

    @cached_property
    def _text(self) -> str:
        return "\n".join(self.written("body"))

    def __repr__(self) -> str:
        return self._text


def params_written(params: dict[str, Any], name: str) -> tuple[list[str], list[str]]:
    """Parameters as they are written in a call: (lines that come before it, "key=value" each).

    Args:
        name: of the function that is written before the call for a Body; of several Bodies it is
            followed by their keys.
    """
    before: list[str] = []
    written: list[str] = []
    for key, value in params.items():
        if isinstance(value, Body):
            own = name if key == "body" else f"{name}_{key}"
            before += value.written(own)
            written.append(f"{key}={own}")
        else:
            written.append(f"{key}={value!r}")
    return before, written


def _several(out: Any) -> tuple[Any, ...]:
    return out if out.__class__ is tuple else (out,)


_written_down: list[tuple[list[Line], list[Spec]]] = []  # by `Body.of`, the innermost last


def in_bodies(row: Primitive) -> Callable[..., Any]:
    """A row without operands as a function that `Body.of` can write down where it is called."""

    def call(**params: Any) -> Any:
        if not _written_down:
            return row(**params)
        return _line(*_written_down[-1], row, (), params)

    return call


def _line(
    lines: list[Line], specs: list[Spec], row: Primitive, inputs: tuple[int, ...],
    params: dict[str, Any],
) -> Any:  # fmt: skip
    """Write one line; gives what stands for its outputs."""
    out: Any = row.infer(*(specs[i] for i in inputs), **params)
    lines.append(Line(row, inputs, params))
    first = len(specs)
    specs += _several(out)
    made = tuple(_Symbol(lines, specs, i) for i in range(first, len(specs)))
    return made if isinstance(out, tuple) else made[0]


class _Symbol:
    """An operand without numbers: a row that is applied to it writes a line."""

    def __init__(self, lines: list[Line], specs: list[Spec], number: int):
        self.lines, self.specs, self.number = lines, specs, number

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        return self.specs[self.number].shape

    @property
    def dtype(self) -> Any:
        """Its number type."""
        return self.specs[self.number].dtype

    @staticmethod
    def __primitive__(row: Primitive, operands: Sequence[_Symbol], params: dict[str, Any]) -> Any:
        inputs = tuple(x.number for x in operands)
        return _line(operands[0].lines, operands[0].specs, row, inputs, params)
