"""How well does a GPT learn Shakespeare's characters, and how long does that take on this machine?

What `tito train gpt --data shakespeare` does, with three sizes. nanoGPT (Karpathy 2022, README)
publishes a validation loss of 1.88 for the small one (4 layers, 128 numbers a token, contexts of
64, on a CPU in about 3 minutes) and 1.4697 for the large one (6 layers, 384 numbers, contexts of
256, on an A100). The loss is the mean over all of the last tenth of the text, window by window.
`--full` trains the large one too.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

from benchmarks.record import Record
from tinytorch.base.settings import num_threads
from tinytorch.cli.recipes import TEXT_RECIPE
from tinytorch.cli.runs import TextSettings
from tinytorch.cli.texts import Texts, sample
from tinytorch.codegen.target import Target
from tinytorch.kernels.register_tile import words_of_pairs
from tinytorch.training.history import PlainLines

ARCHIVE = "text"
NANO = "Karpathy 2022, nanoGPT, README"
SMALL = {"layers": 4, "heads": 4, "size": 128, "length": 64, "batch_size": 32}
# What is trained: sizes, epochs, the loss that is asked, and minutes that it may take.
SETTINGS: dict[str, dict] = {
    "0.8 M": {**SMALL, "epochs": 1, "asked": 1.80, "minutes": 2.0, "published": 1.88},
    "0.8 M, longer": {**SMALL, "epochs": 3, "asked": 1.74, "published": 1.72},
}
LARGE = {
    "10.8 M": {
        "layers": 6, "heads": 6, "size": 384, "length": 256, "batch_size": 16, "epochs": 6,
        "dropout": 0.2, "lr": 0.015, "asked": 1.47, "published": 1.4697,
        "precision": "bf16" if words_of_pairs(Target.host()) else "float32",
    }
}  # fmt: skip
FULL = {"SETTINGS": SETTINGS | LARGE}


def run(folder: Path, log: Path) -> dict:
    """Every size, from its first weights to its last sample."""
    record = Record(log, "How well does a GPT learn Shakespeare's characters?", SETTINGS)
    for name, given in SETTINGS.items():
        asked, most = given["asked"], given.get("minutes", math.inf)
        sizes = {k: v for k, v in given.items() if k not in ("asked", "minutes", "published")}
        settings = TextSettings(**{
            "data": "shakespeare", "model": "gpt", "lr": TEXT_RECIPE.lr, "data_dir": str(folder),
            **sizes,
        })  # fmt: skip
        learning = Texts(settings, PlainLines())
        began = time.perf_counter()
        history = learning.trainer.train(
            learning.loader, settings.epochs, validation=learning.test_loader
        )
        seconds = time.perf_counter() - began
        for row in history:
            record.row(size=name, **row)
        loss = learning.evaluate()["loss"]
        tokens = len(learning.loader) * settings.batch_size * settings.length * settings.epochs
        record.row(
            size=name, weights=learning.weights(), loss=loss, seconds=seconds,
            tokens_a_second=tokens / seconds, says=sample(learning.model, learning.tokenizer, 0),
        )  # fmt: skip
        within = f" within {most:g} minutes" if math.isfinite(most) else ""
        record.claim(
            f"{name}: a validation loss of {asked:.2f}{within}", f"{NANO}: {given['published']}",
            f"{loss:.4f} in {seconds:.0f} s with {num_threads()} threads, compiling counted",
            loss <= asked and seconds <= 60 * most,
        )  # fmt: skip
    return record.keep()
