"""What tokenization costs: speed beside tiktoken and tokenizers, and what a larger vocabulary buys.

Speed: one thread, the same vocabulary (GPT-2's), the same ids; sides take turns. Vocabularies:
bytes, characters and byte pairs learned from nine tenths of the text, measured on the last tenth. A
token costs a row of the embedding and of the head; a shorter text costs fewer steps of the model.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.record import Record
from tinytorch.text import (
    BytePairTokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    Tokenizer,
    load_gpt2_tokenizer,
    load_tokenizer,
    save_tokenizer_json,
    write_tokens,
)
from tinytorch.text.words import unspelled

ARCHIVE = ""  # the folder of all data sets: the text and GPT-2's vocabulary
TEXT = ("text", "tinyshakespeare.txt")
PATTERN = (  # github.com/openai/gpt-2, src/encoder.py
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
MERGES = (256, 768, 1792, 3840, 7744)  # vocabularies of 512, 1024, 2048, 4096 and 8000
WIDTH = 384  # of the embedding, in the model of 10.8 million parameters
LINES, REPEATS = 2000, 5
MORE = 30  # times the text, for a corpus on disk
SECONDS = 20.0  # asked of training 8,000 tokens on 1 MB
# Letters of scripts, one word after the other, between blanks: 2, 3 and 4 bytes each.
SCRIPTS = (
    "абвгдежзийклмнопрстуфхцчшщъыьэюя",
    "深層学習行列積人工知能言語模型",
    "가나다라마바사아자차카타파하",
)
SCRIPTS += (
    "αβγδεζηθικλμνξοπρστυφχψω",
    "0123456789",
    "!?.,:;-_()[]{}",
    "कखगघचछजझटठडढतथदधनपफबभमयरलवशषसह",
)


def run(folder: Path, log: Path) -> dict:
    """The two questions, and the corpus on disk."""
    record = Record(log, "How fast are texts cut, and what does a larger vocabulary buy?", {
        "repeats": REPEATS, "times": "least of the repeats, sides in turns, one thread",
        "width": WIDTH, "lines": LINES,
    })  # fmt: skip
    text = folder.joinpath(*TEXT).read_text(encoding="utf-8")
    gpt2 = load_gpt2_tokenizer(folder)
    _speed(record, gpt2, text)
    made = _vocabularies(record, text)
    _corpus(record, made, text)
    return record.keep()


# --- speed ---


def _peers(gpt2: BytePairTokenizer) -> dict[str, Callable[[str], list[int]]]:
    """The two libraries over the same vocabulary."""
    import tiktoken
    import tokenizers

    ranks = {unspelled(t): i for i, t in enumerate(gpt2.vocabulary.tokens[:-1])}
    encoding = tiktoken.Encoding(
        "gpt2", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": len(ranks)}
    )
    with tempfile.TemporaryDirectory() as folder:
        save_tokenizer_json(gpt2, Path(folder) / "tokenizer.json")
        other = tokenizers.Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    return {"tiktoken": encoding.encode_ordinary, "tokenizers": lambda t: other.encode(t).ids}


def _speed(record: Record, gpt2: BytePairTokenizer, text: str) -> None:
    """Millions of bytes a second of each side."""
    began = time.perf_counter()
    gpt2.encode(text)
    record.row(first_text_seconds=time.perf_counter() - began)
    sides = {"ours": gpt2.encode, **_peers(gpt2)}
    mixed = _scripts(len(text) // 2)
    texts = {
        "English": [text], "several scripts": [mixed], "lines": text.split("\n")[:LINES],
    }  # fmt: skip
    for name, parts in texts.items():
        ids = [list(side(parts[0])) for side in sides.values()]
        if any(found != ids[0] for found in ids):
            raise RuntimeError(f"{name}: the sides have different ids")
        size = sum(len(part.encode()) for part in parts)
        calls = {side: partial(_each, encode, parts) for side, encode in sides.items()}
        best = _in_turns(calls)
        speed = {side: size / 1e6 / seconds for side, seconds in best.items()}
        record.row(text=name, megabytes=size / 1e6, tokens=len(ids[0]), **speed)
        peer = max(list(speed)[1:], key=speed.__getitem__)
        ratio = speed["ours"] / speed[peer]
        record.claim(
            "tokenization is at least as fast as tiktoken", f"S4-65, {name}",
            f"{speed['ours']:.1f} MB/s, {ratio:.2f} times {peer}, the fastest peer",
            ratio >= 1,
        )  # fmt: skip
    for name, long in {"a million letters": "a" * 10**6, "a million blanks": " " * 10**6}.items():
        half = _in_turns({n: lambda m=m, t=long: gpt2.encode(t[:m]) for n, m in HALVES.items()})
        record.row(word=name, seconds=half["whole"])
        record.claim(
            "never quadratic in the length of a word", f"what was asked, {name}",
            f"{half['whole'] / half['half']:.2f} times the time of half of it",
            half["whole"] < 3 * half["half"],
        )  # fmt: skip


HALVES = {"whole": 10**6, "half": 10**6 // 2}


def _each(encode: Callable[[str], object], parts: list[str]) -> None:
    for part in parts:
        encode(part)


def _in_turns(sides: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The least seconds of each, one after the other in each repeat."""
    best = dict.fromkeys(sides, float("inf"))
    for _ in range(REPEATS):
        for name, side in sides.items():
            began = time.perf_counter()
            side()
            best[name] = min(best[name], time.perf_counter() - began)
    return best


def _scripts(characters: int) -> str:
    """Words of several scripts, always the same."""
    rng, words, length = np.random.default_rng(0), [], 0
    while length < characters:
        letters = SCRIPTS[rng.integers(len(SCRIPTS))]
        words.append("".join(rng.choice(list(letters), rng.integers(1, 12))))
        length += len(words[-1]) + 1
    return " ".join(words)


# --- vocabularies ---


def _vocabularies(record: Record, text: str) -> Tokenizer:
    """What tokens of each vocabulary cost, and how many a text has; gives the largest one."""
    cut = len(text) * 9 // 10
    train, test = text[:cut], text[cut:]
    size = len(test.encode())
    lengths: dict[int, float] = {}
    seconds = 0.0
    makers: list[Callable[[], Tokenizer]] = [ByteTokenizer, lambda: CharacterTokenizer(text)]
    makers += [lambda n=n: BytePairTokenizer.train(train, n) for n in MERGES]
    for make in makers:
        began = time.perf_counter()
        tokenizer = make()
        seconds = time.perf_counter() - began
        tokenizer.encode(train)  # longer texts go through native code
        best = _in_turns({"encode": lambda t=tokenizer: t.encode(test)})["encode"]
        ids = tokenizer.encode(test)
        lengths[len(tokenizer)] = len(ids) / size
        counts = np.bincount(ids, minlength=len(tokenizer))
        record.row(
            kind=type(tokenizer).__name__, tokens=len(tokenizer), training_seconds=seconds,
            bytes_a_token=size / len(ids), entropy_bits_a_byte=_entropy(counts) * len(ids) / size,
            share_of_tokens_seen=float((counts > 0).mean()), megabytes_a_second=size / 1e6 / best,
            embedding_parameters=len(tokenizer) * WIDTH,
        )  # fmt: skip
    largest = max(lengths)
    record.claim(
        "a vocabulary of 8,000 tokens is learned from 1 MB in 20 seconds", "what was asked",
        f"{seconds:.2f} seconds", seconds <= SECONDS,
    )  # fmt: skip
    record.claim(
        "a larger vocabulary makes shorter sequences, with less and less gain",
        "Sennrich et al. 2016, https://arxiv.org/abs/1508.07909, table 1",
        ", ".join(f"{n}: {1 / length:.2f} bytes a token" for n, length in lengths.items()),
        _gains_fall([lengths[n] for n in sorted(lengths) if n >= 256]) and largest > 256,
    )  # fmt: skip
    return tokenizer


def _entropy(counts: np.ndarray) -> float:
    """Bits a token has, if each is drawn by itself."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


def _gains_fall(lengths: list[float]) -> bool:
    """Whether each is shorter than the last, and by less."""
    gains = -np.diff(lengths)
    return bool((gains > 0).all() and (np.diff(gains) < 0).all())


# --- a corpus on disk ---


def _corpus(record: Record, tokenizer: Tokenizer, text: str) -> None:
    """A text file made into a file of ids, and what that takes."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        tokenizer.save(folder / "tokenizer.json")
        (folder / "text").write_text(text * MORE, encoding="utf-8")
        began = time.perf_counter()
        tokens = write_tokens(load_tokenizer(folder), folder / "text", folder / "ids.npy")
        seconds = time.perf_counter() - began
        size = (folder / "text").stat().st_size
        record.row(
            corpus_megabytes=size / 1e6, tokens=len(tokens), seconds=seconds,
            megabytes_a_second=size / 1e6 / seconds,
            bytes_of_ids=tokens.dtype.itemsize * len(tokens),
        )  # fmt: skip
