"""Rows of one length; texts in parts; a token for each byte, for each character."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinytorch as tt
from tinytorch.base.errors import DataError, FileFormatError, SettingError
from tinytorch.core.text import CharTokenizer
from tinytorch.text import ByteTokenizer, CharacterTokenizer, Vocabulary, pad

ROWS = st.lists(st.lists(st.integers(0, 99), max_size=8), max_size=5)


@settings(deadline=None)
@given(ROWS, st.none() | st.integers(1, 10), st.sampled_from(["right", "left"]))
def test_rows_are_filled_and_cut(rows, length, side):
    """Ground truth: the definition with lists: cut, then fill, on the side that is named."""
    ids, mask = pad(rows, length, 100, side)
    T = max(map(len, rows), default=0) if length is None else length
    assert ids.shape == mask.shape == (len(rows), T)
    assert ids.dtype == np.int64 and mask.dtype == bool
    for row, got, real in zip(rows, ids.tolist(), mask.tolist(), strict=True):
        n = min(len(row), T)
        fill = [100] * (T - n)
        kept = row[:n] if side == "right" else row[len(row) - n :]
        assert got == (kept + fill if side == "right" else fill + kept)
        assert real == [x != 100 for x in got]


@pytest.mark.parametrize("wrong", [{"length": 0}, {"length": 1.5}, {"side": "top"}])
def test_settings_outside_their_range(wrong):
    """Ground truth: the documented ranges."""
    with pytest.raises(SettingError, match=next(iter(wrong))):
        pad([[1]], **wrong)


@settings(deadline=None)
@given(st.text(st.characters(codec=None), min_size=1))
def test_decode_undoes_encode(text):
    """Ground truth: the text itself, and sorted order by code point; any text at all."""
    t = CharacterTokenizer(text)
    ids = t.encode(text)
    assert t.decode(ids) == text and ids.dtype == np.int64 and ids.shape == (len(text),)
    assert t.vocabulary.tokens == tuple(sorted(set(text))) and len(t) == len(set(text))


def test_nothing_is_an_empty_row():
    """Ground truth: shape (0,)."""
    t = CharacterTokenizer("ab")
    assert t.encode("").shape == (0,) and t.decode([]) == "" and t.decode(t.encode("")) == ""


def test_unknown_characters():
    """Ground truth: an error that says which and where, or the token "<unk>" if there is one."""
    with pytest.raises(DataError, match=r"'d' at place 2"):
        CharacterTokenizer("abc").encode("abd")
    with pytest.raises(DataError, match="one of the 3 characters 'abc'"):
        CharacterTokenizer("abc", specials=("<pad>",)).encode("d")
    first = CharacterTokenizer(Vocabulary(["<unk>", "a"], specials=("<unk>",)))
    assert first.encode("ab").tolist() == [1, 0]
    t = CharacterTokenizer("abc", specials=("<unk>",))
    assert t.encode("abd").tolist() == [0, 1, 3] and t.decode([0, 3]) == "a<unk>"
    with pytest.raises(SettingError, match="at least one token"):
        CharacterTokenizer("")


def test_special_tokens():
    """Ground truth: by hand. Their names in a text are text, unless they are asked for."""
    t = CharacterTokenizer("<end>!", specials=("<end>", "<end>!"))
    assert t.encode("<end>").size == 5
    assert t.encode("d<end>e<end>!", specials=True).tolist() == [
        t.vocabulary.id(name) for name in ("d", "<end>", "e", "<end>!")
    ]
    ids = t.encode("d<end>e", specials=True)
    assert t.decode(ids) == "d<end>e" and t.decode(ids, skip_specials=True) == "de"


def test_a_batch():
    """Ground truth: by hand, on both sides; the mask gives the texts back."""
    t = CharacterTokenizer("abc", specials=("<pad>",))
    batch = t.encode_batch(["abc", "b", ""], 2)
    assert batch.ids.tolist() == [[0, 1], [1, 3], [3, 3]]
    assert batch.mask.tolist() == [[True, True], [True, False], [False, False]]
    left = t.encode_batch(["abc", "b"], 2, side="left")
    assert left.ids.tolist() == [[1, 2], [3, 1]]
    assert t.decode_batch(batch) == ["ab", "b", ""] and t.decode_batch(left) == ["bc", "b"]
    assert t.encode_batch([]).ids.shape == (0, 0)


def test_a_batch_needs_something_to_fill_with():
    """Ground truth: the vocabulary's special tokens."""
    with pytest.raises(SettingError, match="no special token '<pad>'"):
        CharacterTokenizer("abc").encode_batch(["a"])
    with pytest.raises(DataError, match="takes one text"):
        CharacterTokenizer("abc").encode(["a"])
    with pytest.raises(DataError, match="takes several texts"):
        CharacterTokenizer("abc", specials=("<pad>",)).encode_batch("abc")


def test_a_file_keeps_it(tmp_path):
    """Ground truth: the ids before; a file of something else is refused."""
    t = CharacterTokenizer("Zwölf\n☃", specials=("<pad>", "<unk>"))
    t.save(tmp_path / "t.json")
    again = CharacterTokenizer.load(tmp_path / "t.json")
    assert again.vocabulary == t.vocabulary
    assert again.encode("flöwe").tolist() == t.encode("flöwe").tolist()
    t.vocabulary.save(tmp_path / "v.json")
    with pytest.raises(FileFormatError, match="no character tokenizer"):
        CharacterTokenizer.load(tmp_path / "v.json")


def test_its_names():
    """Ground truth: one class under every name."""
    assert tt.text.CharacterTokenizer is CharTokenizer is CharacterTokenizer
    assert repr(CharacterTokenizer("abc")) == "CharacterTokenizer(3 tokens)"


# --- what every tokenizer can do ---


@given(st.lists(st.text("ab<>c")))
def test_parts_give_the_ids_of_the_whole(parts):
    """Ground truth: `encode` of the parts joined, special tokens across them included."""
    for t in (CharacterTokenizer("abc<>", ("<a>", "<a>b")), ByteTokenizer(("<a>", "<a>b"))):
        for specials in (False, True):
            found = [i for ids in t.encode_parts(parts, specials=specials) for i in ids.tolist()]
            assert found == t.encode("".join(parts), specials=specials).tolist()


def test_special_tokens_have_ids():
    """Ground truth: by hand; an unknown one is named, though "<unk>" is there."""
    t = CharacterTokenizer("ab", ("<unk>", "<end>"))
    assert t.special_id("<end>") == 3
    for unknown in ("<nobody>", "a"):
        with pytest.raises(SettingError, match=f"no special token {unknown!r}"):
            t.special_id(unknown)


def test_a_vocabulary_that_does_not_fit():
    """Ground truth: every id must be one of the model's."""
    t = CharacterTokenizer("ab")
    t.check_fits(2)
    t.check_fits(3)
    with pytest.raises(SettingError, match="does not fit the model"):
        t.check_fits(1)


# --- a token for each byte ---


@given(st.text(), st.binary())
def test_bytes_come_back(text, data):
    """Ground truth: Python's UTF-8, and the bytes themselves."""
    t = ByteTokenizer(("<pad>",))
    assert t.encode(text).tolist() == list(text.encode()) and t.decode(t.encode(text)) == text
    assert t.decode_bytes(t.encode_bytes(data)) == data


def test_bytes_and_special_tokens(tmp_path):
    """Ground truth: by hand."""
    t = ByteTokenizer(("<pad>", "<end>"))
    assert t.encode("a<end>", specials=True).tolist() == [97, 257]
    assert t.decode([97, 257]) == "a<end>" and t.decode_bytes([257]) == b"<end>"
    assert t.decode([0xE6, 97]) == "\ufffda"
    assert t.encode_batch(["a", "bc"]).ids.tolist() == [[97, 256], [98, 99]]
    t.save(tmp_path / "t.json")
    assert ByteTokenizer.load(tmp_path / "t.json").vocabulary == t.vocabulary
    with pytest.raises(DataError, match="half a surrogate pair"):
        t.encode("\ud800")
