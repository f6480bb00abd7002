"""Token ids in a file: made piece by piece, the same as of the whole; read where they lie."""

import tracemalloc

import numpy as np
import pytest

from tests.text.test_byte_pairs import TRAINED
from tests.text.test_sentence_pieces import LLAMA
from tinytorch.base.errors import DataError, FileFormatError, SettingError
from tinytorch.data import DataLoader, MappedArray, TextWindows
from tinytorch.text import (
    ByteTokenizer,
    CharacterTokenizer,
    Vocabulary,
    corpus,
    map_tokens,
    write_tokens,
)

TEXT = (
    "to be, or  not\n\n to be é深\U0001f642 that's<end> the <end>  question: whether\t'tis\r\n" * 40
)


@pytest.mark.parametrize("piece", [1, 3, 7, 100, 1 << 20])
@pytest.mark.parametrize("specials", [False, True])
@pytest.mark.parametrize("name", ["byte pairs", "pieces", "bytes", "characters"])
def test_pieces_give_the_ids_of_the_whole(tmp_path, monkeypatch, piece, specials, name):
    """Ground truth: `encode` of the whole text, wherever it is cut: inside characters too."""
    tokenizer = {
        "byte pairs": TRAINED, "pieces": LLAMA, "bytes": ByteTokenizer(("<end>",)),
        "characters": CharacterTokenizer(TEXT, ("<end>",)),
    }[name]  # fmt: skip
    monkeypatch.setattr(corpus, "PIECE", piece)
    (tmp_path / "text").write_bytes(TEXT.encode())
    tokens = write_tokens(tokenizer, tmp_path / "text", tmp_path / "ids.npy", specials=specials)
    wanted = tokenizer.encode(TEXT, specials=specials)
    assert isinstance(tokens, MappedArray) and tokens.dtype == np.uint16
    assert tokens[:].tolist() == wanted.tolist() == np.load(tmp_path / "ids.npy").tolist()
    assert tokenizer.decode(tokens[:]) == TEXT


def test_special_tokens_with_blanks_are_not_cut(tmp_path, monkeypatch):
    """Ground truth: `encode` of the whole text; names that begin alike, and hold blanks."""
    names = ("<a b>", "<a b> c", " d ")
    tokenizer = (
        ByteTokenizer(names),
        type(TRAINED)(Vocabulary(TRAINED.vocabulary.tokens[:-2], names), TRAINED.merges),
    )
    text = "x <a b> c d <a b> <a b>  d <a b c> d<a b>" * 9
    (tmp_path / "text").write_text(text)
    for one in tokenizer:
        for piece in (1, 2, 5, 11):
            monkeypatch.setattr(corpus, "PIECE", piece)
            tokens = write_tokens(one, tmp_path / "text", tmp_path / "ids.npy", specials=True)
            assert tokens[:].tolist() == one.encode(text, specials=True).tolist()


def test_several_texts_with_an_end(tmp_path):
    """Closed form: the ids of each text, and one behind each."""
    (tmp_path / "a").write_text("to be")
    (tmp_path / "b").write_text("")
    both = [tmp_path / "a", tmp_path / "b"]
    tokens = write_tokens(TRAINED, both, tmp_path / "ids.npy", end="<end>")
    end = TRAINED.special_id("<end>")
    assert tokens[:].tolist() == [*TRAINED.encode("to be"), end, end]


def test_many_tokens_take_four_bytes(tmp_path):
    """Closed form: 65,536 tokens fit two bytes, one more does not."""
    (tmp_path / "text").write_text("ab")
    for extra, dtype in ((1 << 16, np.uint16), ((1 << 16) + 1, np.uint32)):
        tokenizer = CharacterTokenizer(Vocabulary(map(chr, range(33, extra + 33))))
        tokens = write_tokens(tokenizer, tmp_path / "text", tmp_path / "ids.npy")
        assert tokens.dtype == dtype and tokenizer.decode(tokens[:]) == "ab"


def test_windows_are_cut_out_of_the_file(tmp_path):
    """Ground truth: windows of the same tokens in memory, through a loader."""
    (tmp_path / "text").write_text(TEXT)
    tokens = write_tokens(TRAINED, tmp_path / "text", tmp_path / "ids.npy")
    loaders = [
        DataLoader(TextWindows(t, 16, step=5), 4, shuffle=True, seed=3) for t in (tokens, tokens[:])
    ]
    for here, there in zip(*loaders, strict=True):
        assert here[0].dtype == np.int64 and here[0].shape == here[1].shape
        assert all((a == b).all() for a, b in zip(here, there, strict=True))


def test_memory_does_not_grow_with_the_text(tmp_path, monkeypatch):
    """Closed form: a text of 100 pieces is never in memory whole."""
    monkeypatch.setattr(corpus, "PIECE", 1 << 14)
    (tmp_path / "text").write_text("to be or not " * 126_000)
    tracemalloc.start()
    tokens = write_tokens(ByteTokenizer(), tmp_path / "text", tmp_path / "ids.npy")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(tokens) == 1_638_000 and peak < 600_000


@pytest.mark.parametrize("piece", [1, 4, 1 << 20])
@pytest.mark.parametrize(
    ("data", "place"),
    [(b"abc\xff", 3), (b"\xe6\xb7", 0), (b"12345\xe6\xb7x", 5), (b"\xed\xa0\x80", 0)],
)
def test_bytes_that_are_no_text_are_named(tmp_path, monkeypatch, piece, data, place):
    """Ground truth: the place of the byte that was written; nothing is left of the ids."""
    monkeypatch.setattr(corpus, "PIECE", piece)
    (tmp_path / "text").write_bytes(data)
    with pytest.raises(FileFormatError, match=f"no UTF-8 at byte {place}"):
        write_tokens(TRAINED, tmp_path / "text", tmp_path / "ids.npy")
    assert [p.name for p in tmp_path.iterdir()] == ["text"]


def test_bad_input_is_named(tmp_path):
    """Ground truth: the documented rules."""
    (tmp_path / "text").write_text("")
    with pytest.raises(DataError, match="no token to write"):
        write_tokens(TRAINED, tmp_path / "text", tmp_path / "ids.npy")
    (tmp_path / "text").write_text("to be")
    with pytest.raises(SettingError, match="no special token '<nobody>'"):
        write_tokens(TRAINED, tmp_path / "text", tmp_path / "ids.npy", end="<nobody>")
    with pytest.raises(DataError, match="not in the vocabulary"):
        write_tokens(CharacterTokenizer("to"), tmp_path / "text", tmp_path / "ids.npy")
    tokens = write_tokens(ByteTokenizer(), tmp_path / "text", tmp_path / "ids.npy")
    with pytest.raises(SettingError, match="do not fit the text"):
        TextWindows(tokens, length=5)
    with pytest.raises(DataError, match="id 116 at place 0"):
        TextWindows(tokens, length=3, vocab=116)[0]
    assert TextWindows(tokens, length=3, vocab=117)[0][0].tolist() == [116, 111, 32]


@pytest.mark.parametrize("array", [np.zeros((2, 2), np.int32), np.zeros(3, np.float32)])
def test_files_of_something_else(tmp_path, array):
    """Ground truth: whole numbers along one axis."""
    np.save(tmp_path / "ids.npy", array)
    with pytest.raises(FileFormatError, match="does not hold token ids"):
        map_tokens(tmp_path / "ids.npy")
