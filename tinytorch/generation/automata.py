"""Automata over bytes: which texts a regular expression, or JSON, allows, byte by byte.

Knows bytes and states, never tokens. A regular expression is read once into states with moves on
ranges of bytes (Thompson 1968), characters beyond ASCII as their bytes in UTF-8; sets of these
states are made as texts ask for them. JSON nests, so its state holds what is open.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

from tinytorch.base.arguments import one_of, whole
from tinytorch.base.errors import SettingError

_LAST = 0x10FFFF
_SURROGATES = (0xD800, 0xDFFF)
_MOST_REPEATS = 1000

Range = tuple[int, int]


class Automaton(Protocol):
    """Says of a text, byte by byte, whether it may still become one of a language."""

    @property
    def start(self) -> Hashable:
        """The state before the first byte."""
        ...

    def step(self, state: Any, byte: int) -> Any:
        """The state behind a byte; None: no text of the language goes on so."""
        ...

    def is_end(self, state: Any) -> bool:
        """Whether the text so far is one of the language."""
        ...


def matches(automaton: Automaton, text: str | bytes) -> bool:
    """Whether a text is one of the language.

    Example:
        >>> matches(Regex("a+b?"), "aab"), matches(Regex("a+b?"), "ba")
        (True, False)
    """
    state: Any = automaton.start
    for byte in text.encode() if isinstance(text, str) else text:
        state = automaton.step(state, byte)
        if state is None:
            return False
    return automaton.is_end(state)


# --- regular expressions


@dataclass
class _Nodes:
    """States and moves: of state i `moves[i]` on ranges of bytes, and `free[i]` on nothing."""

    moves: list[list[tuple[int, int, int]]] = field(default_factory=list)
    free: list[list[int]] = field(default_factory=list)

    def new(self) -> int:
        """A state without moves."""
        self.moves.append([])
        self.free.append([])
        return len(self.moves) - 1


# A part of an expression: it adds moves from a state on, and gives the state behind it.
_Part = Callable[[_Nodes, int], int]


class Regex:
    r"""The texts that a regular expression matches from their beginning to their end.

    Args:
        pattern: as Python's `re` with ASCII classes: characters, `.`, `[a-z]`, `[^...]`, `\d`,
            `\w`, `\s` and their opposites, `\n`, `\t`, `\r`, `\xhh`, `\uhhhh`, groups, `|`, `*`,
            `+`, `?`, `{m,n}`. It has to match whole texts, so `^` and `$` are not needed.

    Raises:
        SettingError: what is no such expression; the message says where.

    Example:
        >>> date = Regex("[0-9]{4}-[0-9]{2}")
        >>> matches(date, "2026-11"), matches(date, "26-11")
        (True, False)
    """

    def __init__(self, pattern: str):
        self.pattern = pattern
        self._nodes = _Nodes()
        first = self._nodes.new()
        self._last = _Parser(pattern).whole()(self._nodes, first)
        self._sets: list[frozenset[int]] = []
        self._numbers: dict[frozenset[int], int] = {}
        self._steps: dict[tuple[int, int], int | None] = {}
        self.start: int = self._number(self._closed([first]))

    def step(self, state: int, byte: int) -> int | None:
        """As `Automaton.step`."""
        key = (state, byte)
        if key not in self._steps:
            moves = self._nodes.moves
            reached = [to for i in self._sets[state] for a, b, to in moves[i] if a <= byte <= b]
            self._steps[key] = self._number(self._closed(reached)) if reached else None
        return self._steps[key]

    def is_end(self, state: int) -> bool:
        """As `Automaton.is_end`."""
        return self._last in self._sets[state]

    def _closed(self, states: Iterable[int]) -> frozenset[int]:
        """With all that are reached on nothing."""
        found, stack = set[int](), list(states)
        while stack:
            i = stack.pop()
            if i not in found:
                found.add(i)
                stack += self._nodes.free[i]
        return frozenset(found)

    def _number(self, states: frozenset[int]) -> int:
        if states not in self._numbers:
            self._numbers[states] = len(self._sets)
            self._sets.append(states)
        return self._numbers[states]


_CLASSES: dict[str, list[Range]] = {
    "d": [(48, 57)],
    "w": [(48, 57), (65, 90), (95, 95), (97, 122)],
    "s": [(9, 13), (32, 32)],
}
_LETTERS = {"n": 10, "t": 9, "r": 13, "f": 12, "v": 11, "0": 0}


class _Parser:
    """Reads an expression from left to right; each method gives a part."""

    def __init__(self, pattern: str):
        self.text, self.at = pattern, 0

    def whole(self) -> _Part:
        """The whole expression."""
        part = self._either()
        if self.at < len(self.text):
            self._refuse("a bracket closes what was not opened")
        return part

    def _refuse(self, why: str) -> NoReturn:
        raise SettingError(
            f"Regex: {why}",
            got=f"{self.text!r}, at character {self.at}",
            rule=r"characters, ., [...], \d \w \s, groups, |, *, +, ?, {m,n}",
            fix="write it with these; a backslash before a character that stands for itself",
        )

    def _peek(self, *texts: str) -> bool:
        return any(self.text.startswith(t, self.at) for t in texts)

    def _take(self, text: str) -> bool:
        if self._peek(text):
            self.at += len(text)
            return True
        return False

    def _next(self) -> str:
        if self.at >= len(self.text):
            self._refuse("it ends too early")
        self.at += 1
        return self.text[self.at - 1]

    def _either(self) -> _Part:
        parts = [self._sequence()]
        while self._take("|"):
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else _either(parts)

    def _sequence(self) -> _Part:
        parts: list[_Part] = []
        while self.at < len(self.text) and not self._peek("|", ")"):
            parts.append(self._repeated(self._one()))
        return _sequence(parts)

    def _repeated(self, part: _Part) -> _Part:
        while self._peek("*", "+", "?", "{"):
            sign = self._next()
            low, high = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(sign, (0, 0))
            if sign == "{":
                low, high = self._counts()
            self._take("?")  # the shortest match first: the same texts
            part = _times(part, low, high)
        return part

    def _counts(self) -> tuple[int, int | None]:
        end = self.text.find("}", self.at)
        low, comma, high = self.text[self.at : max(end, 0)].partition(",")
        if not low.isdecimal() or not (high.isdecimal() or (comma and not high) or not comma):
            self._refuse("a number of repetitions is no number")
        self.at = end + 1
        most = int(high) if high else None if comma else int(low)
        if max(int(low), most or 0) > _MOST_REPEATS or (most is not None and most < int(low)):
            self._refuse(f"repetitions go up, to {_MOST_REPEATS} at most")
        return int(low), most

    def _one(self) -> _Part:
        c = self._next()
        if c == "(":
            if self._take("?") and not self._take(":"):
                self._refuse("groups look at nothing else and have no names")
            part = self._either()
            if not self._take(")"):
                self._refuse("a group is not closed")
            return part
        if c == "[":
            return _characters(self._set())
        if c == ".":
            return _characters(_opposite([(10, 10)]))
        if c == "\\":
            return _characters(self._escaped())
        if c in "^$*+?{":
            self.at -= 1
            self._refuse("a sign stands where a character should")
        return _characters([(ord(c), ord(c))])

    def _escaped(self) -> list[Range]:
        c = self._next()
        if c.lower() in _CLASSES:
            ranges = _CLASSES[c.lower()]
            return _opposite(ranges) if c.isupper() else ranges
        code = _LETTERS.get(c, ord(c))
        if c in "xu":
            digits = self.text[self.at : self.at + (2 if c == "x" else 4)]
            self.at += len(digits)
            if len(digits) < (2 if c == "x" else 4) or not digits.isalnum():
                self._refuse("digits are missing")
            try:
                code = int(digits, 16)
            except ValueError:
                self._refuse("digits are hexadecimal")
        elif c.isalnum() and c not in _LETTERS:
            self._refuse("this letter has no meaning behind a backslash")
        return [(code, code)]

    def _set(self) -> list[Range]:
        negative = self._take("^")
        ranges: list[Range] = []
        first = True
        while first or not self._peek("]"):
            first = False
            low = self._of_set()
            if self._peek("-") and not self._peek("-]") and low[0][0] == low[-1][1]:
                self.at += 1
                high = self._of_set()
                if high[0][0] != high[-1][1] or high[0][0] < low[0][0]:
                    self._refuse("a range ends before it begins")
                low = [(low[0][0], high[0][0])]
            ranges += low
        self.at += 1
        return _opposite(ranges) if negative else ranges

    def _of_set(self) -> list[Range]:
        c = self._next()
        return self._escaped() if c == "\\" else [(ord(c), ord(c))]


def _sequence(parts: list[_Part]) -> _Part:
    def build(nodes: _Nodes, at: int) -> int:
        for part in parts:
            at = part(nodes, at)
        return at

    return build


def _either(parts: list[_Part]) -> _Part:
    def build(nodes: _Nodes, at: int) -> int:
        end = nodes.new()
        for part in parts:
            first = nodes.new()
            nodes.free[at].append(first)
            nodes.free[part(nodes, first)].append(end)
        return end

    return build


def _times(part: _Part, low: int, high: int | None) -> _Part:
    def build(nodes: _Nodes, at: int) -> int:
        for _ in range(low):
            at = part(nodes, at)
        if high is None:
            first, end = nodes.new(), nodes.new()
            nodes.free[at] += [first, end]
            nodes.free[part(nodes, first)] += [first, end]
            return end
        end = nodes.new()
        for _ in range(high - low):
            nodes.free[at].append(end)
            first = nodes.new()
            nodes.free[at].append(first)
            at = part(nodes, first)
        nodes.free[at].append(end)
        return end

    return build


def _opposite(ranges: list[Range]) -> list[Range]:
    out: list[Range] = []
    first = 0
    for a, b in sorted([*ranges, _SURROGATES]):
        if a > first:
            out.append((first, a - 1))
        first = max(first, b + 1)
    return [*out, (first, _LAST)] if first <= _LAST else out


def _characters(ranges: list[Range]) -> _Part:
    """One character of some ranges, as its bytes."""

    def build(nodes: _Nodes, at: int) -> int:
        end = nodes.new()
        for low, high in ranges:
            for pieces in _bytes_of(low, high):
                place = at
                for i, (a, b) in enumerate(pieces):
                    to = end if i == len(pieces) - 1 else nodes.new()
                    nodes.moves[place].append((a, b, to))
                    place = to
        return end

    return build


def _bytes_of(low: int, high: int) -> list[list[Range]]:
    """The characters of a range as sequences of ranges of bytes in UTF-8, surrogates left out."""
    for border in (0x7F, 0x7FF, _SURROGATES[0] - 1, _SURROGATES[1], 0xFFFF):
        if low <= border < high:
            return _bytes_of(low, border) + _bytes_of(border + 1, high)
    if _SURROGATES[0] <= low <= _SURROGATES[1]:
        return []
    return _split(chr(low).encode(), chr(high).encode())


def _split(low: bytes, high: bytes) -> list[list[Range]]:
    """The sequences from low to high, of one length; all behind the first byte are 80 to BF."""
    behind = len(low) - 1
    least, most = b"\x80" * behind, b"\xbf" * behind
    if low[1:] == least and high[1:] == most:
        return [[(low[0], high[0]), *[(0x80, 0xBF)] * behind]]
    if low[0] == high[0]:
        return [[(low[0], low[0]), *rest] for rest in _split(low[1:], high[1:])]
    out = [[(low[0], low[0]), *rest] for rest in _split(low[1:], most)]
    if high[0] - low[0] > 1:
        out.append([(low[0] + 1, high[0] - 1), *[(0x80, 0xBF)] * behind])
    return out + [[(high[0], high[0]), *rest] for rest in _split(least, high[1:])]


# --- JSON

_STRING = r'"([^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"'
_NUMBER = r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+\-]?[0-9]+)?"
_BLANKS = b" \t\r\n"
_CLOSES = {ord("}"): "{", ord("]"): "["}

# (what is expected: "value", "first" of a list, "key", "pair" (the first key, or none), "colon",
# "next"; or how far a "key" or a "scalar" has come, blanks before, what is open)
JsonState = tuple[str, int, str]


class Json:
    """The texts that are JSON (RFC 8259).

    Args:
        root: "value", "object" or "array": what the text is; default "value".
        depth: how deep objects and arrays may lie in each other, at least 1; default 16.
        blanks: how many blanks and line ends may stand at one place; default 20: a model that may
            write them for ever does.

    Example:
        >>> json = Json("object")
        >>> matches(json, '{"a": [1, null]}'), matches(json, "[1]"), matches(json, "{1: 2}")
        (True, False, False)
    """

    def __init__(self, root: str = "value", depth: int = 16, blanks: int = 20):
        self.root = one_of("Json", "root", root, ("value", "object", "array"))
        self.depth = whole("Json", "depth", depth, at_least=1)
        self.blanks = whole("Json", "blanks", blanks, at_least=0)
        self.start: JsonState = ("value", 0, "")
        self._parts = {
            "key in": Regex(_STRING), "scalar in": Regex(f"{_STRING}|{_NUMBER}|true|false|null")
        }  # fmt: skip

    def is_end(self, state: JsonState) -> bool:
        """As `Automaton.is_end`."""
        phase, at, opened = state
        if phase == "scalar in":
            return not opened and self._parts[phase].is_end(at)
        return phase == "next" and not opened

    def step(self, state: JsonState, byte: int) -> JsonState | None:
        """As `Automaton.step`."""
        phase, at, opened = state
        if phase in self._parts:
            part = self._parts[phase]
            following = part.step(at, byte)
            if following is not None:
                return phase, following, opened
            if not part.is_end(at):
                return None
            phase, at = ("colon" if phase == "key in" else "next"), 0
        if byte in _BLANKS:
            return (phase, at + 1, opened) if at < self.blanks else None
        return self._mark(phase, byte, opened)

    def _mark(self, phase: str, byte: int, opened: str) -> JsonState | None:
        """What is no blank, where a value, a key or a mark is expected."""
        if phase == "colon":
            return ("value", 0, opened) if byte == ord(":") else None
        if phase == "next":
            if byte == ord(",") and opened:
                return ("key" if opened[-1] == "{" else "value"), 0, opened
            return self._close(byte, opened)
        if phase in ("pair", "first") and byte in _CLOSES:
            return self._close(byte, opened)
        if phase in ("key", "pair"):
            return self._begin("key in", byte, opened)
        if byte in b"{[":
            if len(opened) >= self.depth or not self._is_root(chr(byte), opened):
                return None
            return ("pair" if byte == ord("{") else "first"), 0, opened + chr(byte)
        return self._begin("scalar in", byte, opened) if self._is_root("", opened) else None

    def _is_root(self, mark: str, opened: str) -> bool:
        return bool(opened) or {"object": "{", "array": "["}.get(self.root, mark) == mark

    def _close(self, byte: int, opened: str) -> JsonState | None:
        if opened and _CLOSES.get(byte) == opened[-1]:
            return "next", 0, opened[:-1]
        return None

    def _begin(self, phase: str, byte: int, opened: str) -> JsonState | None:
        part = self._parts[phase]
        at = part.step(part.start, byte)
        return None if at is None else (phase, at, opened)
