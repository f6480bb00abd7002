"""A tokenizer is found in whatever file or folder it comes in."""

import json

import pytest

from tests.text.test_byte_pairs import BYTES, TRAINED
from tests.text.test_sentence_pieces import LLAMA, MODEL, SCORES, TOKENS, llama2c
from tinytorch.base.errors import FileFormatError, NotFoundError
from tinytorch.text import (
    ByteTokenizer,
    CharacterTokenizer,
    Vocabulary,
    load_tokenizer,
    save_tokenizer_json,
)

OURS = [CharacterTokenizer("ab", ("<pad>",)), ByteTokenizer(("<pad>",)), TRAINED, LLAMA]


@pytest.mark.parametrize("tokenizer", OURS, ids=lambda t: type(t).__name__)
def test_what_save_wrote(tmp_path, tokenizer):
    """Ground truth: the tokenizer that was saved; the file alone, and in a folder."""
    tokenizer.save(tmp_path / "tokenizer.json")
    for path in (tmp_path / "tokenizer.json", tmp_path):
        loaded = load_tokenizer(path)
        assert type(loaded) is type(tokenizer) and loaded.vocabulary == tokenizer.vocabulary
        assert loaded.encode("abab").tolist() == tokenizer.encode("abab").tolist()


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model", "tokenizer.bin"])
def test_files_of_others(tmp_path, name):
    """Ground truth: what each file was made of; under its name in a folder, or any other."""
    if name.endswith("json"):
        save_tokenizer_json(TRAINED, tmp_path / name)
    else:
        content = MODEL if name.endswith("model") else llama2c(TOKENS, SCORES)
        (tmp_path / name).write_bytes(content)
    found = [type(load_tokenizer(tmp_path)).__name__]
    (tmp_path / name).rename(tmp_path / "other")
    found.append(type(load_tokenizer(tmp_path / "other")).__name__)
    kind = "BytePairTokenizer" if name.endswith("json") else "SentencePieceTokenizer"
    assert found == [kind] * 2


def test_llama2cs_file_whose_length_looks_like_a_message(tmp_path):
    """Ground truth: a longest piece of 10 bytes; the other kind begins with a 10."""
    tokens = [*TOKENS, "nnnnnnnnnn"]
    (tmp_path / "t.bin").write_bytes(llama2c(tokens, [*SCORES, -20.0]))
    assert (tmp_path / "t.bin").read_bytes()[:4] == b"\n\0\0\0"
    assert len(load_tokenizer(tmp_path / "t.bin")) == len(tokens)


@pytest.mark.parametrize("names", [("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")])
def test_two_files(tmp_path, names):
    """Ground truth: ids written by hand, under both pairs of names."""
    (tmp_path / names[0]).write_text(json.dumps({t: i for i, t in enumerate([*BYTES, "ab"])}))
    (tmp_path / names[1]).write_text("#version: 0.2\na b\n")
    assert load_tokenizer(tmp_path).encode("ab").tolist() == [256]


def test_what_holds_no_tokenizer(tmp_path):
    """Ground truth: the documented kinds."""
    with pytest.raises(NotFoundError, match="no tokenizer in this folder"):
        load_tokenizer(tmp_path)
    with pytest.raises(NotFoundError):
        load_tokenizer(tmp_path / "t.json")
    Vocabulary("ab").save(tmp_path / "v.json")
    with pytest.raises(FileFormatError, match="holds no tokenizer"):
        load_tokenizer(tmp_path / "v.json")
    (tmp_path / "text").write_text("to be")
    with pytest.raises(FileFormatError, match="no tokenizer that can be read"):
        load_tokenizer(tmp_path / "text")
