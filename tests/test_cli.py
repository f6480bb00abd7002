"""The command `tito` from end to end: what is typed, what is printed, the exit code."""

import json
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest

import tinytorch
from tinytorch.cli.main import app
from tinytorch.storage import load


def tito(capsys, *words):
    """(exit code, standard output, standard error) of one command line."""
    with pytest.raises(SystemExit) as ended:
        app([str(word) for word in words])
    shown = capsys.readouterr()
    return ended.value.code or 0, shown.out, shown.err


def test_version(capsys):
    """Ground truth: the package's own version."""
    assert tito(capsys, "--version") == (0, f"tinytorch {tinytorch.__version__}\n", "")


def test_a_process_of_its_own():
    """Ground truth: the module runs as the installed command does; help names every verb."""
    done = subprocess.run(
        [sys.executable, "-m", "tinytorch.cli.main", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in ("train", "predict", "doctor"))


@pytest.fixture(scope="module")
def eager_run(tmp_path_factory):
    """Two eager epochs on the shipped digits: words, printed lines, saved file."""
    path = tmp_path_factory.mktemp("run") / "digits.safetensors"
    words = ["train", "digits", "--eager", "--epochs", "1", "--save", str(path)]
    done = subprocess.run(
        [sys.executable, "-m", "tinytorch.cli.main", *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return words, done.stdout, path


def test_train_reports_what_it_decided_and_found(eager_run):
    """Ground truth: the data set's sizes; one line an epoch; accuracy, file, next commands."""
    _, out, path = eager_run
    assert "1442 to train, 355 to test, 8x8" in out
    assert "eager, NumPy" in out
    assert re.search(r"^epoch 1/1 .*accuracy", out, re.M)
    percent = float(re.search(r"^test accuracy +([\d.]+) %", out, re.M)[1])
    assert percent > 50  # guessing gives 10 %, one epoch far more
    assert f"saved          {path}" in out
    assert f"tito predict {path}" in out


def test_the_printed_command_repeats_the_run(eager_run, capsys, tmp_path):
    """Ground truth: the same weights, bit for bit, from the line that train printed."""
    _, out, path = eager_run
    line = re.search(r"^the same again +tito (.*)$", out, re.M)[1]
    words = shlex.split(line)
    again = tmp_path / "again"
    words[words.index("--save") + 1] = str(again)
    assert tito(capsys, *words)[0] == 0
    first, second = load(path), load(again)
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[n][0], second[n][0]) for n in first)


def test_predict_draws_and_counts(eager_run, capsys):
    """Ground truth: as many captions as images; the count of right ones from the JSON answers."""
    path = eager_run[2]
    code, out, _ = tito(capsys, "predict", path, "--eager", "--count", "5")
    assert code == 0
    assert len(re.findall(r"\d, +\d+ % sure", out)) == 5
    code, lines, _ = tito(capsys, "predict", path, "--eager", "--count", "5", "--json")
    answers = [json.loads(line) for line in lines.splitlines()]
    right = sum(a["answer"] == a["truth"] for a in answers)
    assert f"{right} of 5 right" in out
    assert all(0.1 <= a["probability"] <= 1 for a in answers)  # the largest of ten


def test_another_seed_shows_other_images(eager_run, capsys):
    """Ground truth: the image numbers in the JSON answers; never one twice."""
    shown = []
    for seed in (0, 1):
        words = ("predict", eager_run[2], "--eager", "--count", "6", "--json", "--seed", seed)
        shown.append([json.loads(x)["image"] for x in tito(capsys, *words)[1].splitlines()])
    assert set(shown[0]).isdisjoint(shown[1])
    assert len(set(shown[0])) == 6


def test_compiled_digits_reach_the_accuracy(capsys, tmp_path):
    """Ground truth: the labels of 355 test images; the recipe as it is promises 97 %."""
    save = tmp_path / "digits"
    code, out, err = tito(capsys, "train", "digits", "--json", "--require", 97, "--save", save)
    assert code == 0, err
    events = [json.loads(line) for line in out.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "decided" and kinds.count("epoch") == events[0]["epochs"]
    done = events[kinds.index("done")]
    assert done["test_accuracy"] >= 0.97 and done["stopped"] is False
    assert tito(capsys, "predict", save)[0] == 0


def test_too_low_an_accuracy_is_an_error(capsys, tmp_path):
    """Ground truth: a rate of 0 learns nothing; the model is saved all the same."""
    words = ("train", "digits", "--eager", "--epochs", 1, "--lr", 0, "--save", tmp_path / "m")
    code, _, err = tito(capsys, *words, "--require", 97)
    assert code == 2
    assert "below 97 %" in err and "--epochs 2" in err
    assert (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        (("train", "cats"), "no recipe of that name"),
        (("train", "digits", "--precision", "fp8"), "no such precision"),
        (("train", "mnist", "--data-dir", "EMPTY"), "MNIST is not here"),
        (("train", "digits", "--save", "EMPTY"), "cannot be saved here"),
        (("train", "digits", "--save", "EMPTY/file/model"), "the system refused"),
        (("predict", "missing.safetensors"), "no such model file"),
    ],
)
def test_errors_have_four_parts_and_no_traceback(words, phrase, capsys, tmp_path, monkeypatch):
    """Ground truth: exit code 2, the parts on standard error, nothing of Python's stack."""
    monkeypatch.setattr("tinytorch.data.mnist.MIRRORS", ())
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "file").touch()
    words = [word.replace("EMPTY", str(tmp_path / "empty")) for word in words]
    code, _, err = tito(capsys, *words)
    assert code == 2
    assert phrase in err.splitlines()[0]
    assert [part in err for part in ("\n  got:", "\n  rule:", "\n  fix:")] == [True] * 3
    assert "Traceback" not in err


def test_traceback_is_there_for_the_asking(capsys):
    """Ground truth: the error itself leaves app(), wherever the word stands."""
    for words in (("--traceback", "train", "cats"), ("train", "cats", "--traceback")):
        with pytest.raises(tinytorch.TinyTorchError, match="no recipe"):
            app(list(words))


def test_wrong_usage_exits_with_2(capsys):
    """Ground truth: the convention of command lines; the message names the option."""
    code, _, err = tito(capsys, "train", "digits", "--epochs", "0")
    assert code == 2 and "--epochs" in err


def test_a_damaged_model_is_refused(eager_run, capsys, tmp_path):
    """Ground truth: the reader's own error, through the command."""
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(eager_run[2].read_bytes()[:-1])
    code, _, err = tito(capsys, "predict", damaged)
    assert code == 2 and "not a valid safetensors file" in err


@pytest.mark.data
@pytest.mark.slow
def test_mnist_reaches_the_accuracy(official_data, capsys, tmp_path):
    """Ground truth: the labels of the 10,000 official test images."""
    words = ("train", "mnist", "--data-dir", official_data, "--require", 99)
    code, out, err = tito(capsys, *words, "--save", tmp_path / "m")
    assert code == 0, out + err
