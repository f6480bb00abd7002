"""`tokenizer.json`, the file of the library `tokenizers`, for the kinds that are here.

Byte-level byte-pair encoding as the files of GPT-2, GPT-4 and Llama 3 have it, and pieces with byte
fallback as Llama's have it, blanks spelled by a normalizer or by "Metaspace". A file that asks for
anything else is refused by name: ids that are nearly right would spoil a model without a sound.

Knows that format and the constructors of tokenizers, never how they work.

Source: github.com/huggingface/tokenizers, tokenizers/src/tokenizer/serialization.rs and the modules
beside it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

from tinytorch.base import files
from tinytorch.base.errors import FileFormatError, SettingError, short
from tinytorch.text.byte_pairs import BytePairTokenizer
from tinytorch.text.merges import MergingTokenizer
from tinytorch.text.sentence_pieces import BLANK, PREFIXES, SentencePieceTokenizer
from tinytorch.text.vocabulary import UNKNOWN, Vocabulary, read_object
from tinytorch.text.words import Words

VERSION = "1.0"
Parsed = dict[str, Any]


def load_tokenizer_json(path: str | os.PathLike[str]) -> MergingTokenizer:
    """The tokenizer in a `tokenizer.json`.

    Added tokens become special tokens: `encode(text, specials=True)` finds them in a text, as the
    library always does. What it adds to a text (its post-processor) is left to the caller.

    Args:
        path: the file.

    Returns:
        a BytePairTokenizer or a SentencePieceTokenizer.

    Raises:
        FileFormatError: the file holds something else, or a tokenizer of a kind that is not here.
        SettingError: its merges do not fit its vocabulary.
        StorageError: there is no such file.
    """
    whole = read_object(path)
    reader = _Reader(path, whole)
    model = reader.part("model", "BPE")
    for name, allowed in _MODEL.items():
        if model.get(name) not in allowed:
            reader.refuse(f"model.{name} = {short(model.get(name))}")
    added = reader.added()
    vocabulary = Vocabulary(reader.tokens(model, added), added.values())
    pairs = reader.pairs(model)
    whole_words = bool(model.get("ignore_merges"))
    if not model.get("byte_fallback"):
        return BytePairTokenizer(vocabulary, pairs, reader.words(), whole_words)
    if whole_words:
        reader.refuse("model.ignore_merges beside byte_fallback")
    prefix, single = reader.blanks()
    return SentencePieceTokenizer(vocabulary, pairs, None, prefix, single)


# Settings of the model that are here in one way only.
_MODEL: dict[str, tuple[object, ...]] = {
    "dropout": (None, 0, 0.0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "ignore_merges": (None, False, True),
}

# Patterns of the library `regex` that published files have, and what cuts as they do; the first of
# each kind is written. There \z is a text's end, and $ a line's.
_LATER = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|END\s*[\r\n]+|\s+(?!\S)|\s+"
)
PATTERNS: dict[str, Words] = {
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": "gpt2",
    _LATER.replace("DIGITS", r"\p{N}{1,3}").replace("END", ""): "llama3",
    _LATER.replace("DIGITS", r"\p{N}").replace("END", ""): "qwen2",
    _LATER.replace("DIGITS", r"\p{N}{1,3}").replace("END", r"\s+\z|"): "cl100k",
    " *[^ ]+| +": "blanks",
    # As tiktoken spells it, before it told the text's end apart.
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|"
    r"\s*[\r\n]|\s+(?!\S)|\s+": "llama3",
}


class _Reader:
    """The parts of one file, checked."""

    def __init__(self, path: str | os.PathLike[str], whole: Parsed):
        self._path, self._whole = path, whole

    def refuse(self, got: str) -> NoReturn:
        """This file is not one of ours."""
        raise FileFormatError(
            "this tokenizer.json is of a kind that cannot be read",
            got=f"{self._path}: {got}",
            rule="BPE with the pre-tokenizer ByteLevel, alone or behind a Split by the pattern of"
            " GPT-2, GPT-4, Llama 3 or Qwen 2; or BPE with byte_fallback and blanks spelled by"
            " Prepend and Replace, or by Metaspace without split, as Llama's",
            fix="read it with the library tokenizers, or copy the file again",
        )

    def part(self, name: str, kind: str) -> Parsed:
        """A part, which must be of that type."""
        found = self._whole.get(name)
        if not isinstance(found, dict) or found.get("type", kind) != kind:
            kinds = found.get("type") if isinstance(found, dict) else found
            self.refuse(f"{name} of type {short(kinds)}")
        return cast(Parsed, found)

    def added(self) -> dict[int, str]:
        """The added tokens by id."""
        out: dict[int, str] = {}
        for token in self._whole.get("added_tokens") or ():
            id, text = (
                (token.get("id"), token.get("content")) if isinstance(token, dict) else (0, 0)
            )
            if type(id) is not int or not isinstance(text, str) or out.get(id, text) != text:
                self.refuse(f"added token {short(token)}")
            if token.get("single_word") or token.get("lstrip") or token.get("rstrip"):
                self.refuse(f"added token {text!r} takes blanks or stands for whole words only")
            out[id] = text
        return dict(sorted(out.items()))

    def tokens(self, model: Parsed, added: dict[int, str]) -> list[str]:
        """All tokens by id."""
        vocab = model.get("vocab")
        if not isinstance(vocab, dict):
            self.refuse(f"vocab {short(vocab)}")
        ids = [*vocab.items(), *((text, id) for id, text in added.items() if text not in vocab)]
        by_id: dict[object, str] = {id: text for text, id in ids}
        wrong = any(vocab.get(text, id) != id for id, text in added.items())
        if wrong or len(by_id) < len(ids) or any(type(id) is not int for id in by_id):
            self.refuse("an id that is no number, or of two tokens")
        missing = next((id for id in range(len(by_id)) if id not in by_id), None)
        if missing is not None:
            self.refuse(f"{len(by_id)} tokens, and none with the id {missing}")
        return [by_id[id] for id in range(len(by_id))]

    def pairs(self, model: Parsed) -> list[tuple[str, str]]:
        """The merges: each a text with a blank between two tokens, or a list of two."""
        out: list[tuple[str, str]] = []
        for merge in model.get("merges") or ():
            halves = merge.split(" ") if isinstance(merge, str) else merge
            if not isinstance(halves, list) or len(halves) != 2:
                self.refuse(f"merge {short(merge)}")
            first, second = halves
            if not isinstance(first, str) or not isinstance(second, str):
                self.refuse(f"merge {short(merge)}")
            out.append((first, second))
        return out

    def words(self) -> Words:
        """How a byte-level tokenizer cuts a text."""
        before, normalizer = self._whole.get("pre_tokenizer"), self._whole.get("normalizer")
        parts = [before]
        if isinstance(before, dict) and before.get("type") == "Sequence":
            parts = before.get("pretokenizers")
        if normalizer or not isinstance(parts, list) or not all(isinstance(x, dict) for x in parts):
            self.refuse(f"normalizer {short(normalizer)}, pre_tokenizer {short(before)}")
        *splits, level = cast("list[Parsed]", parts) or [{}]
        if level.get("type") != "ByteLevel" or level.get("add_prefix_space"):
            self.refuse(f"pre_tokenizer {short(level)}")
        if not splits:
            return "gpt2" if level.get("use_regex", True) else "whole"
        pattern = splits[0].get("pattern")
        known = PATTERNS.get(str(pattern.get("Regex"))) if isinstance(pattern, dict) else None
        # What a pattern finds is kept by both: it finds every character.
        keeps = (splits[0].get("behavior"), splits[0].get("invert")) in _KEEPING
        if len(splits) > 1 or level.get("use_regex", True) or known is None or not keeps:
            self.refuse(f"pre_tokenizer {short(splits)}")
        return known

    def blanks(self) -> tuple[str, bool]:
        """Where a blank is put in front, and whether before a blank too."""
        normalizer, before = self._whole.get("normalizer"), self._whole.get("pre_tokenizer")
        steps = normalizer.get("normalizers", [normalizer]) if isinstance(normalizer, dict) else []
        if before is None and steps == [_PREPEND, _REPLACE]:
            return "always", False
        if before is None and steps == [_REPLACE]:
            return "never", False
        if normalizer is None and isinstance(before, dict) and before.get("type") == "Metaspace":
            scheme = before.get("prepend_scheme")
            if (
                scheme in PREFIXES
                and before.get("split") is False
                and before.get("replacement") == BLANK
            ):
                return scheme, True
        self.refuse(f"normalizer {short(normalizer)}, pre_tokenizer {short(before)}")


_KEEPING = (("Isolated", False), ("Removed", True))
_PREPEND = {"type": "Prepend", "prepend": BLANK}
_REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": BLANK}


def save_tokenizer_json(tokenizer: MergingTokenizer, path: str | os.PathLike[str]) -> None:
    """Write a `tokenizer.json`, which the library `tokenizers` reads with `Tokenizer.from_file`.

    Its ids are those of `encode(text, specials=True)`. It adds nothing to a text.

    Args:
        tokenizer: a BytePairTokenizer or a SentencePieceTokenizer.
        path: the file; one that is there is replaced.

    Raises:
        SettingError: another kind of tokenizer.
        StorageError: the place cannot be written.

    Differs: that library has no merges of equal rank; where a piece can be made of two pairs that
    overlap ("aaa" of a and aa, or of aa and a), it takes the one that is written first.
    """
    specials = tokenizer.vocabulary.specials
    ids = {token: i for i, token in enumerate(tokenizer.vocabulary.tokens)}
    if isinstance(tokenizer, SentencePieceTokenizer):
        unknown = UNKNOWN if UNKNOWN in specials else None
        kind = _with_blanks(tokenizer)
        model = {"byte_fallback": True, "fuse_unk": True, "unk_token": unknown}
    elif isinstance(tokenizer, BytePairTokenizer):
        kind, model = (
            _byte_level(tokenizer.words),
            {"byte_fallback": False, "fuse_unk": False, "unk_token": None},
        )
        model["ignore_merges"] = tokenizer.whole_words
    else:
        raise SettingError(
            "this tokenizer cannot be written as tokenizer.json",
            got=type(tokenizer).__name__,
            rule="a BytePairTokenizer or a SentencePieceTokenizer",
            fix="tokenizer.save(path)",
        )
    added = [
        {"id": ids[name], "content": name, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for name in specials
    ]  # fmt: skip
    model = {
        "type": "BPE", "dropout": None, "ignore_merges": False, **model,
        "continuing_subword_prefix": None, "end_of_word_suffix": None, "vocab": ids,
        "merges": [list(pair) for pair in _in_order(tokenizer)],
    }  # fmt: skip
    whole = {"version": VERSION, "truncation": None, "padding": None, "added_tokens": added}
    text = json.dumps(whole | kind | {"model": model}, ensure_ascii=False, indent=1)
    with files.replacing(Path(files.user_path(path))) as file:
        file.write(text.encode("utf-8", "surrogatepass"))


def _in_order(tokenizer: BytePairTokenizer | SentencePieceTokenizer) -> Sequence[tuple[str, str]]:
    """The merges, by rank."""
    if isinstance(tokenizer, BytePairTokenizer):
        return tokenizer.merges
    order = sorted(range(len(tokenizer.merges)), key=tokenizer.ranks.__getitem__)
    return [tokenizer.merges[i] for i in order]


def _byte_level(words: Words) -> Parsed:
    level: Parsed = {
        "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
        "use_regex": words == "gpt2",
    }  # fmt: skip
    before = level
    if words not in ("gpt2", "whole"):
        pattern = next(p for p, kind in PATTERNS.items() if kind == words)
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
                 "invert": False}  # fmt: skip
        before = {"type": "Sequence", "pretokenizers": [split, level]}
    return {"normalizer": None, "pre_tokenizer": before, "post_processor": None, "decoder": level}


def _with_blanks(tokenizer: SentencePieceTokenizer) -> Parsed:
    normalizer, before = None, None
    if tokenizer.single:
        before = {
            "type": "Metaspace", "replacement": BLANK, "prepend_scheme": tokenizer.prefix,
            "split": False,
        }  # fmt: skip
    elif tokenizer.prefix == "never":
        normalizer = {"type": "Sequence", "normalizers": [_REPLACE]}
    elif tokenizer.prefix == "always":
        normalizer = {"type": "Sequence", "normalizers": [_PREPEND, _REPLACE]}
    else:
        raise SettingError(
            "this tokenizer cannot be written as tokenizer.json",
            got="prefix='first', single=False",
            rule="that format has a blank in front of the text alone only where there is none yet",
            fix="prefix='always', or single=True; or tokenizer.save(path)",
        )
    steps: list[Parsed] = [
        {"type": "Replace", "pattern": {"String": BLANK}, "content": " "},
        {"type": "ByteFallback"}, {"type": "Fuse"},
    ]  # fmt: skip
    if tokenizer.prefix != "never":
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    decoder = {"type": "Sequence", "decoders": steps}
    return {
        "normalizer": normalizer, "pre_tokenizer": before, "post_processor": None,
        "decoder": decoder,
    }  # fmt: skip
