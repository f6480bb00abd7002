"""`tito export`: a trained model leaves, as object code that a C program links, or as ONNX.

Knows where models lie and what their inputs are; what is written is in `export`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import typer

from tinytorch import compression, export
from tinytorch.base.errors import SettingError
from tinytorch.cli.generate import Speaker, load_speaker, shipped_speaker
from tinytorch.cli.recipes import nearest
from tinytorch.cli.report import Report
from tinytorch.cli.runs import load_model, text_run
from tinytorch.export.native import TARGETS
from tinytorch.export.package import Package
from tinytorch.nn import Module

FORMS = ("native", "onnx")  # what `--to` may say
TRIALS = 21  # runs of which the median is reported


def export_model(
    model: Path = typer.Argument(None, help="A run, a folder or a file; default the newest run."),
    to: str = typer.Option("native", help="native: object code, C files; onnx."),
    folder: Path = typer.Option(None, help="Where; default exported/NAME."),
    name: str = typer.Option("model", help="Of files and functions: letters, digits, _."),
    target: str = typer.Option("host", help="Of native: host, x86-64, avx2, avx512 or aarch64."),
    quantize: str = typer.Option(None, help="int8 or int4: weights of so many bits."),
    length: int = typer.Option(None, help="Of a language model: tokens it reads.", min=1),
    version: str = typer.Option("1", help="Of the model, for the manifest."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object a line."),
) -> None:
    """Write a model as a package that runs without Python, or as an ONNX file."""
    report = Report(as_json)
    if to not in FORMS:
        _refuse("--to", to, FORMS)
    if target not in TARGETS:
        _refuse("--target", target, tuple(TARGETS))
    exported, example = _ready(model, length, quantize, last=to == "native")
    place = Path("exported") / name if folder is None else folder
    if to == "onnx":
        file = place / f"{name}.onnx"
        export.onnx(exported, file, example, batch="N")
        shape = ["N", *example.shape[1:]]
        report.facts("exported", {
            "file": str(file), "input": f"{example.dtype}{shape}, any number of N",
            "size": f"{file.stat().st_size / 1e6:.2f} MB, the weights inside",
        })  # fmt: skip
        return
    library = export.package_for_production(
        exported, place, example, version=version, target=target, name=name
    )
    files = library.files()
    program = library.program
    report.facts("exported", {
        "folder": str(place),
        "target": f"{program.target.name}, {program.target.architecture}",
        "inputs": [f"{a.name} {a.dtype.name}{list(a.shape)}" for a in program.inputs],
        "outputs": [f"{a.name} {a.dtype.name}{list(a.shape)}" for a in program.outputs],
        "object": f"{len(files[f'{name}.o']) / 1e6:.2f} MB, the weights inside",
        "shared library": library.shared if isinstance(library.shared, str) else f"{name}.so",
    })  # fmt: skip
    if seconds := _seconds(place, example):
        report.facts("checked", {"one run": f"{1000 * seconds:.3f} ms, one thread"})
    if not as_json:
        there = f"cd {quote(str(place))}"
        report.text(f"run it   {there} && cc main.c {name}.a -o main && ./main sample_input.bin")


def _refuse(option: str, got: str, known: tuple[str, ...]) -> None:
    raise SettingError(
        f"tito export: {option} is none of those there are",
        got=f"{option} {got}",
        rule="one of " + ", ".join(known),
        fix=f"{option} {nearest(got, known)}",
    )


def _ready(
    path: Path | None, length: int | None, kind: str | None, last: bool
) -> tuple[Callable[..., Any], np.ndarray]:
    """What is exported of a model, and an input of made numbers.

    Of a language model the logits behind all tokens, (N, T, V), or behind the `last`, (N, V).
    """
    speaker = _speaker(path)
    if speaker is not None:
        model = speaker.model
        most = model.config.length
        if length is not None and length > most:
            raise SettingError(
                "tito export: the model does not read so many tokens",
                got=f"--length {length}",
                rule=f"1 to {most}",
                fix=f"--length {most}",
            )
        small = _smaller(model, kind)
        tokens = np.arange(length or most)[None] % model.config.vocab
        return (lambda tokens: small(tokens)[:, -1]) if last else small, tokens
    saved = load_model(path)
    if length is not None:
        raise SettingError(
            "tito export: pictures have no length",
            got=f"--length {length}",
            rule="--length is for language models",
            fix="leave --length out",
        )
    shape = (1, *saved.data_set.shape)
    pixels = np.sin(np.arange(np.prod(shape))).astype(np.float32).reshape(shape)
    return _smaller(saved.network, kind), pixels


def _speaker(path: Path | None) -> Speaker | None:
    """The language model that lies there, or has this name; None: it is none."""
    run = text_run(path)
    if run is not None:
        return load_speaker(run.path)
    if path is None:
        return None
    is_one = path.suffix in (".gguf", ".bin") or os.path.lexists(path / "config.json")
    return load_speaker(path) if is_one else shipped_speaker(path)


def _smaller(model: Module, kind: str | None) -> Module:
    return model if kind is None else compression.quantize(model, kind)


def _seconds(place: Path, example: np.ndarray) -> float | None:
    """Of one run, the median; None where another processor is meant."""
    try:
        package: Package = export.load_package(place)
    except SettingError:
        return None
    times: list[float] = []
    for _ in range(TRIALS):
        start = time.perf_counter()
        package(example)
        times.append(time.perf_counter() - start)
    return float(np.median(times))
