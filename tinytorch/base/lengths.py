"""Lengths that are known only when a program runs: `tt.dim("T", max=1024)` and sums made of them.

Knows whole numbers with names and bounds, never tensors or programs. Inside a compiled function the
size of an axis that was declared with a dim is a `Length`: it can be added to, multiplied, written
into shapes. What Python would have to decide now (`if T > 5`, `range(T)`) is refused, unless it is
the same for every length within the bounds.
"""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from tinytorch.base.errors import LengthError, SettingError

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_FIX = (
    "compute with tensors (tt.where, tt.arange(T)), narrow the bounds (tt.dim(..., min=2)), or "
    "leave the axis out of dynamic_shapes: then each length is a program"
)


class Dim:
    """A length with a name: see `dim`."""

    def __init__(self, name: str, max: int, min: int = 1):
        self.name, self.max, self.min = name, max, min

    def __repr__(self) -> str:
        least = "" if self.min == 1 else f", min={self.min}"
        return f"dim({self.name!r}, max={self.max}{least})"


def dim(name: str, max: int, *, min: int = 1) -> Dim:
    """A length that differs from call to call, up to a bound; for `tt.compile(dynamic_shapes=...)`.

    One program is compiled for all of them. Inside the function the length stands for itself: in
    shapes, positions and arithmetic; Python cannot decide on it.

    Args:
        name: for messages and printed programs; an identifier.
        max: the greatest length, at least 1; the program's memory is planned for it.
        min: the least length, from 0 to max; default 1. A greater one lets more Python be decided:
            with min=2, `if T > 1` is.

    Raises:
        SettingError: not a name, or bounds out of their range.

    Differs from torch.export.Dim: max has no default, since memory is planned for it.

    Example:
        >>> import tinytorch as tt
        >>> T = tt.dim("T", max=1024)
        >>> mean = tt.compile(lambda x: x.mean(0), dynamic_shapes={"x": (T,)})
        >>> mean(tt.tensor([1.0, 2.0])).item(), mean(tt.tensor([1.0, 2.0, 6.0])).item()
        (1.5, 3.0)
    """
    least, most = min, max
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in (least, most))
    if not isinstance(name, str) or not name.isidentifier() or not whole:
        raise SettingError(
            "dim: this is no length",
            got=f"name={name!r}, max={most!r}, min={least!r}",
            rule="a name that is an identifier, and whole numbers",
            fix='tt.dim("T", max=1024)',
        )
    if not 0 <= least <= most or most < 1:
        raise SettingError(
            "dim: the bounds are outside their range",
            got=f"{name}: min={least}, max={most}",
            rule="0 <= min <= max, max >= 1",
            fix=f'tt.dim("{name}", max={most if most > 0 else 1024})',
        )
    return Dim(name, most, least)


class Quotient:
    """floor(length / by) where the division may leave a rest; one factor of a Length."""

    def __init__(self, length: Length, by: int):
        self.length, self.by = length, by

    @property
    def name(self) -> str:
        """As it is printed."""
        return f"({self.length} // {self.by})"

    @property
    def max(self) -> int:
        """Its greatest value."""
        return self.length.high // self.by

    @property
    def min(self) -> int:
        """Its least value."""
        return self.length.low // self.by

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quotient) and (self.length.terms, self.by) == (
            other.length.terms, other.by,
        )  # fmt: skip

    def __hash__(self) -> int:
        return hash((self.name, self.by))


Factor = Dim | Quotient
Terms = dict[tuple[Factor, ...], int]  # factors that are multiplied -> how often; they are added up


def _terms_of(x: Any) -> Terms | None:
    if isinstance(x, Length):
        return x.terms
    if isinstance(x, bool) or not hasattr(x, "__index__"):
        return None
    whole = operator.index(x)
    return {(): whole} if whole else {}


def _made(terms: Terms) -> Any:
    """A Length, or a plain number where nothing of it is unknown."""
    terms = {factors: n for factors, n in terms.items() if n}
    if not terms:
        return 0
    return terms[()] if set(terms) == {()} else Length(terms)


class LengthNumber:
    """A number computed of lengths, a float in the end: `1.0 / T`. See `Length`.

    Args:
        operation: a name of Python's `operator` module.
        parts: its operands: numbers, Lengths, LengthNumbers.
    """

    __slots__ = ("operation", "parts")
    __array_ufunc__ = None  # NumPy numbers leave arithmetic to it

    def __init__(self, operation: str = "", parts: tuple[Any, ...] = ()):
        self.operation, self.parts = operation, parts

    def at(self, lengths: Mapping[Dim, int]) -> Any:
        """Its value for these lengths."""
        return getattr(operator, self.operation)(*(value_at(p, lengths) for p in self.parts))

    def _with(self, operation: str, *parts: Any) -> Any:
        if all(isinstance(p, (int, float, LengthNumber)) for p in parts):
            return LengthNumber(operation, parts)
        return NotImplemented

    def __add__(self, other: Any) -> Any:
        return self._with("add", self, other)

    def __radd__(self, other: Any) -> Any:
        return self._with("add", other, self)

    def __sub__(self, other: Any) -> Any:
        return self._with("sub", self, other)

    def __rsub__(self, other: Any) -> Any:
        return self._with("sub", other, self)

    def __mul__(self, other: Any) -> Any:
        return self._with("mul", self, other)

    def __rmul__(self, other: Any) -> Any:
        return self._with("mul", other, self)

    def __truediv__(self, other: Any) -> Any:
        return self._with("truediv", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._with("truediv", other, self)

    def __pow__(self, other: Any) -> Any:
        return self._with("pow", self, other)

    def __rpow__(self, other: Any) -> Any:
        return self._with("pow", other, self)

    def __neg__(self) -> Any:
        return self._with("neg", self)

    def __float__(self) -> float:
        self._refuse("float()")

    def __int__(self) -> int:
        self._refuse("int()")

    def __bool__(self) -> bool:
        return bool(self._decided("!=", 0))

    def __lt__(self, other: Any) -> Any:
        return self._decided("<", other)

    def __le__(self, other: Any) -> Any:
        return self._decided("<=", other)

    def __gt__(self, other: Any) -> Any:
        return self._decided(">", other)

    def __ge__(self, other: Any) -> Any:
        return self._decided(">=", other)

    def __eq__(self, other: Any) -> Any:
        return self._decided("==", other)

    def __ne__(self, other: Any) -> Any:
        return self._decided("!=", other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def _decided(self, sign: str, other: Any) -> Any:
        if not isinstance(other, (int, float, LengthNumber)):
            return NotImplemented
        if self is other:
            return sign in ("==", "<=", ">=")
        self._refuse(f"{self!r} {sign} {other!r}")

    def _refuse(self, what: str) -> NoReturn:
        raise LengthError(
            "a compiled function decides by a length that is known only when it runs",
            got=f"{what}, at {_line()}",
            rule="one program serves every length: " + _bounds(self),
            fix=_FIX,
        )

    def __repr__(self) -> str:
        signs = {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "pow": "**"}
        if self.operation not in signs:
            return f"{self.operation}({', '.join(map(repr, self.parts))})"
        return f"({self.parts[0]!r} {signs[self.operation]} {self.parts[1]!r})"


class Length(LengthNumber):
    """A whole number made of dims by +, -, * and // : what an axis's size is while recording.

    Args:
        terms: see Terms; none of them 0, not () alone.

    Equal sums are equal, however they were made: (T + 1) * 2 == 2 * T + 2.

    Note [what is decided about a length]
        A comparison that comes out the same for every length within the bounds is answered. Another
        one is refused, where the user's code asks. Where the package itself asks, it is answered
        for the greatest lengths, and different sums are not equal: the package chooses among ways
        to the same numbers (`if count > 0`), or refuses what is too long or does not fit.
    """

    __slots__ = ("terms",)

    def __init__(self, terms: Terms):
        super().__init__()
        self.terms = {f: terms[f] for f in sorted(terms, key=_order)}

    @classmethod
    def of(cls, dim: Dim) -> Length:
        """The length that a dim stands for."""
        return cls({(dim,): 1})

    # bounds

    @property
    def low(self) -> int:
        """No value is less."""
        return sum(n * _product(f.min if n > 0 else f.max for f in fs) for fs, n in self._items())

    @property
    def high(self) -> int:
        """No value is greater: what memory is planned for."""
        return sum(n * _product(f.max if n > 0 else f.min for f in fs) for fs, n in self._items())

    @property
    def greatest(self) -> int:
        """The value where every dim is as great as it can be."""
        return self.at({d: d.max for d in self.dims})

    @property
    def dims(self) -> tuple[Dim, ...]:
        """What it is made of, each once."""
        found: dict[Dim, None] = {}
        for factors in self.terms:
            for f in factors:
                found.update(dict.fromkeys([f] if isinstance(f, Dim) else f.length.dims))
        return tuple(found)

    def at(self, lengths: Mapping[Dim, int]) -> int:
        """Its value for these lengths."""

        def value(f: Factor) -> int:
            return lengths[f] if isinstance(f, Dim) else f.length.at(lengths) // f.by

        return sum(n * _product(map(value, factors)) for factors, n in self._items())

    def _items(self) -> Iterable[tuple[tuple[Factor, ...], int]]:
        return self.terms.items()

    # arithmetic

    def __add__(self, other: Any) -> Any:
        terms = _terms_of(other)
        if terms is None:
            return super().__add__(other)
        out = dict(self.terms)
        for factors, n in terms.items():
            out[factors] = out.get(factors, 0) + n
        return _made(out)

    __radd__ = __add__

    def __neg__(self) -> Any:
        return _made({factors: -n for factors, n in self.terms.items()})

    def __pos__(self) -> Length:
        return self

    def __sub__(self, other: Any) -> Any:
        return super().__sub__(other) if _terms_of(other) is None else self + -other

    def __rsub__(self, other: Any) -> Any:
        return super().__rsub__(other) if _terms_of(other) is None else -self + other

    def __mul__(self, other: Any) -> Any:
        terms = _terms_of(other)
        if terms is None:
            return super().__mul__(other)
        out: Terms = {}
        for a, n in self.terms.items():
            for b, m in terms.items():
                both = tuple(sorted((*a, *b), key=_name))
                out[both] = out.get(both, 0) + n * m
        return _made(out)

    def __rmul__(self, other: Any) -> Any:
        return super().__rmul__(other) if _terms_of(other) is None else self * other

    def exactly(self, other: Any) -> Any:
        """self / other where no length leaves a rest; None where that is not known."""
        by = _terms_of(other)
        if by is None or len(by) != 1:
            return 1 if by is not None and by == self.terms else None
        ((divisor, count),) = by.items()
        out: Terms = {}
        for factors, n in self.terms.items():
            rest = list(factors)
            for f in divisor:
                if f not in rest:
                    return None
                rest.remove(f)
            if n % count:
                return None
            out[tuple(rest)] = n // count
        return _made(out)

    def __floordiv__(self, other: Any) -> Any:
        exact = self.exactly(other)
        if exact is not None:
            return exact
        if not isinstance(other, int) or other < 1:
            self._refuse(f"{self!r} // {other!r}")
        return Length({(Quotient(self, other),): 1})

    def __rfloordiv__(self, other: Any) -> Any:
        self._refuse(f"{other!r} // {self!r}")

    def __mod__(self, other: Any) -> Any:
        return self - (self // other) * other

    def __rmod__(self, other: Any) -> Any:
        self._refuse(f"{other!r} % {self!r}")

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __pow__(self, other: Any) -> Any:
        if isinstance(other, int) and not isinstance(other, bool) and 0 <= other <= 8:
            return _product([self] * other)
        return super().__pow__(other)

    # what Python would have to know

    def _decided(self, sign: str, other: Any) -> Any:
        compare = _SIGNS[sign]
        if _terms_of(other) is None:
            if isinstance(other, float):  # between two whole numbers, or one of them
                if compare(self.low, other) == compare(self.high, other) and sign not in "==!=":
                    return compare(self.low, other)
                self._refuse(f"{self!r} {sign} {other!r}")
            return super()._decided(sign, other) if isinstance(other, LengthNumber) else (
                {"==": False, "!=": True}.get(sign, NotImplemented)
            )  # fmt: skip
        rest = self - other
        if not isinstance(rest, Length):
            return compare(rest, 0)
        low, high = rest.low, rest.high
        if low > 0 or high < 0:
            return compare(low if low > 0 else high, 0)
        if sign in ("<=", ">") and high == 0:
            return sign == "<="
        if sign in (">=", "<") and low == 0:
            return sign == ">="
        if _asked_within():
            return sign == "!=" if sign in "==!=" else compare(rest.greatest, 0)
        self._refuse(f"{self!r} {sign} {other!r}")

    def __eq__(self, other: Any) -> Any:
        return self._decided("==", other)

    def __hash__(self) -> int:
        return hash(tuple((tuple(f.name for f in fs), n) for fs, n in self._items()))

    def __index__(self) -> int:
        self._refuse(f"{self!r} where a number is needed now")

    def __repr__(self) -> str:
        parts = [
            "*".join([*([str(n)] if n != 1 or not fs else []), *(f.name for f in fs)])
            for fs, n in self._items()
        ]
        return " + ".join(parts).replace("+ -1*", "- ").replace("+ -", "- ")


_SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


def _order(factors: tuple[Factor, ...]) -> tuple[int, str]:
    return -len(factors), "*".join(f.name for f in factors)


def _name(f: Factor) -> str:
    return f.name


def _product(numbers: Iterable[Any]) -> Any:
    out: Any = 1
    for n in numbers:
        out = out * n
    return out


def _asked_within() -> bool:
    """Whether the package asked, not the user. See Note [what is decided about a length]."""
    return _first_outside(__file__).startswith(_PACKAGE)


def _first_outside(file: str) -> str:
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and (
        frame.f_code.co_filename == file
        or (frame.f_code.co_filename, frame.f_code.co_name) == ("<string>", "__eq__")
    ):  # that of a dataclass compares its fields
        frame = frame.f_back
    return "" if frame is None else frame.f_code.co_filename


def _line() -> str:
    """The user's line that led here."""
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    if frame is None:
        return "an unknown line"
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def _bounds(number: Any) -> str:
    return ", ".join(f"{d.name} is {d.min} to {d.max}" for d in dims_of(number)) or "unknown"


# --- of numbers that may be lengths ---


def is_symbolic(x: Any) -> bool:
    """Whether a number depends on a length that is not known yet."""
    return isinstance(x, LengthNumber)


def dims_of(x: Any) -> tuple[Dim, ...]:
    """The dims a number depends on, each once."""
    if isinstance(x, Length):
        return x.dims
    if isinstance(x, LengthNumber):
        return tuple(dict.fromkeys(d for part in x.parts for d in dims_of(part)))
    return ()


def is_size(n: Any) -> bool:
    """Whether it may be the size of an axis: a whole number >= 0, or a length."""
    return (isinstance(n, int) and n >= 0) or isinstance(n, Length)


def bound_of(n: Any) -> int:
    """The greatest value of a size."""
    return n.high if isinstance(n, Length) else n


def value_at(x: Any, lengths: Mapping[Dim, int]) -> Any:
    """The value of a number for these lengths; of a tuple that of each entry."""
    if isinstance(x, tuple):
        entries: tuple[Any, ...] = x
        return tuple([value_at(e, lengths) for e in entries])
    return x.at(lengths) if isinstance(x, LengthNumber) else x


def at_bound(x: Any) -> Any:
    """A parameter of an operation with every length in it at its bound."""
    if isinstance(x, LengthNumber):
        return bound_of(x)
    if isinstance(x, tuple):
        entries: tuple[Any, ...] = x
        return tuple([at_bound(e) for e in entries])
    return x


def holds_length(x: Any) -> bool:
    """Whether a parameter, or an entry of it, is a length."""
    if isinstance(x, (tuple, list)):
        entries: Iterable[Any] = x
        return any(map(holds_length, entries))
    return isinstance(x, LengthNumber)


def at_most(a: Any, b: Any, what: str) -> bool:
    """Whether a <= b, the same for every length.

    Raises:
        LengthError: for some lengths it is so, for others not; `what` says what depends on it.
    """
    rest: Any = b - a
    low, high = (rest.low, rest.high) if isinstance(rest, Length) else (rest, rest)
    if low >= 0 or high < 0:
        return low >= 0
    raise LengthError(
        f"{what} lies inside an axis for some lengths and outside for others",
        got=f"{a!r} and {b!r}, at {_line()}",
        rule="one program serves every length: " + _bounds(rest),
        fix="bounds that leave no choice: tt.dim(..., min=2); or compute with tt.where",
    )
