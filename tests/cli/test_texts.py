"""`tito train gpt`: texts, tokenizers, and a run that learns one."""

import json

import numpy as np
import pytest

from tests.test_cli import stopped_after_an_epoch, tito
from tinytorch.base.errors import FileFormatError, SettingError
from tinytorch.cli import texts
from tinytorch.cli.report import Report
from tinytorch.cli.runs import RunFolder, TextSettings
from tinytorch.cli.texts import TEXTS, Texts, optimizer_of, sample, text_named
from tinytorch.models import GPT, GPTConfig, load_folder
from tinytorch.text import load_tokenizer
from tinytorch.training.history import Silent

TINY = ("--layers", 1, "--heads", 2, "--size", 16, "--length", 16, "--eager", "--batch-size", 16)
PLAY = "to be or not to be, that is the question:\nwhether 'tis nobler in the mind to suffer\n" * 40


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder with a text in it; samples are of four tokens, which take no time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(texts, "SAMPLED", 4)
    (tmp_path / "play.txt").write_text(PLAY)
    return tmp_path


def settings(**changed):
    """Of a run that an eager test can afford."""
    return TextSettings(**{
        "data": "play.txt", "model": "gpt", "epochs": 1, "batch_size": 16, "lr": 0.02,
        "eager": True, "layers": 1, "heads": 2, "size": 16, "length": 16, **changed,
    })  # fmt: skip


def test_every_named_text_is_there():
    """Ground truth: what Python itself ships; its reference explains the statement "while"."""
    text = TEXTS["python"].load(None, None)
    assert text.isprintable() is False and len(text) > 100_000
    assert "while_stmt" in text


@pytest.mark.data
def test_shakespeare(official_data):
    """Ground truth: the official file has 65 different characters."""
    assert len(set(text_named("shakespeare", official_data).text)) == 65


@pytest.mark.parametrize("kind", ["characters", "bytes", "bpe"])
def test_a_text_is_learned(here, kind):
    """Ground truth: of V tokens each costs log V nats in a model that knows nothing, and
    the text repeats itself; what was trained is what the folder gives back."""
    learning = Texts(settings(tokenizer=kind, vocabulary=280, epochs=6), Silent())
    folder = RunFolder.begin(learning.settings)
    history = learning.learn(folder, resume=False)
    assert history.last["val_loss"] < np.log(len(learning.tokenizer)) - 0.5
    assert history.last["val_loss"] < history["val_loss"][0]
    learning.save(folder, {})
    again, tokenizer = load_folder(folder.path), load_tokenizer(folder.path)
    assert tokenizer.encode(PLAY).tolist() == learning.tokenizer.encode(PLAY).tolist()
    for name, weight in learning.model.state_dict().items():
        assert np.array_equal(np.asarray(weight), np.asarray(again.state_dict()[name])), name


def test_every_weight_is_moved_once():
    """Ground truth: Muon has the matrices of the blocks, AdamW all else, none is in both."""
    model = GPT(GPTConfig(9, 2, 2, 16, 8))
    muon, adam = optimizer_of(model, 0.02).optimizers
    matrices, others = list(muon.parameters()), list(adam.parameters())
    assert len(matrices) == 2 * 4 and all(p.ndim == 2 for p in matrices)
    assert sorted(map(id, [*matrices, *others])) == sorted(map(id, model.parameters()))


def test_the_command(here, capsys):
    """Ground truth: the sizes asked for, a sample an epoch, and the commands that go on."""
    code, out, err = tito(capsys, "train", "gpt", "--data", "play.txt", "--epochs", 2, *TINY)
    assert code == 0, err
    assert "1 layers, 2 heads, size 16, context 16" in out and "choice among" in out
    assert "tito generate runs/play-gpt" in out and "tito predict" not in out
    code, out, _ = tito(capsys, "evaluate", "runs/play-gpt", "--eager", "--json")
    measured = json.loads(out)
    assert measured["event"] == "measured" and 0 < measured["validation_loss"] < np.log(22)
    code, out, _ = tito(capsys, "curve", "runs/play-gpt")
    assert code == 0 and "gpt on play.txt" in out and "val_loss" in out
    code, _, err = tito(capsys, "predict", "runs/play-gpt")
    assert code == 2 and "tito generate runs/play-gpt" in err


def test_in_json_samples_are_events(here, capsys):
    """Ground truth: one object a line; a sample for each epoch."""
    code, out, _ = tito(
        capsys, "train", "gpt", "--data", "play.txt", "--epochs", 2, "--json", *TINY
    )
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [e["epoch"] for e in events if e["event"] == "sample"] == [1, 2]
    done = next(e for e in events if e["event"] == "done")
    assert done["perplexity"] == pytest.approx(np.exp(done["validation_loss"]))


def test_a_stopped_run_goes_on_to_the_last_bit(here, capsys):
    """Ground truth: the run that was never stopped."""
    whole = Texts(settings(epochs=2), Silent())
    whole.learn(RunFolder.begin(whole.settings, here / "whole"), resume=False)
    first = Texts(settings(epochs=2), Silent())
    run = RunFolder.begin(first.settings, here / "stopped")
    with stopped_after_an_epoch():
        first.learn(run, resume=False)
    code, _, err = tito(capsys, "train", "--resume", "--run", run.path)
    assert code == 0, err
    again = load_folder(run.path).state_dict()
    for name, weight in whole.model.state_dict().items():
        assert np.array_equal(np.asarray(weight), np.asarray(again[name])), name


def test_a_run_goes_on_with_its_own_text_alone(here, capsys):
    """Ground truth: another text under the same name is refused; a run that says no digest is none
    of ours: its settings could name any file."""
    learning = Texts(settings(), Silent())
    run = RunFolder.begin(learning.settings)
    (here / "play.txt").write_text(PLAY.upper())
    code, _, err = tito(capsys, "train", "--resume", "--run", run.path)
    assert code == 2 and "not the one that this run began with" in err
    written = json.loads((run.path / "settings.json").read_text())
    for digest in ("", None, 7):
        (run.path / "settings.json").write_text(json.dumps(written | {"digest": digest}))
        code, _, err = tito(capsys, "train", "--resume", "--run", run.path)
        assert code == 2 and "SHA-256" in err
    del written["digest"]
    (run.path / "settings.json").write_text(json.dumps(written))
    assert "digest is missing" in tito(capsys, "train", "--resume", "--run", run.path)[2]


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        (("--data", "none.txt"), "no such text"),
        (("--data", "latin.txt"), "no UTF-8"),
        (("--data", "short.txt"), "too short for this context"),
        (("--data", "play.txt", "--tokenizer", "word"), "no tokenizer of that name"),
        (("--data", "play.txt", "--tokenizer", "bpe", "--vocabulary", 20), "the 256 bytes"),
        (("--data", "play.txt", "--heads", 3), "share the size evenly"),
        (("--data", "play.txt", "--require", 90), "a text has no accuracy"),
    ],
)
def test_what_cannot_be_learned(here, capsys, words, phrase):
    """Ground truth: four parts, exit code 2, and no folder left behind."""
    (here / "latin.txt").write_bytes("é".encode("latin1") * 1000)
    (here / "short.txt").write_text("to be")
    code, _, err = tito(capsys, "train", "gpt", *TINY[:-3], *words)
    assert code == 2 and phrase in err
    assert all(part in err for part in ("got:", "rule:", "fix:"))
    assert not (here / "runs").exists()


def test_pictures_have_no_context(here, capsys):
    """Ground truth: an option that would change nothing is refused; so are two data sets."""
    assert "pictures have no length" in tito(capsys, "train", "digits", "--length", 64)[2]
    assert "two data sets" in tito(capsys, "train", "digits", "--data", "play.txt")[2]


def test_errors_name_the_place(here):
    """Ground truth: the byte that is no UTF-8 is the third."""
    (here / "broken").write_bytes(b"ab\xffcd")
    with pytest.raises(FileFormatError, match="not a text") as told:
        Texts(settings(data="broken"))
    assert told.value.got == "no UTF-8 at byte 2"
    with pytest.raises(SettingError, match="no such text") as told:
        text_named("shakespear")
    assert told.value.fix.endswith("shakespeare")


def test_a_text_of_one_line_speaks_too(here, capsys):
    """Ground truth: a sample begins behind a line's end where there is one, else anywhere."""
    (here / "line.txt").write_text("ab" * 400)
    learning = Texts(settings(data="line.txt"), Silent(), report=Report(False))
    assert set(sample(learning.model, learning.tokenizer, 0)) <= {"a", "b"}
