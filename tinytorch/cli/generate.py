"""`tito generate`: a language model goes on from a prompt, token by token, and says how fast.

Knows where models and their tokenizers lie, and what is measured; how tokens are chosen is in
`generation`.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import cast

import numpy as np
import typer

from tinytorch import compression, generation, models, storage
from tinytorch.base.errors import FileFormatError, NotFoundError, SettingError, short
from tinytorch.base.settings import num_threads
from tinytorch.cli.recipes import LANGUAGE_MODELS, nearest
from tinytorch.cli.report import STOPPED, Report
from tinytorch.cli.runs import RunFolder, shipped, text_run
from tinytorch.cli.texts import first_token
from tinytorch.models import GPT
from tinytorch.text import (
    BytePairTokenizer,
    CharacterTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    Vocabulary,
    load_tokenizer,
)
from tinytorch.text.words import Words

QUANTIZED = ("int8", "int4")
# Special tokens that end a text, and begin one, by the names that published models give them.
ENDS = ("<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>")
BEGINS = ("<s>", "<bos>", "<|begin_of_text|>")


@dataclass(frozen=True)
class Speaker:
    """A language model, and what turns its tokens into text.

    Args:
        model: in evaluation mode.
        tokenizer: of its tokens.
    """

    model: GPT
    tokenizer: Tokenizer

    def prompt(self, text: str) -> np.ndarray:
        """The tokens of a prompt, with the token that begins a text where the model has one.

        Raises:
            SettingError: the prompt is empty and no token begins a text; it has no room.
        """
        specials = self.tokenizer.vocabulary.specials
        begins = [self.tokenizer.special_id(name) for name in BEGINS if name in specials]
        ids = np.concatenate([np.array(begins[:1], np.int64), self.tokenizer.encode(text)])
        return ids if len(ids) else first_token(self.tokenizer)

    def ends(self) -> list[int]:
        """The tokens behind which nothing comes."""
        specials = self.tokenizer.vocabulary.specials
        return [self.tokenizer.special_id(name) for name in ENDS if name in specials]


def load_speaker(path: Path) -> Speaker:
    """A model with its tokenizer.

    Args:
        path: the folder of a run of `tito train gpt` or of a published model, a GGUF file, or
            llama2.c's file with its tokenizer, `tok*.bin` or `tokenizer.bin`, beside it; or
            "shakespeare", which comes trained.

    Raises:
        FileFormatError: it is none of these.
        SettingError: the tokenizer has more tokens than the model.
        NotFoundError: a file is missing.
    """
    if (speaker := shipped_speaker(path)) is not None:
        return speaker
    if path.is_dir() and (run := text_run(path)) is not None and not run.weights.is_file():
        raise FileFormatError(
            "this run has no model yet",
            got=f"{path}, without {run.weights.name}",
            rule="a run that has come to its end, or was stopped by Ctrl-C once",
            fix=f"tito train --resume --run {quote(str(path))}",
        )
    inside = storage.read_gguf(path) if path.suffix == ".gguf" else None
    model = models.load(path) if inside is None else models.load_gguf(inside)
    if not isinstance(model, GPT):
        raise FileFormatError(
            "this model does not say what comes next",
            got=f"{path}: {type(model).__name__}",
            rule="a language model that reads from left to right",
            fix="a folder of GPT-2 or Llama",
        )
    tokenizer = _tokenizer_of(path) if inside is None else _within(inside)
    tokenizer.check_fits(model.config.vocab)
    return Speaker(model, tokenizer)


def shipped_speaker(path: Path) -> Speaker | None:
    """A language model that comes trained, if a path is its name."""
    name = shipped(path)
    characters = models.pretrained_facts(name).get("characters") if name else None
    if characters is None:
        return None
    return Speaker(cast(GPT, models.pretrained(name)), CharacterTokenizer(characters))


def _tokenizer_of(path: Path) -> Tokenizer:
    """What lies in a model's folder, or beside its file."""
    if path.is_dir():
        return load_tokenizer(path)
    beside = sorted([*path.parent.glob("tok*.bin"), *path.parent.glob("tokenizer.*")])
    if not beside:
        raise NotFoundError(
            "there is no tokenizer beside this model",
            got=f"{path.parent}, without tok*.bin or tokenizer.*",
            rule="llama2.c's model and its tokenizer in one folder",
            fix=f"copy the tokenizer into {path.parent}",
        )
    return load_tokenizer(beside[0])


# Kinds of tokens in a GGUF file that are no text: unknown and control.
# Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, tokenizer.ggml.token_type.
NO_TEXT = (2, 3)
# How words are cut, and whether one that is a token is that token, by the names of llama.cpp.
# Source: https://github.com/ggml-org/llama.cpp, src/llama-vocab.cpp, tokenizer_pre.
WORDS: dict[str | None, tuple[Words, bool]] = {
    None: ("gpt2", False), "gpt-2": ("gpt2", False), "gpt2": ("gpt2", False),
    "default": ("gpt2", False), "llama3": ("llama3", True), "llama-v3": ("llama3", True),
    "llama-bpe": ("llama3", True), "qwen2": ("qwen2", False),
}  # fmt: skip


def _within(file: storage.GGUFFile) -> Tokenizer:
    """The tokenizer of a GGUF file."""
    facts = file.metadata
    kind, words = (facts.get(f"tokenizer.ggml.{name}") for name in ("model", "pre"))
    given = (facts.get(f"tokenizer.ggml.{n}", ()) for n in ("tokens", "token_type", "scores"))
    tokens, types, scores = (list(x) for x in given)
    specials = [t for t, n in zip(tokens, types, strict=False) if n in NO_TEXT]
    if kind == "llama" and tokens:
        return SentencePieceTokenizer.from_scores(tokens, scores, specials)
    if kind == "gpt2" and tokens and words in WORDS:
        lines = (line.partition(" ") for line in facts.get("tokenizer.ggml.merges", ()))
        pairs = [(first, second) for first, _, second in lines]
        return BytePairTokenizer(Vocabulary(tokens, specials), pairs, *WORDS[words])
    raise FileFormatError(
        "this file's tokenizer is none of ours",
        got=f"{file.path}: tokenizer.ggml.model = {short(kind)}, pre = {short(words)}, "
        f"{len(tokens)} tokens",
        rule="llama (SentencePiece), or gpt2 whose words are cut as one of "
        + ", ".join(filter(None, WORDS)),
        fix="the model's folder in Hugging Face's layout, with its tokenizer.json",
    )


def generate(
    model: Path = typer.Argument(
        None, help="A run, a folder, a file, or shakespeare; default the newest run."
    ),
    prompt: str = typer.Option("", help="What it goes on from."),
    max_tokens: int = typer.Option(200, help="Tokens at most.", min=1),
    temperature: float = typer.Option(0.8, help="0 takes the most probable token each time."),
    top_p: float = typer.Option(1.0, help="Only the most probable tokens, so much together."),
    top_k: int = typer.Option(None, help="Only so many of the most probable tokens.", min=1),
    stop: list[str] = typer.Option([], help="A text at which it ends; may be given often."),
    seed: int = typer.Option(0, help="Of what is drawn.", min=0),
    quantize: str = typer.Option(None, help="int8 or int4: weights of so many bits."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object a line."),
) -> None:
    """Let a language model go on from a prompt, and say how fast it was. Ctrl-C ends it."""
    report = Report(as_json)
    path = RunFolder.newest(model=LANGUAGE_MODELS[0]).path if model is None else model
    speaker = quantized(load_speaker(path), quantize)
    ids = speaker.prompt(prompt)
    clock = _Clock()
    tokens = generation.generate(
        speaker.model, ids, max_tokens, temperature=temperature, top_p=top_p, top_k=top_k,
        seed=seed, stop=speaker.ends(), slide=True,
    )  # fmt: skip
    pieces = generation.text_of(clock.counted(tokens), speaker.tokenizer, stop)
    report.piece(prompt)
    for piece in clock.watched(pieces):
        report.piece(piece)
    report.text("\n")
    report.facts("done", _speed(speaker, clock, as_json))
    if clock.stopped:
        raise typer.Exit(STOPPED)


def quantized(speaker: Speaker, kind: str | None) -> Speaker:
    """The same with weights of few bits; None: as they are.

    Raises:
        SettingError: no such kind.
    """
    if kind is None:
        return speaker
    if kind not in QUANTIZED:
        raise SettingError(
            "tito generate: no such weights",
            got=f"--quantize {kind}",
            rule="one of " + ", ".join(QUANTIZED),
            fix=f"--quantize {nearest(kind, QUANTIZED)}",
        )
    return replace(speaker, model=compression.quantize(speaker.model, kind))


class _Clock:
    """How many tokens came, and when their text did."""

    def __init__(self):
        self.began = self.first = self.last = time.perf_counter()
        self.tokens, self.stopped = 0, False

    def counted(self, tokens: Generator[int, None, str]) -> Generator[int, None, str]:
        """The same tokens."""
        while True:
            try:
                token = next(tokens)
            except StopIteration as end:
                return end.value
            self.tokens += 1
            yield token

    def watched(self, pieces: Iterator[str]) -> Iterator[str]:
        """The pieces; Ctrl-C is their end."""
        self.began = time.perf_counter()
        try:
            for number, piece in enumerate(pieces):
                self.last = time.perf_counter()
                if not number:
                    self.first = self.last
                yield piece
        except KeyboardInterrupt:
            self.stopped = True


def _speed(speaker: Speaker, clock: _Clock, as_json: bool) -> dict[str, object]:
    """How fast it was, of what the memory would allow: each token reads all weights once."""
    from tinytorch.codegen.target import Target
    from tinytorch.compiler.run.roofline import measure

    tokens = clock.tokens
    rate = max(tokens - 1, 0) / max(clock.last - clock.first, 1e-9)
    size = compression.bytes_of(speaker.model)
    share = rate * size / measure(Target.host(), num_threads()).bandwidth
    first = clock.first - clock.began
    if as_json:
        return {"tokens": tokens, "tokens a second": rate, "first token seconds": first,
                "model bytes": size, "share of memory bandwidth": share}  # fmt: skip
    return {
        "speed": f"{rate:.1f} tokens a second, the first after {first:.2f} s; {tokens} in all",
        "model": f"{size / 1e6:.1f} MB of weights, {num_threads()} threads",
        "memory": f"{100 * share:.0f} % of its bandwidth, if each token read all weights from it",
    }
