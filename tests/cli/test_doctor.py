"""`tito doctor`: each check says what it found; a failing one does not hide the others."""

import json

import pytest

from tinytorch.base.errors import CompileError
from tinytorch.cli import doctor
from tinytorch.cli.main import app


def run(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        app(["doctor", *words])
    return ended.value.code, capsys.readouterr().out


def test_a_healthy_machine(capsys, monkeypatch):
    """Ground truth: every check is there, each line names what it looked at."""
    monkeypatch.setattr(doctor, "free_memory", lambda: 8 << 30)
    code, out = run(capsys)
    assert code == 0
    assert [line.split("  ")[0] for line in out.splitlines()[: len(doctor.LOOKS)]] == list(
        doctor.LOOKS
    )
    assert "8.0 GiB" in out and "all is well" in out


def test_problems_are_named_with_their_cure(capsys, monkeypatch):
    """Ground truth: two checks that fail in different ways; exit code 1; the others still speak."""

    def broken():
        raise CompileError("no code today", got="-", rule="-", fix="try tomorrow")

    monkeypatch.setattr(doctor, "free_memory", lambda: 1 << 20)
    monkeypatch.setitem(doctor.LOOKS, "compiler", broken)
    code, out = run(capsys, "--json")
    checks = {c["name"]: c for c in map(json.loads, out.splitlines())}
    assert code == 1
    assert not checks["free memory"]["ok"] and not checks["compiler"]["ok"]
    assert checks["compiler"]["fix"] == "try tomorrow"
    assert checks["python"]["ok"] and checks["numpy"]["ok"]
    code, out = run(capsys)
    assert "problem: compiler: no code today\n  fix:  try tomorrow" in out


def test_a_cache_that_cannot_be_written(monkeypatch, tmp_path):
    """Ground truth: what access() says, whoever runs the test."""
    monkeypatch.setenv("TINYTORCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    check = doctor.LOOKS["cache"]()
    assert "cannot be written" in check.found and "TINYTORCH_CACHE" in check.fix


def test_more_threads_than_cores_are_named(monkeypatch):
    """Ground truth: 64 threads asked for on a machine that is said to have 2 cores."""
    monkeypatch.setattr(doctor, "available_cores", lambda: 2)
    monkeypatch.setattr(doctor, "num_threads", lambda: 64)
    assert "TINYTORCH_NUM_THREADS=2" in doctor.LOOKS["threads"]().fix
