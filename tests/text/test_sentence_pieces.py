"""Pieces with byte fallback: llama2.c's algorithm, SentencePiece's ids, and the two files."""

import io
import struct

import pytest
import sentencepiece
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinytorch.base.errors import FileFormatError, SettingError
from tinytorch.text import SentencePieceTokenizer, Vocabulary
from tinytorch.text.sentence_pieces import BLANK, BYTES, read_llama2c, read_sentencepiece

SPECIALS = ("<unk>", "<s>", "</s>")
PIECES = ["t", "he", BLANK, "h", "e", "n", BLANK + "t", BLANK + "the", "th", "en", "é", "深", "nn"]
PIECES += [BLANK + BLANK, "hen", BLANK + "t" + "h"]
TOKENS = [*SPECIALS, *BYTES, *PIECES]
SCORES = [0.0] * 259 + [-9, -1, -8, -9, -9, -9, -0.5, -2, -3, -3, -9, -9, -4, -5, -6, -7]
LLAMA = SentencePieceTokenizer.from_scores(TOKENS, SCORES, SPECIALS)
TEXTS = st.text("then é深\n▁☃", max_size=60) | st.text()


def slow_encode(tokens: list[str], scores: list[float], text: str) -> list[int]:
    """llama2.c's run.c, encode: the best pair of all, until there is none; blanks as they are."""
    spelled = [token.replace(BLANK, " ") for token in tokens]
    place = {s: i for i, s in enumerate(spelled)}
    ids = []
    for character in f" {text}" if text else "":
        if character in place:
            ids.append(place[character])
        else:
            ids += [place[f"<0x{byte:02X}>"] for byte in character.encode()]
    while True:
        best, at = -1e10, -1
        for i in range(len(ids) - 1):
            made = place.get(spelled[ids[i]] + spelled[ids[i + 1]])
            if made is not None and scores[made] > best:
                best, at = scores[made], i
        if at < 0:
            return ids
        ids[at : at + 2] = [place[spelled[ids[at]] + spelled[ids[at + 1]]]]


@settings(deadline=None, max_examples=300)
@given(TEXTS)
@example("")
@example(" ")
@example("the then  hen\0 nnn tthe")
def test_texts_are_encoded_as_llama2c_does(text):
    """Ground truth: its algorithm as a slow program, n^2 in the length of the text."""
    assert LLAMA.encode(text).tolist() == slow_encode(TOKENS, SCORES, text)


@settings(deadline=None)
@given(TEXTS)
def test_any_text_comes_back(text):
    """Ground truth: the text itself; U+2581 too, which pieces spell blanks with."""
    assert LLAMA.decode(LLAMA.encode(text)) == text
    assert LLAMA._native(text.encode()).tolist() == LLAMA._defined(text)


@settings(deadline=None)
@given(TEXTS.map(lambda text: text + "<s>") | TEXTS, TEXTS)
def test_texts_between_special_tokens_come_back(text, more):
    """Ground truth: the text itself."""
    ids = LLAMA.encode(text + more, specials=True)
    assert LLAMA.decode(ids) == text + more
    assert (
        b"".join(LLAMA.token_bytes(i) for i in LLAMA.encode(text)).decode()
        == " " * bool(text) + text
    )


def test_where_a_blank_is_put_in_front():
    """Closed form: of the text, behind each special token, or not; not twice where `single`."""
    vocabulary, merges = LLAMA.vocabulary, LLAMA.merges

    def ids(text: str, prefix: str, single: bool) -> list[str]:
        t = SentencePieceTokenizer(vocabulary, merges, LLAMA.ranks, prefix, single)
        return [t.vocabulary.token(i) for i in t.encode(text, specials=True)]

    assert ids("t<s>t", "always", False) == ["▁t", "<s>", "▁t"]
    assert ids("t<s>t", "first", False) == ["▁t", "<s>", "t"]
    assert ids("<s>t", "first", False) == ["<s>", "t"]
    assert ids("t<s>t", "never", False) == ["t", "<s>", "t"]
    assert ids(" t", "always", False) == ["▁", "▁t"] or ids(" t", "always", False) == ["▁▁", "t"]
    assert ids(" t", "always", True) == ["▁t"] and ids("t", "first", True) == ["▁t"]
    assert ids("<s>", "always", False) == ["<s>"]


def test_bytes_and_special_tokens_are_no_pieces_of_texts():
    """Ground truth: by hand: their names in a text are characters."""
    for name in ("<0x0A>", "<s>"):
        ids = LLAMA.encode(name)
        assert len(ids) > 3 and LLAMA.decode(ids) == name
    assert LLAMA.encode("<s>", specials=True).tolist() == [1]
    assert LLAMA.decode([1, 259, 10 + 3]) == "<s>t\n"
    assert LLAMA.decode(LLAMA.encode("☃")[:3]) == "\ufffd"


def test_pieces_across_words():
    """Ground truth: the slow program: with a blank inside a piece no word ends there."""
    tokens = [*TOKENS, "t" + BLANK, "t" + BLANK + "t"]
    scores = [*SCORES, -0.1, -0.2]
    t = SentencePieceTokenizer.from_scores(tokens, scores, SPECIALS)
    for text in ("t t t tt the t", "then t"):
        wanted = slow_encode(tokens, scores, text)
        assert t.encode(text).tolist() == wanted == t._native(f" {text}".encode()).tolist()
    assert t.border("t t") == 0 and LLAMA.border("t t") == 1


def test_equal_scores_take_the_leftmost():
    """Ground truth: the slow program."""
    scores = [0.0] * 259 + [-1.0] * len(PIECES)
    t = SentencePieceTokenizer.from_scores(TOKENS, scores, SPECIALS)
    for text in ("thethen", "nnnn hen", "tthe  the"):
        assert t.encode(text).tolist() == slow_encode(TOKENS, scores, text)


def test_a_file_keeps_it(tmp_path):
    """Ground truth: the ids before, and what it was made of."""
    for t in (
        LLAMA, SentencePieceTokenizer(LLAMA.vocabulary, LLAMA.merges, None, "first", True)
    ):  # fmt: skip
        t.save(tmp_path / "t.json")
        loaded = SentencePieceTokenizer.load(tmp_path / "t.json")
        assert loaded.vocabulary == t.vocabulary and loaded.merges == t.merges
        assert (loaded.ranks, loaded.prefix, loaded.single) == (t.ranks, t.prefix, t.single)
    text = (tmp_path / "t.json").read_text()
    (tmp_path / "t.json").write_text(text.replace('"0 ', '"0 9'))
    with pytest.raises(FileFormatError, match="rank, first and second token"):
        SentencePieceTokenizer.load(tmp_path / "t.json")


@pytest.mark.parametrize(
    ("tokens", "merges", "more", "message"),
    [
        (TOKENS[4:], [], {}, "the piece of a byte is missing"),
        (TOKENS, [("t", "e")], {}, "a merge is not of pieces"),
        (TOKENS, [("<s>", "t")], {}, "a merge is not of pieces"),
        (TOKENS, [("t", "")], {}, "a merge is not of pieces"),
        ([*TOKENS, " t"], [], {}, "a blank in a piece"),
        (TOKENS, [("t", "h")], {"ranks": []}, "1 merges need as many"),
        (TOKENS, [("t", "h")], {"ranks": [-1]}, "1 merges need as many"),
        (TOKENS, [], {"prefix": "last"}, "prefix is none of"),
    ],
)
def test_what_does_not_fit(tokens, merges, more, message):
    """Ground truth: the documented rules."""
    with pytest.raises(SettingError, match=message):
        SentencePieceTokenizer(Vocabulary(tokens, SPECIALS), merges, **more)


def test_as_many_scores_as_pieces():
    """Ground truth: the documented rule."""
    with pytest.raises(SettingError, match="need as many"):
        SentencePieceTokenizer.from_scores(TOKENS, [0.0], SPECIALS)


# --- llama2.c's file ---


def llama2c(tokens: list[str], scores: list[float]) -> bytes:
    """The file that llama2.c's tokenizer.py writes."""
    texts = [token.replace(BLANK, " ").encode() for token in tokens]
    texts[1:3] = [b"\n<s>\n", b"\n</s>\n"]
    parts = [struct.pack("<I", max(map(len, texts)))]
    for text, score in zip(texts, scores, strict=True):
        parts.append(struct.pack("<fI", score, len(text)) + text)
    return b"".join(parts)


def test_llama2cs_file_is_read(tmp_path):
    """Ground truth: the tokenizer that the file was made of."""
    (tmp_path / "t.bin").write_bytes(llama2c(TOKENS, SCORES))
    t = read_llama2c(tmp_path / "t.bin")
    assert t.vocabulary == LLAMA.vocabulary
    assert t.encode("the then é☃").tolist() == LLAMA.encode("the then é☃").tolist()


@pytest.mark.parametrize("cut", [0, 1, 4, 5, 11, 40, -1])
def test_a_cut_file_is_refused(tmp_path, cut):
    """Ground truth: the file's own lengths."""
    (tmp_path / "t.bin").write_bytes(llama2c(TOKENS, SCORES)[:cut])
    with pytest.raises(FileFormatError, match="no tokenizer that can be read"):
        read_llama2c(tmp_path / "t.bin")


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b[:8] + struct.pack("<i", -1) + b[12:],
        lambda b: b[:8] + struct.pack("<I", 1 << 31) + b[12:],
        lambda b: b.replace(b"<unk>", b"<ukn>"),
        lambda b: b.replace(b"<unk>", b"<\xff\xff\xff>"),
        lambda b: b[:4] + struct.pack("<f", float("nan")) + b[8:],
        lambda b: b + b[-9:],
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change):
    """Ground truth: the documented format: lengths, names, UTF-8, no token twice."""
    (tmp_path / "t.bin").write_bytes(change(llama2c(TOKENS, SCORES)))
    with pytest.raises(FileFormatError, match="no tokenizer that can be read"):
        read_llama2c(tmp_path / "t.bin")


@pytest.mark.data
def test_the_tokenizer_of_a_real_model(official_data):
    """Ground truth: the slow program over the file's own tokens and scores."""
    data = (official_data / "llama2c-stories260K" / "tok512.bin").read_bytes()
    t = read_llama2c(official_data / "llama2c-stories260K" / "tok512.bin")
    tokens, scores, at = list(t.vocabulary.tokens), [], 4
    while at < len(data):
        score, length = struct.unpack_from("<fi", data, at)
        scores.append(score)
        at += 8 + length
    assert len(tokens) == 512 and t.border("Once upon") == 4
    for text in ("Once upon a time, Lily was very happy.\n“é” ☃  …", "  the\0 end", "naïve – x€™"):
        assert t.encode(text).tolist() == slow_encode(tokens, scores, text)
        assert t.decode(t.encode(text)) == text


# --- SentencePiece's file ---

CORPUS = ["to be or not to be, that is the question", "whether 'tis nobler in the mind  to suffer"]
CORPUS += ["the slings and arrows of outrageous fortune", "é深 ☃ to take   arms 12 times"] * 2


def trained(**settings: object) -> bytes:
    """A model that the library makes of a few lines."""
    given = {
        "vocab_size": 330, "model_type": "bpe", "byte_fallback": True, "hard_vocab_limit": False,
        "normalization_rule_name": "identity", "remove_extra_whitespaces": False,
        "minloglevel": 2, "character_coverage": 0.98, "num_threads": 1,
    }  # fmt: skip
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 5), model_writer=out, **given | settings
    )
    return out.getvalue()


MODEL = trained()
PEER = sentencepiece.SentencePieceProcessor(model_proto=MODEL)


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tokenizer.model"
    path.write_bytes(MODEL)
    return read_sentencepiece(path)


@settings(deadline=None, max_examples=200)
@given(
    text=st.text("to bearsth,é深☃\n 12", max_size=60)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters=[BLANK, "\0"]))
)
def test_ids_are_sentencepieces(ours, text):
    """Peer: the library sentencepiece, over a model that it trained. U+2581 and NUL left out:
    the first becomes a blank there, the second ends a text."""
    assert ours.encode(text).tolist() == PEER.encode(text)
    assert ours.decode(ours.encode(text)) == text


def test_a_model_without_a_blank_in_front(tmp_path):
    """Peer: the library sentencepiece."""
    data = trained(add_dummy_prefix=False)
    (tmp_path / "m").write_bytes(data)
    peer, t = (
        sentencepiece.SentencePieceProcessor(model_proto=data),
        read_sentencepiece(tmp_path / "m"),
    )
    for text in ("to be", " to  be", ""):
        assert t.encode(text).tolist() == peer.encode(text) and t.decode(t.encode(text)) == text


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"model_type": "unigram"}, "model_type"),
        ({"byte_fallback": False}, "byte_fallback"),
        ({"normalization_rule_name": "nmt_nfkc"}, "precompiled_charsmap"),
        ({"remove_extra_whitespaces": True}, "remove_extra_whitespaces"),
        ({"treat_whitespace_as_suffix": True}, "treat_whitespace_as_suffix"),
        ({"user_defined_symbols": ["to"]}, "user-defined"),
    ],
)
def test_models_of_other_kinds_are_named(tmp_path, settings, named):
    """Ground truth: the settings that the library was given."""
    (tmp_path / "m").write_bytes(trained(**settings))
    with pytest.raises(FileFormatError, match=named):
        read_sentencepiece(tmp_path / "m")


@pytest.mark.parametrize("data", [MODEL[:-7], MODEL[:3], b"\x0a\xff" * 9, b"\xff" * 40, b"{}", b""])
def test_no_model_is_refused(tmp_path, data):
    """Ground truth: the wire format."""
    (tmp_path / "m").write_bytes(data)
    with pytest.raises(FileFormatError):
        read_sentencepiece(tmp_path / "m")
