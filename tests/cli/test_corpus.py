"""Texts read in pieces, and the tokens of long ones in the run's folder."""

import json
import os
import tracemalloc

import numpy as np
import pytest

from tests.cli.test_texts import PLAY, TINY, here, settings  # noqa: F401 (a fixture)
from tests.test_cli import stopped_after_an_epoch, tito
from tinytorch.base import files
from tinytorch.cli import corpus
from tinytorch.cli.corpus import Source
from tinytorch.cli.generate import load_speaker
from tinytorch.cli.runs import RunFolder
from tinytorch.cli.texts import Texts
from tinytorch.data import MappedArray
from tinytorch.models import load_folder
from tinytorch.text import BytePairTokenizer
from tinytorch.text import corpus as token_files
from tinytorch.training.history import Silent


@pytest.fixture
def short_memory(monkeypatch):
    """As if 2 kB of text, read 500 bytes at once, were as much as a memory holds."""
    monkeypatch.setattr(corpus, "HELD", 2000)
    monkeypatch.setattr(token_files, "PIECE", 500)


def long(changed, path):
    """A run whose text is longer than that."""
    return Texts(settings(**changed), Silent(), begin=lambda s: RunFolder.begin(s, path))


@pytest.mark.parametrize("kind", ["characters", "bytes", "bpe"])
def test_a_long_text_has_the_tokens_of_a_short_one(here, monkeypatch, kind):  # noqa: F811
    """Ground truth: the same text held in memory."""
    monkeypatch.setattr(token_files, "PIECE", 500)
    held = Texts(settings(tokenizer=kind, vocabulary=280), Silent())
    monkeypatch.setattr(corpus, "HELD", len(PLAY) - 1)
    kept = long({"tokenizer": kind, "vocabulary": 280}, here / "run")
    assert isinstance(kept.tokens, MappedArray) and isinstance(held.tokens, np.ndarray)
    if kind != "bpe":  # which is learned of every second piece
        assert np.array_equal(kept.tokens, held.tokens)
        assert np.array_equal(kept.held_back, held.held_back)
    read = kept.tokenizer.decode(np.concatenate([kept.tokens, kept.held_back]))
    assert read == PLAY and kept.settings == held.settings


def test_pieces_of_equal_distances(here, short_memory):  # noqa: F811
    """Ground truth: the text's length over 2000: every second piece of 500 bytes; all characters
    and the digest are of the whole."""
    source = Source(here / "play.txt")
    whole = list(source.pieces())
    step = -(-len(PLAY) // 2000)
    assert step > 1 and list(source.some()) == whole[::step] and "".join(whole) == PLAY
    assert list(Source(PLAY).some()) == [PLAY] and not Source(PLAY).is_long
    assert source.characters() == set(PLAY) and source.digest() == Source(PLAY).digest()


def test_memory_does_not_depend_on_the_text(here, monkeypatch):  # noqa: F811
    """Ground truth: what Python and NumPy ask for, with four times the text."""
    monkeypatch.setattr(files, "CHUNK", 1 << 13)
    monkeypatch.setattr(corpus, "HELD", 1 << 15)
    monkeypatch.setattr(token_files, "PIECE", 1 << 13)
    needed = []
    for times in (200, 800):
        (here / "long.txt").write_text(PLAY[:84] * times * 10)
        tracemalloc.start()
        long({"data": "long.txt", "tokenizer": "bytes"}, here / f"run{times}")
        needed.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(needed) < 40 << 13 and needed[1] < needed[0] + (1 << 13)


def test_a_long_run_goes_on_with_the_tokens_that_are_there(here, capsys, short_memory):  # noqa: F811
    """Ground truth: the run that was never stopped; the files' inodes say whether they were made
    again: only where they are not what was made of this text."""
    whole = long({"epochs": 2, "tokenizer": "bpe", "vocabulary": 280}, here / "whole")
    whole.learn(RunFolder.open(here / "whole"), resume=False)
    first = long({"epochs": 2, "tokenizer": "bpe", "vocabulary": 280}, here / "run")
    run = RunFolder.open(here / "run")
    with stopped_after_an_epoch():
        first.learn(run, resume=False)
    made = os.stat(run.tokens).st_ino

    def gone_on():
        code, _, err = tito(capsys, "train", "--resume", "--run", run.path)
        assert code == 0, err
        again = load_folder(run.path).state_dict()
        for name, weight in whole.model.state_dict().items():
            assert np.array_equal(np.asarray(weight), np.asarray(again[name])), name

    gone_on()
    assert os.stat(run.tokens).st_ino == made  # and they fit what is saved at the end
    spoiled = bytearray(run.tokens.read_bytes())
    spoiled[-2] ^= 1
    run.tokens.write_bytes(spoiled)
    gone_on()
    made = os.stat(run.tokens).st_ino
    assert tito(capsys, "evaluate", run.path, "--eager", "--json")[0] == 0
    assert os.stat(run.tokens).st_ino == made
    run.tokens.with_suffix(".json").write_text("{")
    assert tito(capsys, "evaluate", run.path, "--eager", "--json")[0] == 0
    assert json.loads(run.tokens.with_suffix(".json").read_text())["text"] == first.settings.digest


def test_the_command_of_a_long_text(here, capsys, short_memory):  # noqa: F811
    """Ground truth: its tokens are in the run, and the model speaks with its tokenizer."""
    code, _, err = tito(capsys, "train", "gpt", "--data", "play.txt", "--epochs", 1, *TINY)
    assert code == 0, err
    run = RunFolder.open(here / "runs" / "play-gpt")
    assert np.load(run.tokens).shape == (len(PLAY),)
    assert load_speaker(run.path).tokenizer.decode(np.load(run.tokens)) == PLAY


def test_a_long_text_that_cannot_be_learned_leaves_no_folder(here, capsys, short_memory):  # noqa: F811
    """Ground truth: what is wrong is found before anything is written."""
    (here / "broken").write_bytes(PLAY.encode() + b"\xff")
    for words in (("--data", "broken"), ("--data", "play.txt", "--heads", 3)):
        code, _, err = tito(capsys, "train", "gpt", *TINY, *words)
        assert code == 2 and "fix:" in err and not (here / "runs").exists()
    run = RunFolder.begin(Texts(settings(), Silent()).settings, here / "theirs")
    run.tokens.symlink_to(here / "play.txt")
    code, _, err = tito(capsys, "train", "--resume", "--run", run.path)
    assert code == 2 and "tokens.npy of this run is elsewhere" in err


def test_other_programs_read_the_tokenizer(here, short_memory):  # noqa: F811
    """Ground truth: a tokenizer learned of the same pieces."""
    run = long({"tokenizer": "bpe", "vocabulary": 300}, here / "run")
    again = BytePairTokenizer.train(Source(here / "play.txt").some(), 44)
    assert again.vocabulary == run.tokenizer.vocabulary
