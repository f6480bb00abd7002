"""A GPT that writes Shakespeare on a laptop of 2015: how large it is, and how fast it speaks.

The founding documents ask for a model of 100 MB that generates Shakespeare with a cache and
quantisation on a laptop of 2015, and for 100 tokens a second on a laptop's processor. Such a
machine has AVX2: code for that is forced, on one thread, in processes of their own, by the command
line. Trained is the small GPT of the run `shakespeare`; a GPT-2 of 124 million random weights,
whose answers mean nothing, shows how fast one of that size is. What weights of few bits cost of the
loss: the run `quantised`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import tinytorch as tt
from benchmarks.record import Record
from tinytorch import models
from tinytorch.cli.recipes import TEXT_RECIPE
from tinytorch.cli.runs import RunFolder, TextSettings
from tinytorch.cli.texts import Texts
from tinytorch.models import GPT, GPTConfig
from tinytorch.text import load_gpt2_tokenizer
from tinytorch.training.history import PlainLines

ARCHIVE = ""
SMALL = {"layers": 4, "heads": 4, "size": 128, "length": 64, "batch_size": 32, "epochs": 1}
GPT2 = {"vocab": 50257, "layers": 12, "heads": 12, "size": 768, "length": 1024, "tied": True}
KINDS = (None, "int8", "int4")
TOKENS = 200
LEAST_RATE, MOST_MEGABYTES = 100.0, 100.0
LAPTOP = {"TINYTORCH_TARGET": "avx2", "TINYTORCH_NUM_THREADS": "1"}
DOCUMENTS = "the founding documents"


def run(folder: Path, log: Path) -> dict:
    """Train, package, and let each package speak."""
    record = Record(log, "What does a GPT that writes Shakespeare need of a laptop of 2015?", {
        "trained": SMALL, "random": GPT2, "tokens": TOKENS, "environment": LAPTOP,
    })  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        small, large = Path(place, "shakespeare"), Path(place, "gpt2")
        _train(folder, small)
        tt.manual_seed(0)
        models.save_folder(GPT(GPTConfig(**GPT2)), large)
        load_gpt2_tokenizer(folder / "gpt2-bpe").save(large / "tokenizer.json")
        for name, package in (("Shakespeare, 0.8 M", small), ("GPT-2, 124 M", large)):
            for kind in KINDS:
                _speak(record, name, package, kind)
    for name in ("Shakespeare, 0.8 M", "GPT-2, 124 M"):
        fit = [row for row in record.rows if row["model"] == name]
        best = max(fit, key=lambda row: row["tokens_a_second"])
        record.claim(
            f"{name}: {LEAST_RATE:g} tokens a second on one thread of AVX2", DOCUMENTS,
            f"{best['tokens_a_second']:.0f} with {best['kind']}, {best['megabytes']:.1f} MB",
            best["tokens_a_second"] >= LEAST_RATE,
        )  # fmt: skip
        least = min(row["megabytes"] for row in fit)
        record.claim(f"{name}: a package of at most {MOST_MEGABYTES:g} MB", DOCUMENTS,
                     f"{least:.1f} MB", least <= MOST_MEGABYTES)  # fmt: skip
    return record.keep()


def _train(folder: Path, place: Path) -> None:
    """The small GPT, in a folder."""
    settings = TextSettings(
        "shakespeare", "gpt", lr=TEXT_RECIPE.lr, data_dir=str(folder / "text"), **SMALL
    )
    learning = Texts(settings, PlainLines())
    run = RunFolder.begin(learning.settings, place)
    learning.learn(run, resume=False)
    learning.save(run, {})


def _speak(record: Record, name: str, package: Path, kind: str | None) -> None:
    """What `tito generate` says of itself, the second time, when its programs are in the cache."""
    command = [sys.executable, "-m", "tinytorch.cli.main", "generate", str(package), "--json",
               "--prompt", "ROMEO:", "--max-tokens", str(TOKENS)]  # fmt: skip
    command += [] if kind is None else ["--quantize", kind]
    for _ in range(2):
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env=os.environ | LAPTOP
        )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    text = "".join(e["text"] for e in events if e["event"] == "piece")
    found = events[-1]
    record.row(
        model=name, kind=kind or "float32", megabytes=found["model_bytes"] / 1e6,
        tokens_a_second=found["tokens_a_second"], first_token=found["first_token_seconds"],
        says=text[:200],
    )  # fmt: skip
