"""Native encoding gives the ids of the definition in Python, whatever the text and the merges."""

import copy
import pickle
import threading

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tinytorch.data import load_tiny_shakespeare
from tinytorch.text import BytePairTokenizer, Vocabulary, load_gpt2_tokenizer, merges
from tinytorch.text.merge_kernel import KEY, SHORT
from tinytorch.text.merges import merged
from tinytorch.text.native_merges import NativeMerges
from tinytorch.text.words import LETTER

TEXT = "to be or not to be, that's the question: 1234 1234\n\n  ééé 深層 深層学習 ééé\n" * 3
TRAINED = BytePairTokenizer.train(TEXT, merges=120)
NATURAL = st.text(st.sampled_from("to be,'rsdvl12 \n\t\xa0é深\u2003☃\U0001f642\0"))


@settings(deadline=None, max_examples=300)
@given(NATURAL | st.text() | st.text(st.characters(max_codepoint=127)))
@example("we'll  see\n\n I've 'S x² 10½ \x1c\x1f\x85 ")
@example("a\0 a\0\0 a a\0")
def test_texts_are_encoded_as_defined(text):
    """Ground truth: the definition."""
    assert TRAINED._native(text.encode()).tolist() == TRAINED._defined(text)


SIGNS = " \n\r\t'sSrReElLtTaB12\u017f.,-é深\xa0\u2028"
LATER = {
    words: BytePairTokenizer.train(TEXT + "I'LL, WE'D.\n\n", 160, words=words)
    for words in ("llama3", "qwen2", "cl100k")
}


@pytest.mark.parametrize("words", LATER)
@settings(deadline=None, max_examples=200)
@given(
    text=NATURAL
    | st.text(st.sampled_from(" \n\r\t'sSrReElLtTaB12\u017f.,-é深\xa0\u2028"))
    | st.text()
)
@example(text="I'VE  2048 caſe'ſ,\r\n\n \tno?\n  ")
def test_later_words_are_encoded_as_defined(words, text):
    """Ground truth: the definition; of bytes that are no UTF-8 too."""
    tokenizer = LATER[words]
    assert tokenizer._native(text.encode()).tolist() == tokenizer._defined(text)
    broken = text.encode()[1:]
    defined = tokenizer._defined(broken.decode("utf-8", "surrogateescape"))
    assert tokenizer._native(broken).tolist() == defined


def test_a_word_that_is_a_token_is_that_token():
    """Ground truth: by hand: "bc" is merged before "ab", so no merge gives "abc" of a, b and c, nor
    "abcd"; the definition for words that begin or end like them."""
    letters = sorted(LETTER.values())
    merges = [("b", "c"), ("a", "b"), ("ab", "c"), ("abc", "d")]
    tokens = [*letters, *map("".join, merges), "never"]
    plain, whole = (
        BytePairTokenizer(Vocabulary(tokens[: None if flag else -1]), merges, "llama3", flag)
        for flag in (False, True)
    )
    for text, wanted in (
        ("abc", ["abc"]), ("abcd", ["abcd"]), ("never", ["never"]),
        ("abcda", ["a", "bc", "d", "a"]),
    ):  # fmt: skip
        ids = whole._defined(text)
        assert [whole.vocabulary.token(i) for i in ids] == wanted
        assert whole._native(text.encode()).tolist() == ids
    assert [plain.vocabulary.token(i) for i in plain.encode("abc")] == ["a", "bc"]
    rng = np.random.default_rng(0)
    text = " ".join("".join(rng.choice(list("abcd"), rng.integers(1, 6))) for _ in range(3000))
    text = text.replace(" ", "\n") + "\nnever nevera"
    assert whole._native(text.encode()).tolist() == whole._defined(text)
    assert len(whole.encode(text)) < len(plain.encode(text))


@settings(deadline=None)
@given(
    st.binary() | st.text().map(lambda s: s.encode()[1:]) | st.text("é深\U0001f642").map(str.encode)
)
@example(b"\xed\xa0\x80 \xc0\x80 \xf4\x90\x80\x80 \xe0\x80\x80 \xf0\x80\x80\x80 a")
@example(b"\xe6\xb7 \xe6 \xf0\x9f\x99 \xf5\xff")
def test_bytes_are_encoded_as_defined(data):
    """Ground truth: the definition over Python's reading of broken UTF-8."""
    assert TRAINED._native(data).tolist() == TRAINED._defined(
        data.decode("utf-8", "surrogateescape")
    )


@settings(deadline=None)
@given(
    st.dictionaries(
        st.tuples(st.integers(97, 101), st.integers(97, 101)),
        st.tuples(st.integers(0, 3), st.integers(97, 101)),
        max_size=12,
    ),
    st.text("abcde", max_size=2 * SHORT) | st.text("ab", min_size=SHORT, max_size=5 * SHORT),
)
def test_any_merges_are_applied_as_defined(ranks, text):
    """Ground truth: `merged`, with merges of equal rank and merges that give tokens again."""
    native = NativeMerges("whole", range(256), ranks)
    assert native(text.encode()).tolist() == merged(list(text.encode()), ranks)


@pytest.mark.parametrize("length", [1, 7, 8, KEY - 1, KEY, KEY + 1, SHORT, SHORT + 1, 5000])
def test_words_of_every_length(length):
    """Ground truth: the definition, seen for the first time and again, beside others like it."""
    rng = np.random.default_rng(length)
    words = ["".join(rng.choice(list("toberque"), length)) for _ in range(3)]
    text = " ".join([*words, *words, words[0] + "t", words[0][:-1]])
    assert TRAINED._native(text.encode()).tolist() == TRAINED._defined(text)


def test_words_are_kept_and_replaced():
    """Ground truth: the definition, for more different words than are kept."""
    text = " ".join(f"{i:x} {i % 100}" for i in range(60_000))
    assert TRAINED._native(text.encode()).tolist() == TRAINED._defined(text)


def test_empty_tables():
    """Closed form: without merges the tokens are the bytes."""
    assert NativeMerges("whole", range(256), {})(b"").tolist() == []
    assert NativeMerges("gpt2", range(256), {})(bytes(range(256))).tolist() == list(range(256))


def test_when_it_is_made(monkeypatch):
    """Ground truth: the documented number of characters; copies make their own."""
    fresh = BytePairTokenizer(TRAINED.vocabulary, TRAINED.merges)
    monkeypatch.setattr(merges, "NATIVE_FROM", 2 * len(TEXT))
    fresh.encode(TEXT)
    assert fresh._made is None
    ids = fresh.encode(TEXT)
    assert fresh._made is not None and ids.tolist() == TRAINED._defined(TEXT)
    for other in (copy.deepcopy(fresh), pickle.loads(pickle.dumps(fresh))):
        assert other._made is None and other.encode(TEXT).tolist() == ids.tolist()
    monkeypatch.setattr(merges, "LONGEST_PART", 50)
    assert fresh.encode(TEXT).tolist() == ids.tolist()
    monkeypatch.setattr(merges, "_has_llvm", lambda: False)
    fresh._made = None
    assert fresh.encode(TEXT).tolist() == ids.tolist() and fresh._made is None


def test_threads_do_not_disturb_each_other():
    """Ground truth: the definition; each call has tables of words of its own."""
    texts = [TEXT * n for n in (50, 60, 70, 80)]
    wanted = [TRAINED._defined(text) for text in texts]
    wrong = []

    def encode(i: int) -> None:
        for _ in range(10):
            if TRAINED._native(texts[i].encode()).tolist() != wanted[i]:
                wrong.append(i)

    threads = [threading.Thread(target=encode, args=(i,)) for i in range(len(texts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.data
@pytest.mark.parametrize(
    "text", [" " * 10**6, "a" * 10**6, "\n" * 10**6, "ab" * 500_000, "深" * 300_000]
)
def test_long_words_take_no_longer_than_their_length(text, official_data):
    """Ground truth: the text itself. A method of n^2 would take hours."""
    t = load_gpt2_tokenizer(official_data)
    ids = t.encode(text)
    assert t.decode(ids) == text


@pytest.mark.data
def test_gpt2s_ids_of_shakespeare(official_data):
    """Ground truth: the definition, of a whole text."""
    t, text = load_gpt2_tokenizer(official_data), load_tiny_shakespeare(official_data)
    assert t._native(text.encode()).tolist() == t._defined(text)
