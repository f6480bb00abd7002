"""`tito capstone`: what is decided, said and refused; what is done is in tests/capstone."""

import json

import pytest

from tests.capstone.test_findings import made
from tests.test_cli import tito
from tinytorch import capstone
from tinytorch.cli import capstone as command


@pytest.fixture
def asked(monkeypatch):
    """What the command asks of the folder capstone, which answers with findings made by hand."""
    calls = []

    def answer(challenge, place, **settings):
        calls.append((challenge, place, settings))
        settings["say"]("acceleration: 2.0x faster than the baseline")
        return made()

    monkeypatch.setattr(command, "run_challenge", answer)
    return calls


def test_what_is_asked_and_what_is_said(asked, tmp_path, capsys):
    """Ground truth: the challenges of the table; findings by hand, 32 ms to 4 ms, 90 %."""
    code, out, err = tito(capsys, "capstone", "cifar10", "--data-dir", tmp_path, "--seed", 3)
    assert code == 0, err
    challenge, place, settings = asked.pop()
    assert challenge is capstone.CIFAR10 and str(place) == "runs/capstone-cifar10"
    assert settings["seed"] == 3 and settings["data_dir"] == tmp_path
    assert "acceleration: 2.0x faster" in out and "accuracy_target >= 75 %" in out
    assert "8.0x" in out and "90.00 % to 90.00 %" in out and "capstone.demo" in out
    code, out, _ = tito(capsys, "capstone", "digits", "--quick", "--json", "--run", tmp_path)
    assert code == 0 and asked.pop()[:2] == (capstone.quick(capstone.DIGITS), tmp_path)
    decided, said, done = (json.loads(line) for line in out.splitlines())
    assert decided["seed"] == 0 and "x faster" in said["text"] and done["not_met"] == "none"


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        (("cifar",), "there is no such challenge"),
        (("digits", "--seed", "-1"), "greater than"),
        ((), "got:  no name"),
    ],
)
def test_bad_input(words, phrase, capsys):
    """Ground truth: exit code 2 and a message."""
    code, _, err = tito(capsys, "capstone", *words)
    assert code == 2 and phrase in err


def test_data_that_are_not_there(tmp_path, capsys, monkeypatch):
    """Ground truth: the message names the files; nothing is fetched."""
    monkeypatch.setattr("urllib.request.urlopen", _no_network)
    code, _, err = tito(
        capsys, "capstone", "cifar10", "--data-dir", tmp_path, "--run", tmp_path / "run"
    )
    assert code == 2 and "cifar-10-binary" in err and "fix:" in err


def _no_network(*args, **kwargs):
    raise OSError("no network")
