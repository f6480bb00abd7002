"""Constraints: answers that are one of several, or texts of a regular expression, or JSON.

Knows token ids and the bytes of each, never a tokenizer. Before each token a constraint says which
may follow; where an answer is whole a stop token may follow too, and where nothing else may, it
ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tinytorch.base.arguments import whole
from tinytorch.base.errors import SettingError
from tinytorch.generation.automata import Automaton, Json, Regex

Array = np.ndarray[Any, np.dtype[Any]]


class Choices:
    """Answers that are one of some sequences of tokens.

    Args:
        choices: token ids of each; at least one, none empty.
        vocab: V, tokens of the model.

    Where one choice begins another, the answer goes on unless a stop token is given to `generate`.

    Example:
        >>> yes_or_no = Choices([[5, 6], [5, 7, 8]], vocab=9)
        >>> yes_or_no.allowed([5]).nonzero()[0].tolist(), yes_or_no.may_end([5, 6])
        ([6, 7], True)
    """

    def __init__(self, choices: Iterable[Sequence[int]], vocab: int):
        self.vocab = whole("Choices", "vocab", vocab, at_least=1)
        self.choices = [tuple(map(int, c)) for c in choices]
        wrong = [c for c in self.choices if not c or min(c) < 0 or max(c) >= vocab]
        if wrong or not self.choices:
            raise SettingError(
                "Choices: what cannot be chosen",
                got=f"{wrong[0]}" if wrong else "no choice",
                rule=f"sequences of at least one token id in [0, {vocab})",
                fix="[tokenizer.encode(text) for text in texts]",
            )

    def allowed(self, tokens: Sequence[int]) -> Array:
        """As `Constraint.allowed`."""
        n, begun = len(tokens), tuple(tokens)
        mask = np.zeros(self.vocab, bool)
        mask[[c[n] for c in self.choices if len(c) > n and c[:n] == begun]] = True
        return mask

    def may_end(self, tokens: Sequence[int]) -> bool:
        """As `Constraint.may_end`."""
        return tuple(tokens) in self.choices


class Grammar:
    """Answers whose bytes are a text of a language.

    Args:
        language: an `Automaton`, such as `Json()`, or a regular expression as a str.
        pieces: the bytes of each token; None or empty for one that is no text (it never comes).

    Cost: a table of all tokens by their bytes, made once; for each new state of the language one
    walk over the tokens that may follow, kept from then on.

    Source: Willard and Louf 2023, https://arxiv.org/abs/2307.09702.

    Example:
        >>> number = Grammar("[1-9][0-9]*", pieces=[b"1", b"0", b"10", b"a"])
        >>> number.allowed([]).tolist(), number.allowed([0]).tolist()
        ([True, False, True, False], [True, True, True, False])
        >>> number.may_end([2]), number.may_end([])
        (True, False)
    """

    def __init__(self, language: Automaton | str, pieces: Sequence[bytes | None]):
        self.language: Automaton = Regex(language) if isinstance(language, str) else language
        self.pieces = [bytes(p) if p else b"" for p in pieces]
        # by their bytes: of each node the tokens that end there, and the nodes behind a byte
        self._root: _Node = ([], {})
        for token, piece in enumerate(self.pieces):
            node = self._root
            for byte in piece:
                node = node[1].setdefault(byte, ([], {}))
            if piece:
                node[0].append(token)
        self._masks: dict[Any, Array] = {}
        self._tokens: list[int] = []
        self._states: list[Any] = [self.language.start]

    @classmethod
    def json(
        cls, pieces: Sequence[bytes | None], root: str = "value", depth: int = 16, blanks: int = 20
    ) -> Grammar:
        """Answers that are JSON; settings as of `Json`."""
        return cls(Json(root, depth, blanks), pieces)

    def allowed(self, tokens: Sequence[int]) -> Array:
        """As `Constraint.allowed`."""
        state = self._state(tokens)
        if state not in self._masks:
            self._masks[state] = self._mask(state)
        return self._masks[state]

    def may_end(self, tokens: Sequence[int]) -> bool:
        """As `Constraint.may_end`."""
        state = self._state(tokens)
        return state is not None and self.language.is_end(state)

    def _state(self, tokens: Sequence[int]) -> Any:
        """The state behind tokens; None where they are no beginning of a text."""
        given, known = list(map(int, tokens)), len(self._tokens)
        if given[:known] != self._tokens:
            known = next(
                (i for i, (a, b) in enumerate(zip(given, self._tokens, strict=False)) if a != b),
                min(len(given), known),
            )
        del self._tokens[known:], self._states[known + 1 :]
        for token in given[known:]:
            state = self._states[-1]
            for byte in self.pieces[token]:
                state = None if state is None else self.language.step(state, byte)
            self._tokens.append(token)
            self._states.append(state if self.pieces[token] else None)
        return self._states[-1]

    def _mask(self, state: Any) -> Array:
        mask = np.zeros(len(self.pieces), bool)
        stack = [] if state is None else [(self._root, state)]
        while stack:
            (tokens, children), state = stack.pop()
            mask[tokens] = True
            for byte, child in children.items():
                following = self.language.step(state, byte)
                if following is not None:
                    stack.append((child, following))
        return mask


_Node = tuple[list[int], "dict[int, _Node]"]
