"""Tokens and their ids, and the file they are kept in."""

import json
import os

import numpy as np
import pytest

from tinytorch.base.errors import (
    DataError,
    FileFormatError,
    IndexRangeError,
    SettingError,
    StorageError,
)
from tinytorch.text import Vocabulary


def test_an_id_is_a_place():
    """Ground truth: the list itself; special tokens follow, or are marked where they stand."""
    v = Vocabulary(["b", "<s>", "a"], specials=("<s>", "<pad>"))
    assert v.tokens == ("b", "<s>", "a", "<pad>")
    assert [v.id(token) for token in v.tokens] == [0, 1, 2, 3]
    assert [v.token(i) for i in range(4)] == list(v.tokens)
    assert "a" in v and "c" not in v and len(v) == 4
    assert repr(v) == "Vocabulary(4 tokens, specials=('<s>', '<pad>'))"


def test_what_is_unknown():
    """Ground truth: "<unk>" among the special tokens stands for it, else an error names it."""
    assert Vocabulary(["a"], specials=("<unk>",)).id("b") == 1
    with pytest.raises(DataError, match="'b' is not in the vocabulary"):
        Vocabulary(["a"]).id("b")
    # As a plain token it has no meaning.
    with pytest.raises(DataError, match="one of 2 tokens"):
        Vocabulary(["a", "<unk>"]).id("b")


@pytest.mark.parametrize(
    ("tokens", "specials"),
    [([], ()), (["a", "a"], ()), ([""], ()), (["a"], ("",)), ([1], ()), ([["a"]], ())]
    + [(["a"], ("<s>", "<s>"))],
)
def test_what_is_no_vocabulary(tokens, specials):
    """Ground truth: the documented rule."""
    with pytest.raises(SettingError, match="all of them different texts"):
        Vocabulary(tokens, specials)


@pytest.mark.parametrize("wrong", [[2], [-1], np.array([0, 5], np.uint8)])
def test_ids_outside_are_named(wrong):
    """Ground truth: 0 <= id < V; Python's meaning of -1 is not an id."""
    with pytest.raises(IndexRangeError, match="no token with this id"):
        Vocabulary(["a", "b"]).checked(wrong)


@pytest.mark.parametrize("wrong", [[0.5], [[0]], 0, ["a"]])
def test_ids_are_whole_numbers(wrong):
    """Ground truth: the documented shape and type."""
    with pytest.raises(DataError, match="sequence of whole numbers"):
        Vocabulary(["a", "b"]).checked(wrong)


def test_a_file_keeps_it(tmp_path):
    """Ground truth: the vocabulary itself; tokens of every kind, half a surrogate pair too."""
    v = Vocabulary(["a", "ä", "\u2028", "\n", "☃", "\U0001f642", "\ud800", '"'], ("<pad>",))
    path = tmp_path / "v.json"
    v.save(path)
    loaded = Vocabulary.load(path)
    assert loaded == v and hash(loaded) == hash(v) and loaded != Vocabulary(v.tokens)
    assert v != 1
    assert [p.name for p in tmp_path.iterdir()] == ["v.json"], "nothing half written is left"


@pytest.mark.parametrize(
    "text",
    [
        '{"kind": "vocabulary", "version": 2, "tokens": [], "specials": []}',
        '{"kind": "character tokenizer", "version": 1, "tokens": [], "specials": []}',
        '{"kind": "vocabulary", "version": 1, "tokens": []}',
        '{"kind": "vocabulary", "version": 1, "tokens": "ab", "specials": []}',
    ],
)
def test_a_file_of_another_kind(tmp_path, text):
    """Ground truth: kind, version and lists as documented."""
    (tmp_path / "v.json").write_text(text)
    with pytest.raises(FileFormatError, match="no vocabulary that can be read"):
        Vocabulary.load(tmp_path / "v.json")


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff\xfe{", b"[" * 100_000])
def test_a_file_that_is_no_json_object(tmp_path, data):
    """Ground truth: the grammar of JSON."""
    (tmp_path / "v.json").write_bytes(data)
    with pytest.raises(FileFormatError, match="not a JSON object"):
        Vocabulary.load(tmp_path / "v.json")


def test_a_file_that_is_not_there(tmp_path):
    """Ground truth: an empty folder."""
    with pytest.raises(StorageError, match="cannot be read"):
        Vocabulary.load(tmp_path / "v.json")
    with pytest.raises(StorageError, match="cannot be written"):
        Vocabulary(["a"]).save(tmp_path / "missing" / "v.json")


def test_a_file_holds_text(tmp_path):
    """Ground truth: Python's json; others can read the file."""
    Vocabulary(["a", "ä"]).save(tmp_path / "v.json")
    state = json.loads((tmp_path / "v.json").read_text())
    assert state == {"kind": "vocabulary", "version": 1, "tokens": ["a", "ä"], "specials": []}


# --- files of somebody else ---

GOOD = '{"kind": "vocabulary", "version": 1, "tokens": ["a"], "specials": []}'


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("1", "true"),
        GOOD.replace("1", "1.0"),
        GOOD.replace('"specials": []', '"specials": [], "tokens": ["b"]'),
        GOOD.replace('["a"]', '["a", 1]'),
        GOOD.replace('["a"]', '{"a": 0}'),
        GOOD.replace('["a"]', "NaN"),
        GOOD.replace("vocabulary", "\\u001b[2J"),
        GOOD.replace('"specials"', '"\\u001b]0;mine\\u0007"'),
        "[" * 100_000,
        "\x1b[2J",
        "[]",
        "",
    ],
)
def test_files_that_say_something_else(tmp_path, text):
    """Ground truth: the documented format; no key twice, a version that is the number 1; four parts
    without control characters."""
    (tmp_path / "v.json").write_text(text)
    with pytest.raises(FileFormatError) as told:
        Vocabulary.load(tmp_path / "v.json")
    assert str(told.value).replace("\n", "").isprintable() and len(str(told.value)) < 1000


def test_a_vocabulary_is_written_through_no_link(tmp_path):
    """Ground truth: the user's file, under the name itself and under the temporary names that were
    used before."""
    mine = tmp_path / "thesis"
    mine.write_text("years of work")
    (tmp_path / "v.json").symlink_to(mine)
    (tmp_path / f"w.json.{os.getpid()}.part").symlink_to(mine)
    with pytest.raises(StorageError, match="not a file that can be replaced"):
        Vocabulary("ab").save(tmp_path / "v.json")
    Vocabulary("ab").save(tmp_path / "w.json")
    assert mine.read_text() == "years of work"
    assert Vocabulary.load(tmp_path / "w.json") == Vocabulary("ab")


def test_files_that_are_none(tmp_path):
    """Ground truth: refused at once: a pipe would be waited for, a sparse file fills the memory."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileFormatError, match="not a regular file"):
        Vocabulary.load(tmp_path / "pipe")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(20 << 30)
    with pytest.raises(FileFormatError, match="too long"):
        Vocabulary.load(tmp_path / "sparse")
    with pytest.raises(SettingError, match="a home folder that nobody knows"):
        Vocabulary.load("~no-such-user-here/v.json")
