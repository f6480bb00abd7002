"""GPT-2's vocabulary from its two files, and files that are something else."""

import json

import pytest

from tinytorch.base.errors import DataError, FileFormatError, SettingError
from tinytorch.data import load_tiny_shakespeare
from tinytorch.text import load_gpt2_tokenizer
from tinytorch.text.byte_pairs import LETTER

BYTES = sorted(LETTER.values())

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
    with pytest.raises(DataError, match=r"encoder\.json of GPT-2's vocabulary is not there"):
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
