"""Continuous batching: sequences join and leave between steps, and share memory page by page.

A step reads all weights once, whether one sequence goes on by it or eight: so those that wait join
as soon as another has ended, not when all have. A prompt is read in pieces, one in a step, so that
a long one does not hold up the tokens of the others. Memory for keys and values is given in pages
of so many tokens, as many as a sequence may come to need, and taken back when it ends. What two
prompts have in common at their beginning is read once, by full pages (generation/pages.py).

Each answer is to the last bit what it would have been alone: a step is one program over all slots,
rows of its products do not depend on each other, attention reads each sequence by itself, and each
draws with random numbers of its own. What is shared are pages of prompts alone: those of an answer
were computed by another program, whose sums differ in their last bits.

Source: Yu et al. 2022 (Orca, OSDI) for joining between steps, Kwon et al. 2023,
https://arxiv.org/abs/2309.06180, for pages, Agrawal et al. 2023, https://arxiv.org/abs/2308.16369,
for pieces of prompts beside steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytorch.base.arguments import flag, whole
from tinytorch.base.errors import NonFiniteError, SettingError
from tinytorch.compiler.compile import compile
from tinytorch.generation.context import (
    Weights,
    checked_prompt,
    evaluating,
    of_last,
    of_pieces,
)
from tinytorch.generation.generate import (
    AnswerEnds,
    Constraint,
    HeldBack,
    Mask,
    Stops,
    allowed_now,
    room_for,
    stop_sequences,
)
from tinytorch.generation.pages import Pages, keys_of
from tinytorch.generation.sampling import Sampler, Sampling, Token
from tinytorch.nn.cache import BLOCK, PIECE, ModelCache
from tinytorch.nn.module import Module
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.tensor import Tensor

Array = np.ndarray[Any, np.dtype[Any]]

PAGE = 64  # tokens of a page: half a page is lost for each sequence on average
# Tokens of prompts that a step reads: about twice the time of a step of eight sequences (124 M
# weights of 8 bits: 15 ms, and 230 for 256 tokens, in proportion for fewer).
READ = 32


class Request:
    """A prompt that was handed to a `Batcher`, and the answer so far.

    Fields: `prompt`, `tokens` (the answer), `reason` (why it ended: "stop", "length", "cancelled",
    or "error", then with `error`; None while it goes on), `reused` (tokens of the prompt that were
    not read, since another prompt began with them).
    """

    def __init__(
        self, prompt: list[int], limit: int, sampler: Sampler, stops: list[tuple[int, ...]],
        constraint: Constraint | Mask | None,
    ):  # fmt: skip
        self.prompt, self.limit = prompt, limit
        self.tokens: list[Token] = []
        self.reason: str | None = None
        self.error: Exception | None = None
        self.sampler, self.held = sampler, HeldBack(stops)
        self.constraint, self.stops = constraint, stops
        self.drawn: list[Token] = []  # with those that a stop sequence may hold back
        self.slot = -1
        self.pages: list[int] = []
        self.keys: list[bytes] = []  # of those pages that may be shared
        self.at = 0  # tokens of the prompt that are in the cache
        self.reused = 0

    @property
    def is_done(self) -> bool:
        """Whether it has ended."""
        return self.reason is not None

    @property
    def read(self) -> int:
        """Tokens that are in the cache behind a step: all but the last."""
        return len(self.prompt) + len(self.drawn) - 1

    def take(self, logits: Array) -> list[Token]:
        """Draw a token; gives those that can be given now."""
        try:
            mask = None
            if self.constraint is not None:
                mask = allowed_now(self.constraint, self.drawn, self.stops)
            token = self.sampler(logits, mask)
        except AnswerEnds:
            return self._end("stop", self.held.rest())
        except (NonFiniteError, SettingError) as error:
            self.error = error
            return self._end("error", [])
        self.drawn.append(token)
        given = self.held.take(token)
        if self.held.is_stopped:
            return self._end("stop", given)
        if len(self.drawn) == self.limit:
            return self._end("length", given + self.held.rest())
        self.tokens += given
        return given

    def _end(self, reason: str, given: list[Token]) -> list[Token]:
        self.reason = reason
        self.tokens += given
        return given


class Batcher:
    """Generates for several prompts at once.

    Args:
        model: a `LanguageModel`, such as `models.GPT`.
        slots: sequences that go on together, at least 1; default 8. A step costs nearly the same
            for one as for all.
        length: greatest length of a sequence, prompt and answer; default the model's.
        page: tokens of a page, a multiple of 32; default 64.
        pages: pages in all; default enough for all slots at their greatest length. With fewer,
            sequences wait until others have ended. What is left over keeps beginnings of prompts
            that were read, for others that begin alike.
        piece: tokens of prompts that a step reads at most, from 1 to 256; default 32. More may read
            prompts faster, and hold up the answers that go on meanwhile.
        settings: others of the cache: dtype="int8", window.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import GPT, GPTConfig
        >>> model = GPT(GPTConfig(vocab=9, layers=1, heads=2, size=8, length=32))
        >>> batcher = Batcher(model, slots=2)
        >>> requests = [batcher.submit([1, 2, 3][:n], max_tokens=4, seed=n) for n in (1, 2, 3)]
        >>> batcher.run()
        >>> [len(r.tokens) for r in requests], requests[0].reason
        ([4, 4, 4], 'length')
    """

    def __init__(
        self, model: Any, slots: int = 8, length: int | None = None, *, page: int = PAGE,
        pages: int | None = None, piece: int = READ, **settings: Any,
    ):  # fmt: skip
        self.model: Module = model
        self.vocab = int(model.config.vocab)
        self.slots = whole("Batcher", "slots", slots, at_least=1)
        limit = int(model.config.length) if length is None else length
        each = -(-whole("Batcher", "length", limit, at_least=1) // max(page, BLOCK))
        self.pages = whole("Batcher", "pages", slots * each if pages is None else pages, 1)
        self.piece = min(whole("Batcher", "piece", piece, at_least=1), PIECE)
        # one more: what slots without a sequence write goes there
        self.cache: ModelCache = model.new_cache(
            slots, limit, page=page, pages=self.pages + 1, **settings
        )
        self.length, self.page = self.cache.length, page
        self._columns = int(self._table_of(self.cache).shape[1])
        self._reader = self.cache.share(1)
        self._step = compile(of_last(model, self.cache))
        self._read = of_pieces(model, self._reader, self.piece)
        self._pages = Pages(self.pages)
        self._weights = Weights(self.model)  # that kept pages were computed with
        self._weights.note()
        self._running: list[Request | None] = [None] * slots
        self._waiting: deque[Request] = deque()
        self._reading: list[Request] = []  # have a slot, and not all of their prompt is read

    @staticmethod
    def _table_of(cache: ModelCache) -> Tensor:
        table = cache[0].table
        if table is None:
            raise SettingError(
                "Batcher: the cache has no pages",
                got="a cache without a table",
                rule="model.new_cache hands page and pages on to its layers",
                fix="new_cache(batch, length, **settings)",
            )
        return table

    @property
    def free_pages(self) -> int:
        """Pages that no sequence has."""
        return self._pages.free

    @property
    def running(self) -> list[Request]:
        """Those that have a slot."""
        return [r for r in self._running if r is not None]

    @property
    def waiting(self) -> list[Request]:
        """Those that have none yet, the next one first."""
        return list(self._waiting)

    def submit(
        self, prompt: Any, max_tokens: int | None = None, *, temperature: float = 1.0,
        top_k: int | None = None, top_p: float = 1.0, min_p: float = 0.0,
        repetition_penalty: float = 1.0, seed: int | None = None, stop: Stops = (),
        logprobs: bool = False, constraint: Constraint | Mask | None = None,
    ) -> Request:  # fmt: skip
        """Hand in a prompt; it is read in one of the next steps. Arguments as of `generate`.

        Raises:
            SettingError: as `generate`, and a sequence that needs more pages than there are.
        """
        sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty, seed)
        ids = checked_prompt("Batcher.submit", prompt, self.vocab)
        limit = room_for("Batcher.submit", ids, self.length, max_tokens)
        sampler = Sampler(sampling, flag("Batcher.submit", "logprobs", logprobs), ids)
        request = Request(ids, limit, sampler, stop_sequences(stop), constraint)
        if self._needs(request) > self.pages:
            raise SettingError(
                "Batcher.submit: the sequence needs more pages than there are",
                got=f"{len(ids)} tokens and {limit} more: {self._needs(request)} pages",
                rule=f"at most {self.pages} pages of {self.page} tokens",
                fix="fewer max_tokens, or a Batcher with more pages",
            )
        if not limit:
            request.reason = "length"
        else:
            self._waiting.append(request)
        return request

    def cancel(self, request: Request) -> None:
        """End a request; its pages are free at once. One that has ended stays as it is."""
        if request.is_done:
            return
        if request in self._waiting:
            self._waiting.remove(request)
        request.reason = "cancelled"
        self._leave(request)

    def step(self) -> list[tuple[Request, Token]]:
        """One token for each sequence whose prompt is read, and a piece of the others' prompts.

        Those that wait join first.

        Returns:
            the tokens that can be given now, with their requests; none is left when no request is.
        """
        given: list[tuple[Request, Token]] = []
        with no_grad(), evaluating(self.model):
            while self._waiting and self._joins(self._waiting[0]):
                self._waiting.popleft()
            speaking = [r for r in self.running if r not in self._reading]
            given += self._read_prompts()
            if speaking:
                rows = self._logits_of(speaking)
                for request in speaking:
                    given += self._taken(request, rows[request.slot])
        return given

    def run(self) -> None:
        """Steps until every request has ended.

        Raises:
            NonFiniteError: the first error of a request, when all others have ended.
        """
        failed: list[Request] = []
        while self._waiting or self.running:
            before = self.running + self.waiting
            self.step()
            failed += [r for r in before if r.reason == "error"]
        if failed and failed[0].error is not None:
            raise failed[0].error

    # slots and pages

    def _needs(self, request: Request) -> int:
        """Pages that a sequence may come to fill; with a window they are used again."""
        most = -(-(len(request.prompt) + request.limit - 1) // self.page)
        return min(most, self._columns)

    def _joins(self, request: Request) -> bool:
        """Give it a slot and all its pages, if there are any."""
        if None not in self._running:
            return False
        if self._weights.have_changed():
            self._forget()
        if not request.keys and self._may_share(request):
            request.keys = keys_of(request.prompt, self.page)
        shared = self._found(request, 0)
        needs = self._needs(request) - len(shared)
        if needs > self._pages.free:
            self._pages.give_back(shared)
            return False
        request.slot = self._running.index(None)
        request.pages = shared + self._pages.take(needs)
        request.at = request.reused = len(shared) * self.page
        self._running[request.slot] = request
        self._reading.append(request)
        return True

    def _forget(self) -> None:
        """Nothing that was read by the weights of before is used for another prompt."""
        self._pages.forget()
        for request in self.running:
            request.keys = []
        self._weights.note()

    def _may_share(self, request: Request) -> bool:
        """Whether none of its pages is overwritten by what comes later, as in a window."""
        return len(request.prompt) + request.limit - 1 <= self._columns * self.page

    def _found(self, request: Request, first: int) -> list[int]:
        """Its pages from number `first` on that another prompt has filled, for it to hold too.

        The last token is read in any case: its logits are wanted.
        """
        found: list[int] = []
        for key in request.keys[first : (len(request.prompt) - 1) // self.page]:
            page = self._pages.find(key)
            if page is None:
                break
            found.append(page)
        return found

    def _leave(self, request: Request) -> None:
        if request.slot < 0:
            return
        self._pages.give_back(request.pages)
        self._running[request.slot] = None
        request.slot, request.pages = -1, []
        if request in self._reading:
            self._reading.remove(request)

    # programs

    def _read_prompts(self) -> list[tuple[Request, Token]]:
        """Read at most `piece` tokens of prompts, of those first that came first.

        A prompt's place moves when a piece is read and, behind the last one, a token is drawn:
        after Ctrl-C that piece is read again.
        """
        given: list[tuple[Request, Token]] = []
        room = self.piece
        for request in list(self._reading):
            self._take_over(request)
            left = len(request.prompt) - request.at
            count = min(left, self.piece)
            if count > room:
                break
            logits = self._logits_behind(request, count)
            room -= count
            filled = range(request.at // self.page, (request.at + count) // self.page)
            for i in filled if request.keys else ():
                self._pages.keep(request.pages[i], request.keys[i])
            if count == left:
                given += self._taken(request, logits)
                if request in self._reading:
                    self._reading.remove(request)
            request.at += count
        return given

    def _take_over(self, request: Request) -> None:
        """Hold pages that another prompt has filled since this one joined, in place of its own."""
        first, rest = divmod(request.at, self.page)
        shared = [] if rest else self._found(request, first)
        if shared:
            places = slice(first, first + len(shared))
            self._pages.give_back(request.pages[places])
            request.pages[places] = shared
            request.at += len(shared) * self.page
            request.reused += len(shared) * self.page

    def _logits_behind(self, request: Request, count: int) -> Array:
        """The logits behind the next `count` tokens of a prompt, (V,)."""
        table = np.full((1, self._columns), self.pages, np.int64)
        table[0, : len(request.pages)] = request.pages
        self._table_of(self._reader).assign_(Tensor(table))
        self._reader.lengths.assign_(Tensor(np.array([request.at], np.int64)))
        ids = np.array([request.prompt[request.at : request.at + count]], np.int64)
        return self._read(Tensor(ids)).numpy()[0]

    def _logits_of(self, speaking: list[Request]) -> Array:
        """The logits behind the last token of each of these, in the rows of their slots."""
        tokens, lengths = np.zeros((self.slots, 1), np.int64), np.zeros(self.slots, np.int64)
        table = np.full((self.slots, self._columns), self.pages, np.int64)
        for request in speaking:
            tokens[request.slot], lengths[request.slot] = request.drawn[-1], request.read
            table[request.slot, : len(request.pages)] = request.pages
        self.cache.lengths.assign_(Tensor(lengths))
        self._table_of(self.cache).assign_(Tensor(table))
        return self._step(Tensor(tokens)).numpy()

    def _taken(self, request: Request, logits: Array) -> list[tuple[Request, Token]]:
        given = [(request, token) for token in request.take(logits)]
        if request.is_done:
            self._leave(request)
        return given


def generate_batch(
    model: Any, prompts: Sequence[Any], max_tokens: int | None = None, *, slots: int | None = None,
    seed: int | None = None, **settings: Any,
) -> list[list[Token]]:  # fmt: skip
    """The answers to several prompts of any lengths, each as if it were alone.

    Args:
        model: a `LanguageModel`.
        prompts: token ids of each.
        max_tokens: as in `generate`.
        slots: how many go on together; default all, at most 8.
        seed: that of the first prompt; the next has seed + 1, and so on.
        settings: others of `Batcher.submit`.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch.models import GPT, GPTConfig
        >>> model = GPT(GPTConfig(vocab=9, layers=1, heads=2, size=8, length=16))
        >>> [len(tokens) for tokens in generate_batch(model, [[1], [2, 3, 4]], 5, seed=0)]
        [5, 5]
    """
    if not len(prompts):
        return []
    count = min(len(prompts), 8) if slots is None else slots
    batcher = Batcher(model, count)
    seeds = [None if seed is None else seed + i for i in range(len(prompts))]
    requests = [
        batcher.submit(prompt, max_tokens, seed=own, **settings)
        for prompt, own in zip(prompts, seeds, strict=True)
    ]
    batcher.run()
    return [r.tokens for r in requests]
