"""The command `tito` from end to end: what is typed, what is printed, the exit code."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import tinytorch
from tests.floors import ROOT
from tinytorch.cli.main import app
from tinytorch.data import load_digits
from tinytorch.storage import load
from tinytorch.training import Trainer


def tito(capsys, *words):
    """(exit code, standard output, standard error) of one command line."""
    with pytest.raises(SystemExit) as ended:
        app([str(word) for word in words])
    shown = capsys.readouterr()
    return ended.value.code or 0, shown.out, shown.err


@contextmanager
def stopped_after_an_epoch():
    """Every training within ends after its first epoch, as by Ctrl-C."""
    real = Trainer._end_epoch

    def then_stop(self, validation):
        real(self, validation)
        self.stop("enough")

    Trainer._end_epoch = then_stop
    try:
        yield
    finally:
        Trainer._end_epoch = real


def test_version(capsys):
    """Ground truth: the package's own version."""
    assert tito(capsys, "--version") == (0, f"tinytorch {tinytorch.__version__}\n", "")


def test_a_process_of_its_own():
    """Ground truth: the module runs as the installed command does; help names every verb."""
    done = subprocess.run(
        [sys.executable, "-m", "tinytorch.cli.main", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in ("train", "evaluate", "curve", "predict", "doctor"))


def in_a_process(*words, cwd=None):
    """The finished process of one command line."""
    command = [sys.executable, "-m", "tinytorch.cli.main", *map(str, words)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


def weights(run):
    return {name: array for name, (array, _) in load(Path(run) / "model.safetensors").items()}


def are_equal(a, b):
    """Whether two runs ended with the same weights, bit for bit."""
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(np.array_equal(first[n], second[n]) for n in first)


EPOCHS = 12  # of a run that can be interrupted: about a second


@pytest.fixture(scope="module")
def eager_run(tmp_path_factory):
    """EPOCHS eager epochs on the shipped digits: printed lines, folder of the run."""
    path = tmp_path_factory.mktemp("run") / "digits"
    done = in_a_process(
        "train", "digits", "--eager", "--model", "mlp", "--epochs", EPOCHS, "--run", path
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, path


def test_train_reports_what_it_decided_and_found(eager_run):
    """Ground truth: the data set's sizes; one line an epoch; accuracy, folder, next commands."""
    out, path = eager_run
    assert "1442 to train, 355 to test, 8x8" in out
    assert "eager, NumPy" in out
    assert re.search(r"^epoch 12/12 .*accuracy", out, re.M)
    percent = float(re.search(r"^test accuracy +([\d.]+) %", out, re.M)[1])
    assert percent > 50  # guessing gives 10 %, twelve epochs far more
    assert f"saved          {path}" in out
    assert all(f"tito {verb} {path}" in out for verb in ("evaluate", "predict", "curve"))


def test_a_run_is_repeated_by_its_settings(eager_run, capsys, tmp_path):
    """Ground truth: the same weights, bit for bit, from what settings.json says."""
    _, path = eager_run
    asked = json.loads((path / "settings.json").read_text())
    again = tmp_path / "again"
    words = ["train", asked["data"], "--eager", "--run", again]
    for name in ("model", "epochs", "batch_size", "lr", "seed"):
        words += ["--" + name.replace("_", "-"), asked[name]]
    assert tito(capsys, *words)[0] == 0
    assert are_equal(path, again)


def test_stopped_by_ctrl_c_and_resumed(eager_run, tmp_path, capsys):
    """Ground truth: the run that was never stopped: the same weights, bit for bit, and history."""
    words = ["train", "digits", "--eager", "--model", "mlp", "--run", "mine"]
    words += ["--epochs", str(EPOCHS)]
    command = [sys.executable, "-m", "tinytorch.cli.main", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    line = ""
    while not line.startswith("epoch 2"):
        line = process.stdout.readline()
        assert line or process.poll() is None, process.stderr.read()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "tito train --resume --run mine" in out
    assert (tmp_path / "mine" / "model.safetensors").exists()
    done = in_a_process("train", "--resume", "--run", "mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert are_equal(eager_run[1], tmp_path / "mine")
    histories = [
        [
            {k: v for k, v in json.loads(line).items() if k != "seconds"}
            for line in text.splitlines()
        ]
        for text in ((p / "history.jsonl").read_text() for p in (eager_run[1], tmp_path / "mine"))
    ]
    assert histories[0] == histories[1]


def test_a_finished_run_can_be_resumed(eager_run, capsys, tmp_path):
    """Ground truth: nothing is left to do: the weights stay."""
    copy = tmp_path / "copy"
    shutil.copytree(eager_run[1], copy)
    code, out, err = tito(capsys, "train", "--resume", "--run", copy)
    assert code == 0, err
    assert f"{EPOCHS} of {EPOCHS} epochs" in out
    assert are_equal(eager_run[1], copy)


def test_the_newest_run_is_resumed(capsys, tmp_path, monkeypatch):
    """Ground truth: two runs in runs/; the later one goes on when none is named."""
    monkeypatch.chdir(tmp_path)
    for model in ("mlp", "lenet"):
        words = ("train", "digits", "--eager", "--model", model, "--epochs", 1, "--lr", 0)
        assert tito(capsys, *words, "--batch-size", 512)[0] == 0
    assert "runs/digits-lenet" in tito(capsys, "train", "--resume")[1]
    assert "runs/digits-lenet" in tito(capsys, "predict", "--eager", "--count", 1)[1]
    assert "runs/digits-mlp" in tito(capsys, "train", "digits", "--resume", "--model", "mlp")[1]


def test_predict_draws_and_counts(eager_run, capsys):
    """Ground truth: as many captions as images; the count of right ones from the JSON answers."""
    path = eager_run[1]
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
        words = ("predict", eager_run[1], "--eager", "--count", "6", "--json", "--seed", seed)
        shown.append([json.loads(x)["image"] for x in tito(capsys, *words)[1].splitlines()])
    assert set(shown[0]).isdisjoint(shown[1])
    assert len(set(shown[0])) == 6


def test_evaluate_counts_each_class(eager_run, capsys):
    """Ground truth: what train printed; the classes' shares, weighted by their sizes."""
    out, path = eager_run
    percent = re.search(r"^test accuracy +([\d.]+) %", out, re.M)[1]
    code, shown, _ = tito(capsys, "evaluate", path, "--eager")
    assert code == 0 and f"{percent} %" in shown and "taken for" in shown
    lines = tito(capsys, "evaluate", path, "--eager", "--json")[1].splitlines()
    found = {event["event"]: event for event in map(json.loads, lines)}
    labels = load_digits("test").labels
    weighted = sum(found["classes"][str(k)] * (labels == k).mean() for k in range(10))
    assert weighted == pytest.approx(found["measured"]["accuracy"], abs=1e-12)
    rows = [json.loads(line) for line in (path / "history.jsonl").read_text().splitlines()]
    # float64 here, float32 there: 355 rows of ten numbers of size 10
    assert found["measured"]["loss"] == pytest.approx(rows[-1]["val_loss"], rel=1e-5)
    code, shown, _ = tito(capsys, "evaluate", path, "--eager", "--split", "train")
    assert code == 0 and "1442 of the train part" in shown


def test_curve_shows_every_epoch(eager_run, capsys, tmp_path):
    """Ground truth: the rows of history.jsonl, in the table, as JSON, in a picture that is XML."""
    path = eager_run[1]
    rows = [json.loads(line) for line in (path / "history.jsonl").read_text().splitlines()]
    code, out, _ = tito(capsys, "curve", path, "--svg", tmp_path / "curve.svg")
    assert code == 0 and "val_accuracy" in out and f"{rows[1]['loss']:.4g}" in out
    assert ElementTree.parse(tmp_path / "curve.svg").getroot().tag.endswith("svg")
    lines = tito(capsys, "curve", path, "--json")[1].splitlines()
    assert [{k: v for k, v in json.loads(x).items() if k != "event"} for x in lines] == rows


def test_compiled_digits_reach_the_accuracy(capsys, tmp_path):
    """Ground truth: the labels of 355 test images; the recipe as it is promises 97 %."""
    run = tmp_path / "digits"
    code, out, err = tito(capsys, "train", "digits", "--json", "--require", 97, "--run", run)
    assert code == 0, err
    events = [json.loads(line) for line in out.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "decided" and kinds.count("epoch") == events[0]["epochs"]
    done = events[kinds.index("done")]
    assert done["test_accuracy"] >= 0.97 and done["stopped"] is False
    assert tito(capsys, "predict", run)[0] == 0


def test_too_low_an_accuracy_is_an_error(capsys, tmp_path):
    """Ground truth: a rate of 0 learns nothing; the model is saved all the same."""
    words = ("train", "digits", "--eager", "--model", "mlp", "--epochs", 1, "--lr", 0)
    code, _, err = tito(capsys, *words, "--run", tmp_path / "m", "--require", 97)
    assert code == 2
    assert "below 97 %" in err and "--epochs 2" in err
    assert (tmp_path / "m" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        (("train",), "which data set?"),
        (("train", "cats"), "no data set of that name"),
        (("train", "digits", "--model", "cats"), "no network of that name"),
        (("train", "digits", "--precision", "fp8"), "no such precision"),
        (("train", "mnist", "--data-dir", "EMPTY"), "MNIST is not here"),
        (("train", "digits", "--run", "EMPTY"), "something in this place already"),
        (("train", "digits", "--run", "EMPTY/file/model"), "could not be written"),
        (("train", "--resume", "--run", "EMPTY"), "not the folder of a run"),
        (("predict", "missing.safetensors"), "no such model file"),
        (("evaluate", "EMPTY"), "not the folder of a run"),
        (("curve", "EMPTY"), "not the folder of a run"),
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


def test_a_run_goes_on_as_it_was_begun(eager_run, capsys):
    """Ground truth: another rate is refused by name; nothing has changed."""
    before = (eager_run[1] / "settings.json").read_text()
    code, _, err = tito(capsys, "train", "--resume", "--run", eager_run[1], "--lr", 0.5)
    assert code == 2 and "begun with other settings" in err and "lr = 0.5" in err
    assert (eager_run[1] / "settings.json").read_text() == before


def test_traceback_is_there_for_the_asking(capsys):
    """Ground truth: the error itself leaves app(), wherever the word stands."""
    for words in (("--traceback", "train", "cats"), ("train", "cats", "--traceback")):
        with pytest.raises(tinytorch.TinyTorchError, match="no data set"):
            app(list(words))


def test_wrong_usage_exits_with_2(capsys):
    """Ground truth: the convention of command lines; the message names the option."""
    code, _, err = tito(capsys, "train", "digits", "--epochs", "0")
    assert code == 2 and "--epochs" in err


def test_a_damaged_model_is_refused(eager_run, capsys, tmp_path):
    """Ground truth: the reader's own error, through the command."""
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes((eager_run[1] / "model.safetensors").read_bytes()[:-1])
    code, _, err = tito(capsys, "predict", damaged)
    assert code == 2 and "not a valid safetensors file" in err


@pytest.mark.data
@pytest.mark.slow
def test_mnist_reaches_the_accuracy(official_data, capsys, tmp_path):
    """Ground truth: the labels of the 10,000 official test images; one pass gives 98.9 %, whose
    deviation is 0.1."""
    words = ("train", "mnist", "--data-dir", official_data, "--epochs", 1, "--require", 98.5)
    code, out, err = tito(capsys, *words, "--run", tmp_path / "m")
    assert code == 0, out + err


def test_both_ways_are_timed(capsys, tmp_path):
    """Ground truth: two positive times, and their quotient in words."""
    words = ("train", "digits", "--model", "mlp", "--epochs", 1, "--compare")
    code, out, _ = tito(capsys, *words, "--run", tmp_path / "a")
    assert code == 0 and re.search(r"^speed +[\d.]+ ms a step compiled, [\d.]+ ms eager", out, re.M)
    out = tito(capsys, *words, "--json", "--run", tmp_path / "b")[1]
    done = next(e for e in map(json.loads, out.splitlines()) if e["event"] == "done")
    assert done["compiled_step_seconds"] > 0 and done["eager_step_seconds"] > 0


def test_the_data_may_have_moved(eager_run, capsys, tmp_path):
    """Ground truth: a resumed run takes another folder for its data; digits need none."""
    copy = tmp_path / "copy"
    shutil.copytree(eager_run[1], copy)
    words = ("train", "--resume", "--run", copy, "--data-dir", tmp_path)
    assert tito(capsys, *words)[0] == 0
    assert are_equal(eager_run[1], copy)


def test_a_run_without_an_epoch_has_no_curve(eager_run, capsys, tmp_path):
    """Ground truth: a run that was stopped in its first epoch; the message says how to go on."""
    copy = tmp_path / "copy"
    shutil.copytree(eager_run[1], copy)
    (copy / "history.jsonl").unlink()
    code, _, err = tito(capsys, "curve", copy)
    assert code == 2 and "no history yet" in err and "--resume" in err
