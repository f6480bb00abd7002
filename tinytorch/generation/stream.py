"""stream: the text that follows a prompt, piece by piece.

Knows what turns tokens into text, given as a function or a tokenizer. Pieces are whole characters:
a token that ends within one waits for the next. Where a stop string may have begun, the text waits
until it is known.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Generator, Iterable
from typing import Any

from tinytorch.base.errors import SettingError
from tinytorch.generation.generate import begun, generate

Decode = Callable[[list[int]], "str | bytes"]

_LOST = "\N{REPLACEMENT CHARACTER}"  # what decoders write for bytes that are no character (yet)
_CHARACTER = 4  # bytes of the longest character in UTF-8: no token beyond waits for the next


def stream(
    model: Any, prompt: Any, tokenizer: Any, max_tokens: int | None = None, *,
    stop: str | Iterable[str] = (), stop_tokens: Any = (), **settings: Any,
) -> Generator[str, None, str]:  # fmt: skip
    """The text that follows a prompt, in pieces, each as soon as it is certain.

    Args:
        model: a `LanguageModel`, such as `models.GPT`.
        prompt: token ids, or a text, if the tokenizer has `encode`.
        tokenizer: has `decode(ids)`, or is such a function; it gives a str, or the bytes of UTF-8.
        max_tokens: as in `generate`.
        stop: a string or several; where one comes the text ends before it.
        stop_tokens: token ids, as `stop` of `generate`.
        settings: others of `generate`: temperature, top_k, top_p, min_p, seed, context...

    Returns:
        an iterator of strings, none of them empty; its value is why it ended, "stop" or "length". A
        character that is cut off at the end is given as the tokenizer spells it.

    Raises:
        SettingError: as `generate`, and an empty stop string.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import GPT, GPTConfig
        >>> from tinytorch.text import CharacterTokenizer
        >>> tokenizer = CharacterTokenizer("abc ")
        >>> model = GPT(GPTConfig(vocab=len(tokenizer), layers=1, heads=2, size=8, length=16))
        >>> text = "".join(stream(model, "ab", tokenizer, max_tokens=5, seed=0))
        >>> len(text)
        5
    """
    if isinstance(prompt, str):
        if not hasattr(tokenizer, "encode"):
            raise SettingError(
                "stream: a prompt of text needs a tokenizer",
                got=f"{type(tokenizer).__name__}",
                rule="a tokenizer with encode and decode",
                fix="give token ids as the prompt",
            )
        prompt = [int(i) for i in tokenizer.encode(prompt)]
    tokens = generate(model, prompt, max_tokens, stop=stop_tokens, **settings)
    return text_of(tokens, tokenizer, stop)


def text_of(
    tokens: Generator[int, None, str], tokenizer: Any, stop: str | Iterable[str] = ()
) -> Generator[str, None, str]:
    """The text of tokens that come one by one, in pieces, each as soon as it is certain.

    Args:
        tokens: what `generate` gave.
        tokenizer: as in `stream`.
        stop: as in `stream`; the tokens are closed there.

    Returns:
        as `stream`.

    Raises:
        SettingError: an empty stop string.
    """
    stops = [stop] if isinstance(stop, str) else list(stop)
    if isinstance(stop, str) and not stop or not all(stops):
        raise SettingError(
            "a stop string is empty",
            got=f"stop={stop!r}",
            rule="strings of at least one character",
            fix="leave it out",
        )
    return _streamed(tokens, getattr(tokenizer, "decode", tokenizer), stops)


def _streamed(
    tokens: Generator[int, None, str], decode: Decode, stops: list[str]
) -> Generator[str, None, str]:
    pieces, held = _Pieces(decode), ""
    while True:
        try:
            token = next(tokens)
        except StopIteration as end:
            held, stopped = _cut(held + pieces.rest(), stops)
            if held:
                yield held
            return "stop" if stopped else end.value
        held, stopped = _cut(held + pieces.take(int(token)), stops)
        if stopped:
            tokens.close()
            if held:
                yield held
            return "stop"
        certain = len(held) - begun(held, stops)
        if certain:
            yield held[:certain]
            held = held[certain:]


def _cut(text: str, stops: list[str]) -> tuple[str, bool]:
    """The text before the first stop string, and whether there is one."""
    places = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    return (text[: min(places)], True) if places else (text, False)


class _Pieces:
    """Text of tokens, as far as its characters are whole.

    Of strings the tokens since the last certain border are decoded together with those of one
    border before: tokenizers write a blank, or none, at the beginning of a text.
    """

    def __init__(self, decode: Decode):
        self.decode = decode
        self.tokens: list[int] = []
        self.before, self.given = 0, 0  # tokens that were decoded before, and have been given
        self.bytes = codecs.getincrementaldecoder("utf-8")("replace")

    def take(self, token: int) -> str:
        """What is certain with one more token."""
        self.tokens.append(token)
        return self._text(final=False)

    def rest(self) -> str:
        """All that is left."""
        return self._text(final=True)

    def _text(self, final: bool) -> str:
        known = self.decode(self.tokens[self.before : self.given])
        now = self.decode(self.tokens[self.before :])
        if isinstance(now, bytes) or isinstance(known, bytes):
            new = self.decode(self.tokens[self.given :])
            self.before = self.given = len(self.tokens)
            return self.bytes.decode(new if isinstance(new, bytes) else new.encode(), final)
        waits = now.endswith(_LOST) and len(self.tokens) - self.given < _CHARACTER
        if len(now) <= len(known) or (waits and not final):
            return ""
        self.before, self.given = self.given, len(self.tokens)
        return now[len(known) :]
