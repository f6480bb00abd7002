"""Texts that `tito` learns from, and a run that learns one: a GPT that says which token comes next.

Knows names and files of texts, kinds of tokenizers, and the parts of such a run; the tokenizers
are those of `text`, the model is that of `models`, how it speaks is in `generation`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

import tinytorch as tt
from tinytorch import data, generation, models
from tinytorch.base.errors import DataError, SettingError
from tinytorch.cli.corpus import Source, held_tokens, kept_tokens, save_tokenizer
from tinytorch.cli.learning import AHEAD, Learning
from tinytorch.cli.recipes import WEIGHT_DECAY, nearest
from tinytorch.cli.report import Report
from tinytorch.cli.runs import RunFolder, TextSettings
from tinytorch.data import DataLoader, MappedArray, RandomSampler, TextWindows
from tinytorch.models import GPT, GPTConfig
from tinytorch.models.gpt import next_token_loss
from tinytorch.text import BytePairTokenizer, ByteTokenizer, CharacterTokenizer, Tokenizer
from tinytorch.training import Trainer
from tinytorch.training.history import Progress
from tinytorch.training.trainer import Callback

HELD_BACK = 0.1  # of a text, its end: what is measured on, as in nanoGPT (Karpathy 2022)
TEST_BATCH = 64  # windows measured together
# AdamW's rate for embeddings, norms and the head, of Muon's for the matrices: of 0.05, 0.15 and 0.5
# of 0.02 the middle one was best (docs/log.md, 2026-11-27).
REST_RATE = 0.15
BETAS = (0.9, 0.95)  # of AdamW: Brown et al. 2020, https://arxiv.org/abs/2005.14165, appendix B
SAMPLED, WARMTH = 200, 0.8  # tokens shown after an epoch, and their temperature


# --- texts ---


@dataclass(frozen=True)
class Text:
    """A text that has a name.

    Args:
        title: for people.
        load: (folder, progress) -> the text.
    """

    title: str
    load: Callable[[Path | None, Callable | None], str]


def _python(folder: Path | None, progress: Callable | None) -> str:
    from pydoc_data.topics import topics  # here: half a megabyte, for this text alone

    return "\n".join(topics[name] for name in sorted(topics))


TEXTS = {
    "python": Text("Python's own language reference", _python),
    "shakespeare": Text("a million characters of Shakespeare's plays", data.load_tiny_shakespeare),
}
DEFAULT_TEXT = "python"


def text_named(name: str, folder: Path | None = None, progress: Callable | None = None) -> Source:
    """The text of a name, or of a file in UTF-8.

    Args:
        name: one of TEXTS, or a path.
        folder: of the official data files.
        progress: told about downloads.

    Raises:
        SettingError: neither a name nor a file.
    """
    if name in TEXTS:
        return Source(TEXTS[name].load(folder, progress))
    path = Path(name)
    if not path.is_file():
        raise SettingError(
            "there is no such text",
            got=f"--data {name}",
            rule="a file in UTF-8, or one of " + ", ".join(TEXTS),
            fix=f"tito train gpt --data {nearest(name, TEXTS)}",
        )
    return Source(path)


# --- tokenizers ---

TOKENIZERS: dict[str, Callable[[Source, int], Tokenizer]] = {
    "characters": lambda text, size: CharacterTokenizer("".join(text.characters())),
    "bytes": lambda text, size: ByteTokenizer(),
    "bpe": lambda text, size: BytePairTokenizer.train(text.some(), size - 256),
}


def _check_tokenizer(settings: TextSettings) -> None:
    if settings.tokenizer not in TOKENIZERS:
        raise SettingError(
            "tito knows no tokenizer of that name",
            got=f"--tokenizer {settings.tokenizer}",
            rule="one of " + ", ".join(TOKENIZERS),
            fix=f"--tokenizer {nearest(settings.tokenizer, TOKENIZERS)}",
        )
    if settings.tokenizer == "bpe" and settings.vocabulary < 256:
        raise SettingError(
            "a vocabulary of byte pairs begins with the 256 bytes",
            got=f"--vocabulary {settings.vocabulary}",
            rule="at least 256",
            fix="--vocabulary 1024",
        )


# --- a run ---


class Sample(Callback):
    """Lets the model speak after each epoch, when its line is printed and its state is saved.

    Args:
        tokenizer: of its tokens.
        seed: of what it draws; each epoch the same.
        report: where it goes; None: nowhere.
    """

    def __init__(self, tokenizer: Tokenizer, seed: int, report: Report | None):
        self.tokenizer, self.seed, self.report = tokenizer, seed, report
        self.told = 0  # epochs after which it spoke

    def saved(self, trainer: Trainer, place: Path) -> None:
        """Print the sample."""
        epoch = trainer.run.epoch
        if self.report is not None and epoch > self.told:
            self.told = epoch
            self.report.sample(epoch, sample(cast(GPT, trainer.model), self.tokenizer, self.seed))


def sample(model: GPT, tokenizer: Tokenizer, seed: int) -> str:
    """What a model says of itself, from a line's end on."""
    prompt = first_token(tokenizer)
    spoken = generation.stream(
        model, prompt, tokenizer, SAMPLED, temperature=WARMTH, seed=seed, slide=True
    )
    return "".join(spoken)


def first_token(tokenizer: Tokenizer) -> np.ndarray:
    """Where a text without a prompt begins: behind a line's end, or the first token of all."""
    try:
        return tokenizer.encode("\n")[:1]
    except DataError:  # a text of a single line
        return np.zeros(1, np.int64)


class Texts(Learning):
    """A GPT that learns a text.

    Args:
        settings: what was asked.
        progress: who shows it, or None for the best that the output can do.
        downloading: told about downloads, or None.
        report: where samples go, or None.
        begin: the run of these settings, asked for when they can be trusted, if the text is so long
            that its tokens are kept there; None: they are held in memory.

    Raises:
        DataError: the text is shorter than a context, or another one than before.
        FileFormatError: it is no UTF-8.
        SettingError: a size outside its range; no such text or tokenizer.
    """

    verbs = {"generate": "what it says", "evaluate": "its loss", "curve": "what it learned when"}
    settings: TextSettings
    model: GPT

    def __init__(
        self, settings: TextSettings, progress: Progress | None = None,
        downloading: Callable | None = None, report: Report | None = None,
        begin: Callable[[TextSettings], RunFolder] | None = None,
    ):  # fmt: skip
        folder = None if settings.data_dir is None else Path(settings.data_dir)
        _check_tokenizer(settings)
        _config(settings, vocabulary=1)  # wrong sizes are refused before anything takes its time
        source = text_named(settings.data, folder, downloading)
        settings = _of_text(settings, source.digest())
        self.tokens, self.held_back = self._tokens(source, settings, begin)
        length, vocabulary = settings.length, len(self.tokenizer)
        tt.manual_seed(settings.seed)
        model = GPT(_config(settings, vocabulary))
        windows = TextWindows(self.tokens, length, step=1, vocab=vocabulary)
        count = max(1, len(self.tokens) // length)  # an epoch reads as many tokens as there are
        loader = DataLoader(
            windows, min(settings.batch_size, count), seed=settings.seed, drop_last=True,
            sampler=RandomSampler(windows, num_samples=count), prefetch=AHEAD,
        )  # fmt: skip
        measured = DataLoader(TextWindows(self.held_back, length, vocab=vocabulary), TEST_BATCH)
        super().__init__(
            settings, model, optimizer_of(model, settings.lr), (loader, measured), next_token_loss,
            progress, (Sample(self.tokenizer, settings.seed, report),),
        )  # fmt: skip

    def _tokens(
        self, source: Source, settings: TextSettings, begin: Callable | None
    ) -> tuple[np.ndarray, np.ndarray] | tuple[MappedArray, MappedArray]:
        """What is learned and what is held back; the tokenizer is learned on the way."""

        def learned() -> Tokenizer:
            return TOKENIZERS[settings.tokenizer](source, settings.vocabulary)

        if source.is_long and begin is not None:
            run = begin(settings)
            self.tokenizer, tokens = kept_tokens(source, settings.digest, learned, run)
        else:
            self.tokenizer = learned()
            tokens = held_tokens(source, self.tokenizer)
        cut = int(len(tokens) * (1 - HELD_BACK))
        if len(tokens) - cut <= settings.length:
            raise DataError(
                "the text is too short for this context",
                got=f"{len(tokens)} tokens, of which {len(tokens) - cut} are held back to measure",
                rule=f"more than --length {settings.length} in both parts",
                fix=f"--length {max(1, (len(tokens) - cut - 1) // 2)}, or a longer text",
            )
        if isinstance(tokens, MappedArray):
            return tokens.part(0, cut), tokens.part(cut, len(tokens))
        return tokens[:cut], tokens[cut:]

    def restore(self, folder: RunFolder) -> None:
        """Take the weights that `save` wrote."""
        saved = models.load_folder(folder.path)
        self.model.load_state_dict(saved.state_dict())

    def decided(self) -> dict[str, object]:
        """Tokens and sizes."""
        s = self.settings
        title = TEXTS[s.data].title if s.data in TEXTS else s.data
        return {
            "data": title,
            "tokens": f"{len(self.tokens)} to train, {len(self.held_back)} held back; "
            f"{len(self.tokenizer)} different {s.tokenizer}",
            "model": f"{s.model}, {s.layers} layers, {s.heads} heads, size {s.size}, context "
            f"{s.length}, {self.weights()} weights",
            "optimizer": f"Muon, lr up to {s.lr:g}, then falling to 0; AdamW for vectors, "
            f"embeddings and head, {REST_RATE * s.lr:g}",
        }

    def found(self, values: dict[str, float], as_json: bool) -> dict[str, object]:
        """Loss, and how many tokens it is as if the model chose among."""
        loss = values["loss"]
        if as_json:
            return {"validation loss": loss, "perplexity": math.exp(loss)}
        return {"validation loss": f"{loss:.4f}, a choice among {math.exp(loss):.2f} tokens"}

    def save(self, folder: RunFolder, values: dict[str, float]) -> None:
        """The model in Hugging Face's layout, with its tokenizer."""
        models.save_folder(self.model, folder.path)
        save_tokenizer(self.tokenizer, folder.tokenizer)


def _of_text(settings: TextSettings, digest: str) -> TextSettings:
    """The settings with the text's digest; an error if another one is in them."""
    if settings.digest not in ("", digest):
        raise DataError(
            "the text is not the one that this run began with",
            got=f"{settings.data} with the SHA-256 {digest[:12]}...",
            rule=f"the text with {settings.digest[:12]}...",
            fix="a new run, without --resume",
        )
    return replace(settings, digest=digest)


def _config(settings: TextSettings, vocabulary: int) -> GPTConfig:
    s = settings
    return GPTConfig(vocabulary, s.layers, s.heads, s.size, s.length, s.dropout)


def optimizer_of(model: GPT, lr: float) -> tt.optim.Together:
    """Muon for the matrices of the blocks, AdamW for all the rest.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon, which says why the
    embeddings and the head are left to AdamW.
    """
    inside = [p for p in model.blocks.parameters() if p.ndim == 2]
    known = {id(p) for p in inside}
    others = [p for p in model.parameters() if id(p) not in known]
    return tt.optim.Together(
        tt.optim.Muon(inside, lr=lr, weight_decay=WEIGHT_DECAY),
        tt.optim.AdamW(others, lr=REST_RATE * lr, weight_decay=WEIGHT_DECAY, betas=BETAS),
    )
