"""Words, merges, byte-pair encoding of any text and any bytes; GPT-2's vocabulary."""

import copy
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinytorch.base.errors import DataError, FileFormatError, IndexRangeError, SettingError
from tinytorch.core.text import BPETokenizer
from tinytorch.data import load_tiny_shakespeare
from tinytorch.text import BytePairTokenizer, Vocabulary, load_gpt2_tokenizer
from tinytorch.text.words import LETTER

# --- the tokenizer ---

TEXT = "to be or not to be, that is the question: whether 'tis nobler in the mind to suffer\n" * 2
TRAINED = BytePairTokenizer.train(TEXT, merges=40, specials=("<pad>", "<end>"))
BYTES = sorted(LETTER.values())


@settings(deadline=None)
@given(st.text() | st.text("to be'\n ", max_size=60))
def test_any_text_comes_back(text):
    """Ground truth: the text itself, though the tokenizer never saw most of these characters."""
    ids = TRAINED.encode(text)
    assert TRAINED.decode(ids) == text and ids.dtype == np.int64
    assert TRAINED.encode_bytes(text.encode()).tolist() == ids.tolist()


@settings(deadline=None)
@given(st.binary() | st.text().map(lambda s: s.encode("utf-8")[1:]))
def test_any_bytes_come_back(data):
    """Ground truth: the bytes themselves, UTF-8 or not."""
    assert TRAINED.decode_bytes(TRAINED.encode_bytes(data)) == data


def test_training_shortens():
    """Closed form: 256 bytes, the merges, then the special tokens; " to" is one token."""
    assert len(TRAINED) == 256 + 40 + 2
    assert TRAINED.vocabulary.tokens[:256] == tuple(BYTES)
    assert TRAINED.vocabulary.tokens[-2:] == ("<pad>", "<end>")
    assert TRAINED.encode(" to").size == 1
    assert TRAINED.encode(TEXT).size < len(TEXT) / 2
    plain = BytePairTokenizer.train("", merges=3)
    assert len(plain) == 256 and plain.encode("ab").size == 2
    assert BytePairTokenizer.train(["ab", "ab"], merges=9).merges == (("a", "b"),)


def test_half_a_character_is_replaced():
    """Ground truth: Python's own rule for broken UTF-8; a text may be cut anywhere."""
    ids = TRAINED.encode("☃")
    assert TRAINED.decode(ids[:1]) == "\ufffd" and TRAINED.decode_bytes(ids[:1]) == b"\xe2"


def test_special_tokens_and_batches():
    """Ground truth: by hand."""
    end = TRAINED.vocabulary.id("<end>")
    assert end not in TRAINED.encode("to<end>")
    ids = TRAINED.encode("to<end>be", specials=True)
    assert (ids == end).sum() == 1 and TRAINED.decode(ids) == "to<end>be"
    assert TRAINED.decode(ids, skip_specials=True) == "tobe"
    batch = TRAINED.encode_batch(["to be or", "be"])
    assert TRAINED.decode_batch(batch) == ["to be or", "be"]
    assert batch.ids[1, -1] == TRAINED.vocabulary.id("<pad>")


def test_words_seen_before_are_the_same(monkeypatch):
    """Ground truth: a tokenizer that keeps no words."""
    monkeypatch.setattr("tinytorch.text.merges.KEPT", 2)
    fresh = BytePairTokenizer(TRAINED.vocabulary, TRAINED.merges)
    assert fresh.encode(TEXT).tolist() == TRAINED.encode(TEXT).tolist()
    assert len(fresh._words) <= 2


def test_copies_and_files(tmp_path):
    """Ground truth: the ids before."""
    TRAINED.save(tmp_path / "t.json")
    loaded = BPETokenizer.load(tmp_path / "t.json")
    for other in (loaded, copy.deepcopy(TRAINED), pickle.loads(pickle.dumps(TRAINED))):
        assert other.encode(TEXT).tolist() == TRAINED.encode(TEXT).tolist()
        assert other.vocabulary == TRAINED.vocabulary and other.merges == TRAINED.merges
    TRAINED.vocabulary.save(tmp_path / "v.json")
    with pytest.raises(FileFormatError, match="no byte-pair tokenizer"):
        BytePairTokenizer.load(tmp_path / "v.json")


@pytest.mark.parametrize(
    ("tokens", "merges", "message"),
    [
        (BYTES[1:], [], "token of a byte is missing"),
        (BYTES, [("a", "b")], "merge number 0 does not fit"),
        ([*BYTES, "abc"], [("ab", "c")], "merge number 0 does not fit"),
        ([*BYTES, "ab"], [("a", "b"), ("a", "b")], "merge number 1 does not fit"),
        ([*BYTES, "ab"], [("ab", "")], "merge number 0 does not fit"),
        ([*BYTES, "ab"], [], "neither special, nor a byte"),
    ],
)
def test_merges_that_do_not_fit(tokens, merges, message):
    """Ground truth: the documented rules."""
    with pytest.raises(SettingError, match=message):
        BytePairTokenizer(Vocabulary(tokens), merges)


def test_bad_input_is_named():
    """Ground truth: the documented ranges."""
    with pytest.raises(DataError, match="half a surrogate pair"):
        TRAINED.encode("a\ud800")
    with pytest.raises(DataError, match="half a surrogate pair"):
        BytePairTokenizer.train("a\udc80")
    with pytest.raises(IndexRangeError, match="no token with this id"):
        TRAINED.decode([len(TRAINED)])
    with pytest.raises(IndexRangeError, match="no token with this id"):
        TRAINED.decode_bytes([-1])
    with pytest.raises(SettingError, match="merges"):
        BytePairTokenizer.train("a", merges=-1)


# Made by tiktoken 0.14.0 from the same two files.
GPT2 = [
    ("hello world", [31373, 995]),
    (
        "Hello, I'm TinyTorch: 2+2=4!\n\n\tIt's  done.",
        [15496, 11, 314, 1101, 20443, 15884, 354, 25, 362, 10, 17, 28, 19, 0, 628, 197, 1026, 338]
        + [220, 1760, 13],
    ),
    (
        "深層学習は行列の積です。",
        [162, 115, 109, 161, 109, 97, 27764, 99, 163, 123, 240, 31676, 26193, 234, 26344, 245]
        + [17683, 102, 235, 30640, 33623, 16764],
    ),
    ("Привет, мир", [140, 253, 21169, 18849, 38857, 16843, 20375, 11, 12466, 120, 18849, 21169]),
    (
        "naïve café — ½ kilo, x² ≤ 10³",
        [2616, 38776, 40304, 851, 25208, 8769, 78, 11, 2124, 31185, 41305, 838, 126, 111],
    ),
    ("\U0001f469\u200d\U0001f52c ☃", [41840, 102, 447, 235, 8582, 242, 105, 34719, 225]),
    ("def f(x):\n    return x ** 2\n", [4299, 277, 7, 87, 2599, 198, 220, 220, 220, 1441, 2124]
        + [12429, 362, 198]),
    ("   \u00a0\u2003 \x1c\x85", [220, 220, 5624, 447, 225, 220, 216, 126, 227]),
    ("don't DON'T we'll", [9099, 470, 23917, 6, 51, 356, 1183]),
    ("", []),
]  # fmt: skip


def write(folder, ids, merges):
    """The two files."""
    (folder / "encoder.json").write_text(json.dumps(ids))
    (folder / "vocab.bpe").write_text(merges, encoding="utf-8")


def test_two_files_are_read(tmp_path, monkeypatch):
    """Ground truth: ids written by hand, the special token first; in the folder or its subfolder"""
    tokens = ["<s>", *BYTES, "ab", "Ġab"]
    (tmp_path / "gpt2-bpe").mkdir()
    ids = {token: i for i, token in enumerate(tokens)}
    write(tmp_path / "gpt2-bpe", ids, "#version: 0.2\na b\nĠ ab\n")
    monkeypatch.setenv("TINYTORCH_DATA", str(tmp_path))
    for folder in (None, tmp_path, tmp_path / "gpt2-bpe"):
        t = load_gpt2_tokenizer(folder)
        assert t.encode("ab ab<s>", specials=True).tolist() == [257, 258, 0]
        assert t.vocabulary.specials == ("<s>",)


@pytest.mark.parametrize(
    ("ids", "merges", "error", "message"),
    [
        ({"a": 1}, "", FileFormatError, "not the numbers from 0 on"),
        ({"a": "0"}, "", FileFormatError, "not the numbers from 0 on"),
        ({"a": 0, "b": 0}, "", FileFormatError, "not the numbers from 0 on"),
        ([], "", FileFormatError, "not a JSON object"),
        ({"a": 0}, "a b c\n", FileFormatError, "not a list of merges"),
        ({"a": 0}, "", SettingError, "token of a byte is missing"),
    ],
)
def test_files_that_are_something_else(tmp_path, ids, merges, error, message):
    """Ground truth: the documented format."""
    write(tmp_path, ids, merges)
    with pytest.raises(error, match=message):
        load_gpt2_tokenizer(tmp_path)


def test_files_that_are_not_there(tmp_path):
    """Ground truth: an empty folder; a file of bytes that are no text."""
    with pytest.raises(DataError, match="GPT-2's vocabulary is not there"):
        load_gpt2_tokenizer(tmp_path)
    write(tmp_path, {"a": 0}, "")
    (tmp_path / "vocab.bpe").write_bytes(b"\xff")
    with pytest.raises(FileFormatError, match="no UTF-8 at byte 0"):
        load_gpt2_tokenizer(tmp_path)


@pytest.mark.data
def test_gpt2s_own_ids(official_data):
    """Saved: ids made by tiktoken 0.14.0; and tiny Shakespeare comes back, 338,025 tokens long."""
    t = load_gpt2_tokenizer(official_data)
    assert len(t) == 50257 and t.vocabulary.specials == ("<|endoftext|>",)
    for text, ids in GPT2:
        assert t.encode(text).tolist() == ids and t.decode(ids) == text
    assert t.encode("<|endoftext|>", specials=True).tolist() == [50256]
    text = load_tiny_shakespeare(official_data)
    ids = t.encode(text)
    assert t.decode(ids) == text and ids.size == 338025
    batch = t.encode_batch(["hello world", "hello"], pad_token="<|endoftext|>")
    assert batch.ids.tolist() == [[31373, 995], [31373, 50256]]
