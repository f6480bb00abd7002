"""Pieces of sentences as SentencePiece has them, blanks included: the tokenizers of Llama's family.

The tokenizer, and the two files in which it comes: llama2.c's `tokenizer.bin`, and SentencePiece's
own `tokenizer.model`.

Knows pieces, their order and those two files, never what a text is for.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Iterator, Sequence

from tinytorch.base import files
from tinytorch.base.arguments import flag
from tinytorch.base.errors import FileFormatError, SettingError, short
from tinytorch.text.merges import MergingTokenizer, Pair
from tinytorch.text.vocabulary import LONGEST, Vocabulary, read_lists, write_lists

KIND = "sentence-piece tokenizer"
BLANK = "\N{LOWER ONE EIGHTH BLOCK}"  # how a piece spells a blank
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))  # pieces for what no other piece holds
PREFIXES = ("always", "first", "never")


class SentencePieceTokenizer(MergingTokenizer):
    """Byte-pair encoding of whole sentences, blanks included, with bytes for rare characters.

    A text gets a blank in front, so that its first word is a word like others. Then each character
    is its piece, or where there is none the pieces of its bytes; then pairs are merged, always that
    of lowest rank, the leftmost first. Made by `load_tokenizer`.

    Args:
        vocabulary: the pieces, a blank in them spelled as U+2581, with `<0x00>` to `<0xFF>`; and
            special tokens.
        merges: pairs of pieces whose joint is a piece.
        ranks: of each merge, >= 0; None: its place. Equal ranks: the leftmost comes first.
        prefix: where a blank is put in front: of the text and behind each special token ("always",
            the default, as in Llama's files), of the text alone ("first"), or not ("never").
        single: not where there is a blank already; then a text that begins with a blank comes back
            without it. Default False.

    Raises:
        SettingError: a byte is missing, a merge does not fit, or a setting is outside its range.

    Cost: as of `BytePairTokenizer`. A vocabulary in which no piece has a blank behind another
        character, as in Llama's, is merged word by word; another one text by text.

    Source: Kudo & Richardson 2018, https://arxiv.org/abs/1808.06226; the order of merges:
    github.com/karpathy/llama2.c, run.c, encode.

    Differs from SentencePiece: the character U+2581 in a text is written as its three bytes and
    comes back as it was; there it becomes a blank.

    Example:
        >>> pieces = [*BYTES, BLANK, "l", "o", "lo", BLANK + "lo"]
        >>> t = SentencePieceTokenizer.from_scores(pieces, [0.0] * 256 + [-3, -4, -5, -1, -2])
        >>> ids = t.encode("lo lo!")
        >>> [t.vocabulary.token(i) for i in ids], t.decode(ids)
        (['▁lo', '▁lo', '<0x21>'], 'lo lo!')
    """

    def __init__(
        self, vocabulary: Vocabulary, merges: Sequence[tuple[str, str]],
        ranks: Sequence[int] | None = None, prefix: str = "always", single: bool = False,
    ):  # fmt: skip
        self.merges = tuple((first, second) for first, second in merges)
        self.ranks = tuple(range(len(self.merges)) if ranks is None else map(int, ranks))
        _check([prefix][prefix in PREFIXES :], f"prefix is none of {PREFIXES}")
        self.prefix = prefix
        self.single = flag("SentencePieceTokenizer", "single", single)
        id_of = {token: i for i, token in enumerate(vocabulary.tokens)}
        _check([token for token in BYTES if token not in id_of], "the piece of a byte is missing")
        pieces = _pieces(vocabulary)
        if len(self.ranks) != len(self.merges) or min(self.ranks, default=0) < 0:
            _check([f"{len(self.ranks)} ranks"], f"{len(self.merges)} merges need as many >= 0")
        found: dict[Pair, tuple[int, int]] = {}
        for rank, (first, second) in zip(self.ranks, self.merges, strict=True):
            if not {first, second, first + second} <= pieces.keys() or not first or not second:
                _check([f"{first} {second}"], "a merge is not of pieces, or does not make one")
            found[id_of[first], id_of[second]] = rank, id_of[first + second]
        # A blank behind another character: then merges go across words.
        crossed = any(re.search("[^ ] ", pieces[f + s]) for f, s in self.merges)
        characters = {ord(text): id_of[p] for p, text in pieces.items() if len(text) == 1}
        super().__init__(
            vocabulary, found, "whole" if crossed else "blanks", [id_of[b] for b in BYTES],
            characters,
        )  # fmt: skip
        self._bytes = [pieces.get(token, token).encode() for token in vocabulary.tokens]
        for byte, id in enumerate(self._byte_ids):
            self._bytes[id] = bytes([byte])

    @classmethod
    def from_scores(
        cls,
        tokens: Sequence[str],
        scores: Sequence[float],
        specials: Iterable[str] = (),
        prefix: str = "always",
    ) -> SentencePieceTokenizer:
        """The tokenizer whose merges are all pairs that make a piece, the highest score first.

        Args:
            tokens: the pieces by id; special tokens may be among them.
            scores: of each, finite numbers.
            specials: the special tokens.
            prefix: as of the class.

        Raises:
            SettingError: as the class says; or there are not as many scores as tokens.
        """
        vocabulary = Vocabulary(tokens, specials)
        if len(scores) != len(tokens):
            _check([f"{len(scores)} scores"], f"{len(tokens)} pieces need as many")
        pieces = _pieces(vocabulary)
        score = dict(zip(tokens, scores, strict=True))
        made = [
            (-score[piece], piece[:at], piece[at:])
            for piece in pieces
            for at in range(1, len(piece))
            if piece[:at] in pieces and piece[at:] in pieces
        ]
        place = {token: i for i, token in enumerate(tokens)}
        # Of one piece the halves in the order of the vocabulary, as transformers writes them.
        made.sort(key=lambda m: (m[0], place[m[1] + m[2]], place[m[1]], place[m[2]]))
        order = {s: rank for rank, s in enumerate(sorted({m[0] for m in made}))}
        pairs = [(first, second) for _, first, second in made]
        return cls(vocabulary, pairs, [order[s] for s, _, _ in made], prefix)

    def _prepared(self, text: str, first: bool) -> str:
        """The text with a blank in front, where one belongs.

        Args:
            text: at least one character.
            first: whether nothing stands before it; else a special token does.
        """
        wanted = self.prefix == "always" or (self.prefix == "first" and first)
        return f" {text}" if wanted and not (self.single and text[0] == " ") else text

    def token_bytes(self, id: int) -> bytes:
        """What a token stands for; of a special token its name.

        Args:
            id: in 0..V-1.
        """
        return self._bytes[self.vocabulary.checked([id])[0]]

    def join(self, ids: list[int]) -> str:
        """The text, without the blanks that were put in front; what is no UTF-8 is U+FFFD."""
        out, fresh = [], self.prefix != "never"
        for id in ids:
            data = self._bytes[id]
            out.append(data[1:] if fresh and data[:1] == b" " else data)
            fresh = self.prefix == "always" and id in self._special_ids
        return b"".join(out).decode("utf-8", "replace")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file.

        Args:
            path: the file; one that is there is replaced.

        Raises:
            StorageError: the place cannot be written.
        """
        place = {token: i for i, token in enumerate(self.vocabulary.tokens)}
        pairs = zip(self.ranks, self.merges, strict=True)
        state = {
            "tokens": list(self.vocabulary.tokens),
            "specials": list(self.vocabulary.specials),
            "merges": [f"{rank} {place[first]} {place[second]}" for rank, (first, second) in pairs],
            "prefix": [self.prefix, *["single"] * self.single],
        }
        write_lists(path, KIND, state)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SentencePieceTokenizer:
        """What `save` wrote.

        Args:
            path: the file.

        Raises:
            FileFormatError: the file holds something else.
            SettingError: its merges do not fit its tokens.
            StorageError: there is no such file.
        """
        state = read_lists(path, KIND, ("tokens", "specials", "merges", "prefix"))
        tokens, ranks, pairs = state["tokens"], [], []
        for line in state["merges"]:
            numbers = [int(n) for n in line.split(" ") if n.isascii() and n.isdigit()]
            if len(numbers) != 3 or max(numbers[1:]) >= len(tokens):
                raise FileFormatError(
                    f"this file is no {KIND} that can be read",
                    got=f"{path}: the merge {short(line)}",
                    rule=f"rank, first and second token, with {len(tokens)} tokens",
                    fix="copy or save the file again",
                )
            ranks.append(numbers[0])
            pairs.append((tokens[numbers[1]], tokens[numbers[2]]))
        prefix, *single = state["prefix"] or [""]
        vocabulary = Vocabulary(tokens, state["specials"])
        return cls(vocabulary, pairs, ranks, prefix, single == ["single"])


def _pieces(vocabulary: Vocabulary) -> dict[str, str]:
    """The pieces that texts are made of, and their texts: neither special nor bytes."""
    apart = {*vocabulary.specials, *BYTES}
    out = {token: token.replace(BLANK, " ") for token in vocabulary.tokens if token not in apart}
    _check([t for t in out if " " in t], "a blank in a piece is not spelled as U+2581")
    return out


def _check(wrong: Sequence[str], what: str) -> None:
    """Raise if there is anything wrong."""
    for token in wrong[:1]:
        raise SettingError(
            f"SentencePieceTokenizer: {what}",
            got=repr(token),
            rule="256 pieces <0x00> to <0xFF>, merges of pieces into pieces, special tokens",
            fix="load_tokenizer(path) reads a tokenizer's own file",
        )


# --- llama2.c's file ---

# The names of the first three tokens; that file has line ends around the last two.
LLAMA_SPECIALS = ("<unk>", "<s>", "</s>")


def read_llama2c(path: str | os.PathLike[str]) -> SentencePieceTokenizer:
    """The tokenizer in a `tokenizer.bin` of llama2.c.

    Args:
        path: the file: the length of the longest piece (int32), then for each piece its score
            (float32), its length in bytes (int32) and its UTF-8, blanks as they are.

    Raises:
        FileFormatError: the file holds something else.
        StorageError: there is no such file.

    Source: github.com/karpathy/llama2.c, tokenizer.py, export.
    """
    data = files.contents(files.user_path(path), LONGEST, links=True)
    tokens, scores, at = [], [], 4
    longest = int.from_bytes(data[:4], "little")
    while at < len(data):
        if at + 8 > len(data):
            raise _damaged(path, f"it ends in token {len(tokens)}")
        score, length = struct.unpack_from("<fi", data, at)
        text = data[at + 8 : at + 8 + max(length, 0)]
        if not 0 < length <= longest + 8 or len(text) < length or not score == score:
            raise _damaged(path, f"token {len(tokens)} of {length} bytes, score {score}")
        try:
            tokens.append(text.decode().replace(" ", BLANK))
        except UnicodeDecodeError as error:
            raise _damaged(path, f"token {len(tokens)}, {error}") from None
        scores.append(score)
        at += 8 + length
    names = tuple(token.strip("\n") for token in tokens[:3])
    if names != LLAMA_SPECIALS or len(set(tokens)) < len(tokens):
        raise _damaged(path, f"tokens that begin with {short(names)}, or one twice")
    tokens[:3] = names
    return SentencePieceTokenizer.from_scores(tokens, scores, LLAMA_SPECIALS)


def _damaged(path: str | os.PathLike[str], got: str) -> FileFormatError:
    return FileFormatError(
        "this file is no tokenizer that can be read",
        got=f"{path}: {got}",
        rule="llama2.c's tokenizer.bin, or SentencePiece's tokenizer.model, whole",
        fix="copy the file again, or export it again",
    )


# --- SentencePiece's file: a message of Protocol Buffers ---

NORMAL, UNKNOWN_PIECE, CONTROL, USER_DEFINED, UNUSED, BYTE_PIECE = range(1, 7)
BPE = 2  # model_type of the trainer's settings


def read_sentencepiece(path: str | os.PathLike[str]) -> SentencePieceTokenizer:
    """The tokenizer in a `tokenizer.model` of SentencePiece.

    Args:
        path: the file; a model of byte-pair encoding with byte fallback, whose text is not
            normalised but for the blank in front: as in Llama's.

    Raises:
        FileFormatError: the file holds something else, or a model of another kind.
        StorageError: there is no such file.

    Source: github.com/google/sentencepiece, src/sentencepiece_model.proto; the encoding of its
    fields: protobuf.dev/programming-guides/encoding.
    """
    data = files.contents(files.user_path(path), LONGEST, links=True)
    tokens: list[str] = []
    scores: list[float] = []
    kinds: list[int] = []
    settings: dict[int, dict[int, bytes | int]] = {2: {}, 3: {}}
    try:
        for number, content in _fields(data):
            if number == 1:
                piece = dict(_fields(_bytes_of(content)))
                tokens.append(_bytes_of(piece[1]).decode())
                scores.append(struct.unpack("<f", _bytes_of(piece.get(2, bytes(4))))[0])
                kinds.append(int(piece.get(3, NORMAL)))
            elif number in settings:
                settings[number] = dict(_fields(_bytes_of(content)))
    except (ValueError, KeyError, IndexError, struct.error) as error:
        raise _damaged(path, f"no message of Protocol Buffers: {error!r}") from None
    trainer, normalizer = settings[2], settings[3]
    wrong = {
        "model_type": trainer.get(3, 1) != BPE,
        "byte_fallback": sum(kind == BYTE_PIECE for kind in kinds) != len(BYTES),
        "precompiled_charsmap": bool(normalizer.get(2)),
        "remove_extra_whitespaces": bool(normalizer.get(4, 1)),
        "escape_whitespaces": not normalizer.get(5, 1),
        "treat_whitespace_as_suffix": bool(trainer.get(24)),
        "user-defined or unused pieces": bool({USER_DEFINED, UNUSED} & set(kinds)),
        "a score that is no number": any(score != score for score in scores),
    }
    if any(wrong.values()):
        raise FileFormatError(
            "this SentencePiece model is of a kind that cannot be read",
            got=f"{path}: {', '.join(name for name, bad in wrong.items() if bad)}",
            rule="model_type=bpe, byte_fallback=true, normalization_rule_name=identity,"
            " remove_extra_whitespaces=false, as in Llama's",
            fix="read it with the library sentencepiece, or train one with these settings",
        )
    specials = [t for t, kind in zip(tokens, kinds, strict=True) if kind in _SPECIAL_KINDS]
    prefix = "always" if normalizer.get(3, 1) else "never"
    return SentencePieceTokenizer.from_scores(tokens, scores, specials, prefix)


_SPECIAL_KINDS = (UNKNOWN_PIECE, CONTROL)


def _bytes_of(content: bytes | int) -> bytes:
    if isinstance(content, int):
        raise ValueError("a number in place of bytes")
    return content


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """The numbered fields of a message: whole numbers, or bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        length, at = _varint(data, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
        if at + length > len(data):
            raise ValueError(f"field {key >> 3} has {length} bytes, {len(data) - at} are there")
        yield key >> 3, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A whole number of seven bits a byte, the lowest first; and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        value |= (data[at + shift // 7] & 0x7F) << shift
        if data[at + shift // 7] < 0x80:
            return value, at + shift // 7 + 1
    raise ValueError("a number of more than ten bytes")
