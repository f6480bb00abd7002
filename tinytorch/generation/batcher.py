"""Continuous batching: sequences join and leave between steps, and share memory page by page.

A step reads all weights once, whether one sequence goes on by it or eight: so those that wait join
as soon as another has ended, not when all have. Memory for keys and values is given in pages of so
many tokens, as many as a sequence may come to need, and taken back when it ends.

Each answer is to the last bit what it would have been alone: a step is one program over all slots,
rows of its products do not depend on each other, attention reads each sequence by itself, and each
draws with random numbers of its own.

Source: Yu et al. 2022 (Orca, OSDI) for joining between steps, Kwon et al. 2023,
https://arxiv.org/abs/2309.06180, for pages.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinytorch.base.arguments import flag, whole
from tinytorch.base.errors import NonFiniteError, SettingError
from tinytorch.base.lengths import Dim
from tinytorch.compiler.compile import compile
from tinytorch.generation.context import checked_prompt, evaluating, of_last
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
from tinytorch.generation.sampling import Sampler, Sampling, Token
from tinytorch.nn.cache import BLOCK, PIECE, ModelCache
from tinytorch.nn.module import Module
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.tensor import Tensor

Array = np.ndarray[Any, np.dtype[Any]]

PAGE = 64  # tokens of a page: half a page is lost for each sequence on average


class Request:
    """A prompt that was handed to a `Batcher`, and the answer so far.

    Fields: `prompt`, `tokens` (the answer), `reason` (why it ended: "stop", "length", "cancelled",
    or "error", then with `error`; None while it goes on).
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
            sequences wait until others have ended.
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
        pages: int | None = None, **settings: Any,
    ):  # fmt: skip
        self.model: Module = model
        self.vocab = int(model.config.vocab)
        self.slots = whole("Batcher", "slots", slots, at_least=1)
        limit = int(model.config.length) if length is None else length
        each = -(-whole("Batcher", "length", limit, at_least=1) // max(page, BLOCK))
        self.pages = whole("Batcher", "pages", slots * each if pages is None else pages, 1)
        # one more: what slots without a sequence write goes there
        self.cache: ModelCache = model.new_cache(
            slots, limit, page=page, pages=self.pages + 1, **settings
        )
        self.length, self.page = self.cache.length, page
        self._window = self.cache[0].window
        self._columns = int(self._table_of(self.cache).shape[1])
        self._reader = self.cache.share(1)
        self._step = compile(of_last(model, self.cache))
        self._read = compile(
            of_last(model, self._reader),
            dynamic_shapes={"tokens": (None, Dim("T", max=min(PIECE, self.length)))},
        )
        self._free = list(range(self.pages))[::-1]
        self._lengths = np.zeros(slots, np.int64)
        self._table = np.full((slots, self._columns), self.pages, np.int64)
        self._running: list[Request | None] = [None] * slots
        self._waiting: deque[Request] = deque()

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
        return len(self._free)

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
        """One token for each sequence that has a slot, after those that wait have joined.

        Returns:
            the tokens that can be given now, with their requests; none is left when no request is.
        """
        given: list[tuple[Request, Token]] = []
        with no_grad(), evaluating(self.model):
            while self._waiting and self._joins(self._waiting[0]):
                request = self._waiting.popleft()
                try:
                    logits = self._read_prompt(request)
                except BaseException:  # Ctrl-C: it waits again
                    self._leave(request)
                    self._waiting.appendleft(request)
                    raise
                given += self._taken(request, logits)
            running = [r for r in self._running if r is not None and r not in dict(given)]
            if running:
                rows = self._logits_of_all()
                for request in running:
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
        needs = self._needs(request)
        if None not in self._running or needs > len(self._free):
            return False
        request.slot = self._running.index(None)
        request.pages = [self._free.pop() for _ in range(needs)]
        self._running[request.slot] = request
        self._table[request.slot, :needs] = request.pages
        return True

    def _leave(self, request: Request) -> None:
        if request.slot < 0:
            return
        self._free += request.pages[::-1]
        self._table[request.slot] = self.pages
        self._lengths[request.slot] = 0
        self._running[request.slot] = None
        request.slot, request.pages = -1, []

    # programs

    def _read_prompt(self, request: Request) -> Array:
        """The logits behind a prompt."""
        table = self._table_of(self._reader)
        table.assign_(Tensor(self._table[request.slot : request.slot + 1].copy()))
        self._reader.lengths.zero_()
        ids = np.array([request.prompt], np.int64)
        *others, last = range(0, ids.shape[1], PIECE)
        for first in others:
            self._read(Tensor(ids[:, first : first + PIECE]))
        return self._read(Tensor(ids[:, last:])).numpy()[0]

    def _logits_of_all(self) -> Array:
        """The logits behind the last token of each slot, (slots, V)."""
        tokens = np.zeros((self.slots, 1), np.int64)
        for request in self.running:
            tokens[request.slot] = request.drawn[-1]
            self._lengths[request.slot] = request.read
        self.cache.lengths.assign_(Tensor(self._lengths.copy()))
        self._table_of(self.cache).assign_(Tensor(self._table.copy()))
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
