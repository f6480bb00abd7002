"""tokenizer.json: the library `tokenizers` reads ours, we read its own; the ids are the same."""

import inspect
import json
import random
import re
from functools import cache
from typing import get_args

import pytest
import tiktoken
import tiktoken_ext.openai_public
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from tests.text.test_byte_pairs import TRAINED
from tests.text.test_sentence_pieces import LLAMA, SPECIALS
from tinytorch.base.errors import FileFormatError, SettingError
from tinytorch.data import load_tiny_shakespeare
from tinytorch.text import (
    BytePairTokenizer,
    CharacterTokenizer,
    SentencePieceTokenizer,
    Vocabulary,
    load_gpt2_tokenizer,
    load_tokenizer,
    save_tokenizer_json,
)
from tinytorch.text.tokenizer_json import PATTERNS, load_tokenizer_json
from tinytorch.text.words import Words, unspelled

BLANK = "\N{LOWER ONE EIGHTH BLOCK}"
CORPUS = ["to be or not to be, that's the question:", "whether 'tis nobler in the mind", "é深 12\n"]
# Surrogates cannot be handed to it; U+2581 becomes a blank there.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=[BLANK]))
TEXTS |= st.text("to be'snrh,é深 \n12☃", max_size=80)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("json")


@cache
def written(tokenizer, folder):
    """The library's tokenizer out of our file, and ours out of its file."""
    path = folder / f"{id(tokenizer)}.json"
    save_tokenizer_json(tokenizer, path)
    peer = tokenizers.Tokenizer.from_file(str(path))
    peer.save(str(path))
    return peer, load_tokenizer(path)


@settings(deadline=None)
@given(text=TEXTS)
def test_byte_pairs_there_and_back(folder, text):
    """Peer: the library tokenizers reads our file, and we read the one it writes then."""
    peer, again = written(TRAINED, folder)
    ids = peer.encode(text).ids
    assert TRAINED.encode(text, specials=True).tolist() == ids
    assert again.encode(text, specials=True).tolist() == ids
    assert peer.decode(ids, skip_special_tokens=False) == text
    assert again.vocabulary == TRAINED.vocabulary and again.merges == TRAINED.merges


MODES = [("always", False), ("never", False), ("always", True), ("first", True), ("never", True)]


@settings(deadline=None, max_examples=60)
@given(text=TEXTS)
@pytest.mark.parametrize(("prefix", "single"), MODES)
def test_pieces_there_and_back(folder, text, prefix, single):
    """Peer: the library tokenizers, for each way in which blanks are put in front."""
    ours = pieces(prefix, single)
    peer, again = written(ours, folder)
    for held in (text, text + "<s>" + text, "</s>" + text):
        ids = peer.encode(held).ids
        assert ours.encode(held, specials=True).tolist() == ids
        assert again.encode(held, specials=True).tolist() == ids
    if (prefix, single) == ("always", False):
        assert ours.decode(ours.encode(text)) == text
    assert (again.prefix, again.single) == (prefix, single)


@cache
def pieces(prefix, single):
    return SentencePieceTokenizer(LLAMA.vocabulary, LLAMA.merges, None, prefix, single)


def test_what_the_library_trains_is_read(folder):
    """Peer: byte-level merges that the library learned itself; a special token among them."""
    peer = tokenizers.Tokenizer(models.BPE())
    peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    peer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    peer.train_from_iterator(CORPUS * 3, trainer)
    peer.save(str(folder / "trained.json"))
    ours = load_tokenizer_json(folder / "trained.json")
    assert isinstance(ours, BytePairTokenizer) and ours.vocabulary.specials == ("<|end|>",)
    for text in (*CORPUS, " not  to<|end|>be\n\n", "☃"):
        assert ours.encode(text, specials=True).tolist() == peer.encode(text).ids


def test_pieces_that_the_library_trains_are_read(folder):
    """Peer: merges over blanks spelled U+2581 that the library learned itself, with its bytes."""
    bytes_of = [f"<0x{byte:02X}>" for byte in range(256)]
    peer = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    steps = [normalizers.Prepend(BLANK), normalizers.Replace(" ", BLANK)]
    peer.normalizer = normalizers.Sequence(steps)
    trainer = trainers.BpeTrainer(
        vocab_size=360, special_tokens=[*SPECIALS, *bytes_of], show_progress=False
    )
    peer.train_from_iterator([line for line in CORPUS for _ in range(3)], trainer)
    made = json.loads(peer.to_str())
    # The library takes the bytes for special tokens; in Llama's file they are not.
    made["added_tokens"] = [t for t in made["added_tokens"] if t["content"] in SPECIALS]
    (folder / "pieces.json").write_text(json.dumps(made))
    peer = tokenizers.Tokenizer.from_file(str(folder / "pieces.json"))
    ours = load_tokenizer_json(folder / "pieces.json")
    # Its merges go from word to word: there is no border inside a text.
    assert isinstance(ours, SentencePieceTokenizer) and ours.border("to be or") == 0
    for text in (*CORPUS, "to be or  not", "☃ nobler"):
        assert ours.encode(text).tolist() == peer.encode(text).ids
        assert ours.decode(ours.encode(text)) == text


# --- GPT-2 ---

PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
SCRIPTS = [
    "abcdefghijklmnopqrstuvwxyz",
    "абвгдежзийклмнопрстуфхцчшщъыьэюя",
    "αβγδεζηθικλμνξοπρστυφχψω",
]
SCRIPTS += [
    "אבגדהוזחטיכלמנסעפצקרשת",
    "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "कखगघचछजझटठडढतथदधनपफबभमयरलवशषसह",
]
SCRIPTS += [
    "あいうえおかきくけこさしすせそ",
    "深層学習行列積人工知能言語模型",
    "가나다라마바사아자차카타파하",
    "กขคงจฉชซ",
]
SCRIPTS += [
    "0123456789",
    "²³½Ⅷ٣४",
    "!?.,:;-_()[]{}#$%&*+/<=>@^|~\"'",
    "\U0001f642\U0001f680☃❤\u200d",
]


def scripts(characters: int) -> str:
    """Words of several scripts, their blanks, line ends and English endings; always the same."""
    choose, out, length = random.Random(0), [], 0
    while length < characters:
        script = choose.choice(SCRIPTS)
        word = "".join(choose.choices(script, k=choose.randint(1, 12)))
        out.append(
            word + choose.choice([" ", " ", "  ", "\n", "\t\n ", "'s ", "'ll", "", "\u3000"])
        )
        length += len(out[-1])
    return "".join(out)


@pytest.mark.data
def test_gpt2s_ids_are_those_of_two_libraries(official_data, tmp_path):
    """Peers: tiktoken, over the vocabulary of the same files, and tokenizers, out of our file; 1 MB
    of Shakespeare and 1 MB in several scripts."""
    ours = load_gpt2_tokenizer(official_data)
    ranks = {unspelled(t): i for i, t in enumerate(ours.vocabulary.tokens[:-1])}
    peer = tiktoken.Encoding(
        "gpt2", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 50256}
    )
    save_tokenizer_json(ours, tmp_path / "t.json")
    other = tokenizers.Tokenizer.from_file(str(tmp_path / "t.json"))
    mixed = scripts(500_000)
    assert len(mixed.encode()) > 10**6
    for text in (load_tiny_shakespeare(official_data), mixed):
        ids = ours.encode(text).tolist()
        assert ids == peer.encode_ordinary(text)
        assert ids == other.encode(text).ids
        assert ours.decode(ids) == text
    for text in ("a" * 3000, " " * 3000, "<|endoftext|> <|endoftext|>", "\n" * 999 + "x", "\0\0a"):
        assert ours.encode(text).tolist() == peer.encode_ordinary(text)
        known = peer.encode(text, allowed_special="all")
        assert ours.encode(text, specials=True).tolist() == known
    # Read again, it is the same; the form of older files too, a text for each merge.
    whole = json.loads((tmp_path / "t.json").read_text())
    whole["model"]["merges"] = [" ".join(pair) for pair in whole["model"]["merges"]]
    (tmp_path / "old.json").write_text(json.dumps(whole))
    assert load_tokenizer(tmp_path / "old.json").merges == ours.merges


def later(behavior="Isolated", invert=False, **pattern):
    """A pre-tokenizer as Llama 3's file has it."""
    first = next(p for p, kind in PATTERNS.items() if kind == "llama3")
    split = {"type": "Split", "pattern": pattern or {"Regex": first}, "behavior": behavior,
             "invert": invert}  # fmt: skip
    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [split, level]}


# What the libraries' tables of Unicode and ours agree on: what is in Python's at least.
KNOWN = st.text(st.characters(exclude_categories=["Cs", "Cn"])) | st.text(
    st.sampled_from(" \n\r\t'sSrReElLvVdDtTmMaB12\u017f.,-é深\xa0\u2028\x85\U0001f642\u0300²"),
    max_size=40,
)


MIXED = " ".join(CORPUS) + " I'LL, WE'D.\n\n 123 123"
GPT4 = BytePairTokenizer.train(MIXED, 160, words="cl100k")


@cache
def of_later_words(words, whole, folder):
    """A tokenizer that cuts so, what the library makes of its file, and what we make of its own."""
    made = BytePairTokenizer.train(MIXED, 160, words=words)
    tokens = [*made.vocabulary.tokens, "whole", "Ġwhole"] if whole else made.vocabulary.tokens
    made = BytePairTokenizer(Vocabulary(tokens), made.merges, words, whole)
    return made, *written(made, folder)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("words", get_args(Words))
@settings(deadline=None, max_examples=60)
@given(text=KNOWN)
@example(text="I'VE  2048 caſe'ſ,\r\n\n \tno?\n  ")
@example(text="the whole, wholes")
def test_other_words_there_and_back(folder, words, whole, text):
    """Peer: the library tokenizers reads our file, with its own pattern, and we read its file."""
    made, peer, again = of_later_words(words, whole, folder)
    ids = peer.encode(text).ids
    assert made.encode(text).tolist() == again.encode(text).tolist() == ids
    assert (again.words, again.whole_words) == (words, whole)
    assert peer.decode(ids, skip_special_tokens=False) == text == again.decode(ids)


@settings(deadline=None, max_examples=200)
@given(text=KNOWN)
@example(text="I'VE  2048 caſe'ſ,\r\n\n \tno?\n  ")
def test_gpt4s_words_are_those_of_tiktoken(text):
    """Peer: tiktoken with its own pattern of GPT-4, read from its program, and our tokens."""
    made = BytePairTokenizer.train(
        " ".join(CORPUS) + " I'LL, WE'D.\n\n 123 123", 160, words="cl100k"
    )
    assert made.encode(text).tolist() == gpt4s(made).encode_ordinary(text)


def gpt4s(tokenizer):
    """A tokenizer of tiktoken with GPT-4's pattern."""
    source = inspect.getsource(tiktoken_ext.openai_public.cl100k_base)
    pattern = re.search(r'"pat_str": r"""(.*)"""', source)[1]
    specials = tokenizer.vocabulary.specials
    tokens = [t for t in tokenizer.vocabulary.tokens if t not in specials]
    ranks = {unspelled(t): i for i, t in enumerate(tokens)}
    return tiktoken.Encoding("x", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})


@pytest.mark.data
def test_gpt4s_way_with_gpt2s_tokens(official_data, tmp_path):
    """Peers: tiktoken with GPT-4's pattern, and tokenizers out of our file; a megabyte, and what is
    hard to cut."""
    gpt2 = load_gpt2_tokenizer(official_data)
    made = BytePairTokenizer(gpt2.vocabulary, gpt2.merges, "cl100k")
    tiktokens, library = gpt4s(made), written(made, tmp_path)[0]
    hard = [" " * 5000, "a" * 5000, "9" * 5000, ".\n" * 5000, "\n" * 5000 + " x", "'" * 5000]
    text = load_tiny_shakespeare(official_data)
    for one in [text, text.upper()[:100_000], *hard]:
        ids = made.encode(one).tolist()
        assert ids == tiktokens.encode_ordinary(one)
        assert ids == library.encode(one).ids


@pytest.mark.parametrize("behavior", [("Isolated", False), ("Removed", True)])
def test_llama3s_file(tmp_path, behavior):
    """Ground truth: the file says what is there; what is found is kept either way."""
    save_tokenizer_json(TRAINED, tmp_path / "t.json")
    whole = json.loads((tmp_path / "t.json").read_text())
    whole["pre_tokenizer"] = later(*behavior)
    whole["model"]["ignore_merges"] = True
    (tmp_path / "t.json").write_text(json.dumps(whole))
    found = load_tokenizer_json(tmp_path / "t.json")
    assert found.words == "llama3" and found.whole_words
    found.save(tmp_path / "own.json")
    again = load_tokenizer(tmp_path / "own.json")
    assert again.words == "llama3" and again.whole_words and again.merges == found.merges


# --- what is refused ---


def change(whole: dict, keys: str, value: object) -> dict:
    """The same with one part replaced."""
    place, *last = whole, *keys.split(".")
    for key in last[:-1]:
        place = place[int(key) if isinstance(place, list) else key]
    place[last[-1]] = value
    return whole


@pytest.mark.parametrize(
    ("keys", "value", "named"),
    [
        ("model", {"type": "WordPiece", "vocab": {}}, "WordPiece"),
        ("model", None, "model of type"),
        ("model.dropout", 0.1, "dropout"),
        ("model.end_of_word_suffix", "</w>", "end_of_word_suffix"),
        ("model.vocab", [], "vocab"),
        ("model.vocab.a", 7, "two tokens"),
        ("model.vocab.a", "7", "no number"),
        ("model.vocab.a", 10**6, "none with the id"),
        ("model.merges", ["a b c"], "merge"),
        ("model.merges", [["a", 1]], "merge"),
        ("model.merges", [7], "merge"),
        ("pre_tokenizer", {"type": "Whitespace"}, "Whitespace"),
        ("pre_tokenizer", None, "pre_tokenizer"),
        ("pre_tokenizer.add_prefix_space", True, "add_prefix_space"),
        ("pre_tokenizer", {"type": "Sequence", "pretokenizers": 3}, "Sequence"),
        ("pre_tokenizer", {"type": "Sequence", "pretokenizers": []}, "pre_tokenizer"),
        ("pre_tokenizer", later(Regex="[a-z]+"), "a-z"),
        ("pre_tokenizer", later(String=" "), "Split"),
        ("pre_tokenizer", later(behavior="Removed"), "Removed"),
        ("normalizer", {"type": "NFC"}, "normalizer"),
        ("added_tokens", [7], "added token"),
        ("added_tokens", [{"id": 1}], "added token"),
        ("added_tokens", [{"id": 0, "content": "<x>"}], "two tokens"),
        ("added_tokens", [{"id": 298, "content": "<x>", "lstrip": True}], "takes blanks"),
    ],
)
def test_byte_pairs_of_other_kinds_are_named(tmp_path, keys, value, named):
    """Ground truth: the part that was changed."""
    save_tokenizer_json(TRAINED, tmp_path / "t.json")
    whole = change(json.loads((tmp_path / "t.json").read_text()), keys, value)
    (tmp_path / "t.json").write_text(json.dumps(whole))
    with pytest.raises(FileFormatError, match=named):
        load_tokenizer_json(tmp_path / "t.json")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ("normalizer", None),
        ("normalizer", {"type": "NFC"}),
        ("normalizer.normalizers", [{"type": "NFKC"}]),
        ("pre_tokenizer", {"type": "Metaspace", "replacement": BLANK, "prepend_scheme": "always"}),
        ("pre_tokenizer", {"type": "ByteLevel"}),
    ],
)
def test_pieces_of_other_kinds_are_named(tmp_path, keys, value):
    """Ground truth: the part that was changed."""
    save_tokenizer_json(LLAMA, tmp_path / "t.json")
    whole = change(json.loads((tmp_path / "t.json").read_text()), keys, value)
    (tmp_path / "t.json").write_text(json.dumps(whole))
    with pytest.raises(FileFormatError, match="normalizer .*, pre_tokenizer"):
        load_tokenizer_json(tmp_path / "t.json")


def test_what_cannot_be_written(tmp_path):
    """Ground truth: the documented kinds."""
    with pytest.raises(SettingError, match="cannot be written"):
        save_tokenizer_json(CharacterTokenizer("ab"), tmp_path / "t.json")
    with pytest.raises(SettingError, match="cannot be written"):
        save_tokenizer_json(pieces("first", False), tmp_path / "t.json")
