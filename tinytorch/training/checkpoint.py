"""Checkpoints: the state of a run as a folder and back, the folders of one run, and going on.

Knows names, nested values, steps and folders, never what they are the state of: whatever has
state_dict() and load_state_dict() can be gathered, saved and restored.

    run/
        step-000123/
            manifest.json         what this is, the checksum of every file
            weights.safetensors   the model under its own names: any safetensors reader opens it
            state.safetensors     all other arrays, named by their path: "optimizer/exp_avg.0.3"
            state.json            everything else, and where the arrays belong
        step-000456/              the newest few and the best: `Checkpoints`

In this order: one checkpoint; a module's weights alone; states in memory; the checkpoints of one
run; a run with a loop of its own.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import re
import secrets
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tinytorch.base.arguments import number, whole
from tinytorch.base.errors import (
    DTypeError,
    FileFormatError,
    SettingError,
    StorageError,
    TinyTorchError,
    printable,
    short,
)
from tinytorch.base.files import NotStrictError, parse_json
from tinytorch.nn.module import Module
from tinytorch.storage import (
    Folder,
    FutureVersionError,
    TypedArray,
    reading_folder,
    safetensors,
    tree,
    writing_folder,
)
from tinytorch.storage.folder import (
    MANIFEST,
    check_writable,
    is_replaceable,
    remove_folder,
    remove_leftovers,
)
from tinytorch.storage.safetensors import METADATA
from tinytorch.tensor.memory import Buffer, from_buffer
from tinytorch.tensor.random import default_generator
from tinytorch.tensor.tensor import Tensor

KIND = "tinytorch checkpoint"
VERSION = 1
WEIGHTS, ARRAYS, REST = "weights.safetensors", "state.safetensors", "state.json"
MODEL = "model"  # the key whose arrays go to WEIGHTS
LONGEST = 32 << 20  # bytes of REST; a history of 100,000 epochs has about that
_LOWER = ("loss", "error", "perplexity", "seconds")
_HIGHER = ("accuracy", "top_k", "top_5", "top5", "precision", "recall", "f1", "score")
_OURS = r"step-\d{6,18}"  # names of checkpoints; their number fits 64 bits
_OWN = ("epoch", "saves", "random")
# How an object fails that is given something else than its state, where it does not look itself.
_STUMBLED = (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError)


# --- one checkpoint ---


def save_checkpoint(
    folder: str | os.PathLike[str], state: Mapping[str, Any], about: Mapping[str, Any] | None = None
) -> Path:
    """Write the state of a run as a folder: whole, or not at all.

    Args:
        folder: where; a checkpoint that is there already is replaced in one step.
        state: nested dictionaries, lists and tuples of Tensors, arrays, numbers, text and None, as
            the state_dict() methods give; keys are text. The model's belongs under "model"; of
            names of one memory the first is written, and `load_state_dict` takes it for all.
        about: a few numbers and words that can be read without opening the arrays.

    Returns:
        the folder.

    Raises:
        StorageError: it cannot be written (no space, no permission); what was there is as it was.
        DTypeError: the state holds something that is not a value; the message names where. Or its
            numbers and texts, those of arrays left out, take more than 32 MiB.
        SettingError: the folder holds something else.

    Cost: the bytes of the arrays once, their SHA-256, six fsyncs.

    Example:
        >>> import tempfile, tinytorch as tt
        >>> model = tt.nn.Linear(2, 1)
        >>> sgd = tt.optim.SGD(model.parameters(), lr=0.1)
        >>> folder = Path(tempfile.mkdtemp()) / "step-000007"
        >>> state = {"model": model.state_dict(), "optimizer": sgd.state_dict(), "step": 7}
        >>> _ = save_checkpoint(folder, state)
        >>> state = load_checkpoint(folder)
        >>> _ = model.load_state_dict(state["model"])
        >>> state["step"], sorted(state["model"])
        (7, ['bias', 'weight'])
    """
    model = state.get(MODEL)
    once = {MODEL: _each_once(model)} if isinstance(model, Mapping) else {}
    value, arrays = tree.encode(_without_tensors({**state, **once}))
    weights, others = {}, {}
    for name, pair in arrays.items():
        own = name.removeprefix(f"{MODEL}/")
        # "__metadata__" is not free as a name in safetensors; with the prefix it is.
        inside = own != name and own != METADATA
        (weights if inside else others)[own if inside else name] = pair
    described, few = tree.encode(dict(about or {}))
    if few:
        raise SettingError(
            "about holds an array",
            got=", ".join(few),
            rule="a few numbers and words",
            fix="put arrays into the state",
        )
    rest = json.dumps(value, indent=1, allow_nan=False).encode() + b"\n"
    if len(rest) > LONGEST:
        raise DTypeError(
            "the state has too many numbers that stand alone",
            got=f"{len(rest)} bytes of text",
            rule=f"at most {LONGEST} bytes besides arrays",
            fix="arrays in place of long lists",
        )
    with writing_folder(folder, KIND, VERSION) as new:
        new.about.update(described)
        with new.file(WEIGHTS) as file:
            safetensors.write(file, weights)
        with new.file(ARRAYS) as file:
            safetensors.write(file, others)
        with new.file(REST) as file:
            file.write(rest)
    return Path(folder)


def load_checkpoint(folder: str | os.PathLike[str], *, links: bool = True) -> dict[str, Any]:
    """Read a folder that `save_checkpoint` wrote; every byte is checked first.

    Nothing in it is executed, whoever made it: it holds values.

    Args:
        folder: the checkpoint.
        links: whether its name may be a symbolic link; `Checkpoints` refuses those it finds.

    Returns:
        the state: what was saved, types included; Tensors and arrays own their memory.

    Raises:
        StorageError: there is no checkpoint at that place.
        FileFormatError: it is damaged or not whole, or a newer TinyTorch wrote it (a
            FutureVersionError); the message says which.
    """
    found = open_checkpoint(folder, links=links)
    weights, others = (
        safetensors.read_descriptor(found.descriptor(name)).arrays for name in (WEIGHTS, ARRAYS)
    )
    arrays = {**others, **{f"{MODEL}/{n}": pair for n, pair in weights.items()}}
    try:
        value = parse_json(found.read(REST, LONGEST))
    except NotStrictError as error:
        raise _unreadable(f"its state {error.what}", error.got, error.rule) from None
    if not isinstance(value, dict):
        raise _unreadable("its state is no dictionary", type(value).__name__, "a JSON object")
    state = tree.decode(value, arrays)
    if not isinstance(state, dict):  # {"$float": "nan"} is an object, and stands for a number
        raise _unreadable("its state is no dictionary", type(state).__name__, "values by name")
    return _tensors(state)


def open_checkpoint(
    folder: str | os.PathLike[str], checksums: bool = True, links: bool = True
) -> Folder:
    """The checked folder of a checkpoint, before anything in it is read.

    Args:
        folder: the checkpoint.
        checksums: False looks only whether all files are there in full length.
        links: as in `load_checkpoint`.
    """
    _refuse_folder_of_checkpoints(Path(folder))
    # A file with holes takes no room on the disk: what it would take of the memory is known before.
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return reading_folder(folder, KIND, VERSION, checksums, links, memory)


def _refuse_folder_of_checkpoints(folder: Path) -> None:
    if not folder.is_dir() or (folder / MANIFEST).exists():
        return
    inside = sorted(p.name for p in folder.iterdir() if (p / MANIFEST).is_file())
    if inside:
        raise FileFormatError(
            f"{folder} holds checkpoints, and is none itself",
            got="a folder with " + printable(", ".join(inside[-3:])),
            rule="the folder of one checkpoint",
            fix=f"load_checkpoint({str(folder / inside[-1])!r}), or Checkpoints(...).load()",
        )


def about_checkpoint(folder: str | os.PathLike[str], *, links: bool = True) -> dict[str, Any]:
    """What was said about a checkpoint when it was saved; its arrays are not read.

    Args:
        folder: the checkpoint.
        links: as in `load_checkpoint`.
    """
    found = open_checkpoint(folder, checksums=False, links=links).manifest.about
    about = tree.decode(found, {})
    if not isinstance(about, dict):
        raise _unreadable("nothing is said about it", type(about).__name__, "values by name")
    return about


def _unreadable(what: str, got: object, rule: str) -> FileFormatError:
    return FileFormatError(
        f"this checkpoint cannot be read: {what}",
        got=got,
        rule=rule,
        fix="use an older checkpoint; this one is damaged",
    )


def _without_tensors(state: dict) -> Any:
    """Tensors as typed arrays, for the floors below."""
    try:
        return _exchanged(state, Tensor, lambda x: TypedArray(x.detach().handle().array, x.dtype))
    except RecursionError:
        raise DTypeError(
            "the state cannot be saved",
            got="a value that is nested too deeply or holds itself",
            rule=f"at most {tree.DEEPEST} levels",
            fix="give the object that holds itself a state_dict() of plain values",
        ) from None


def _tensors(state: Any) -> Any:
    """Typed arrays as Tensors again."""
    return _exchanged(state, TypedArray, lambda x: from_buffer(Buffer.of_outside(x.array, x.dtype)))


def _exchanged(x: Any, kind: type, make: Callable[[Any], Any]) -> Any:
    """The same nest of values with `make(value)` in place of each value of this kind."""
    if isinstance(x, kind):
        return make(x)
    if isinstance(x, Mapping):
        return {key: _exchanged(value, kind, make) for key, value in x.items()}
    if type(x) in (list, tuple):
        return type(x)(_exchanged(item, kind, make) for item in x)
    return x


# --- weights alone ---


def _each_once(state: Mapping[str, Any]) -> dict[str, Any]:
    """Without what shows the memory of something before it: tied weights have several names."""
    found: dict[object, str] = {}
    for name, x in state.items():
        array = x.handle().array if isinstance(x, Tensor) else None
        memory: object = name
        if array is not None and array.size:
            memory = (array.ctypes.data, array.shape, array.strides, x.dtype)
        found.setdefault(memory, name)
    return {name: state[name] for name in found.values()}


def save_weights(module: Module, path: str | Path, metadata: dict[str, str] | None = None) -> None:
    """Write parameters and buffers under their names; the file is replaced in one step.

    Tied weights are written once, under the first of their names, as in Hugging Face's files.

    Args:
        module: whose `state_dict()` is written.
        path: the file, by custom ending in ".safetensors".
        metadata: free text by name, kept in the file.
    """
    arrays = {
        name: (tensor.handle().array, tensor.dtype)
        for name, tensor in _each_once(module.state_dict()).items()
    }
    safetensors.save(path, arrays, metadata)


def load_weights(module: Module, path: str | Path, strict: bool = True) -> None:
    """Read a file that `save_weights` or PyTorch's users wrote, into a module of the same shape.

    Args:
        module: what receives the values.
        path: the file, or the folder of a checkpoint.
        strict: its names must be exactly those of the module.

    Raises:
        FileFormatError: the file is damaged.
        SettingError: names differ. ShapeError: a shape differs. Nothing has changed then.
    """
    if Path(path).is_dir():
        opened = open_checkpoint(path)
        found = safetensors.read_descriptor(opened.descriptor(WEIGHTS))
    else:
        found = safetensors.read(path)
    module.load_state_dict(found.arrays, strict=strict)


# --- states in memory ---


def gather(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The state of each object by name; None stays None. Tensors go on with the run: `copied`.

    Args:
        parts: objects with state_dict(), or None where a run has no such object.
    """
    return {name: None if x is None else x.state_dict() for name, x in parts.items()}


def restore(parts: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Load the state of each object; if one refuses, all are as they were before.

    Args:
        parts: objects with state_dict() and load_state_dict(), or None.
        state: what `gather` gave for the same names; further names are left alone.

    Raises:
        SettingError: a state is missing, or is there for an object that this run does not have.
        ShapeError, DTypeError, SettingError: an object does not take its state, for example
            because the model has another architecture, or the state is not one of its own (a
            checkpoint may be of somebody else). Nothing has changed then.

    Cost: a copy of the present state while it runs.

    Example:
        >>> import tinytorch as tt
        >>> model = tt.nn.Linear(2, 1)
        >>> parts = {"model": model, "optimizer": tt.optim.SGD(model.parameters(), lr=0.5)}
        >>> state = copied(gather(parts))
        >>> parts["optimizer"].lr = 0.25
        >>> restore(parts, state)
        >>> parts["optimizer"].lr
        0.5
    """
    for name, x in parts.items():
        _check_there(name, x, state)
    before: dict[str, Any] = {}
    try:
        for name, x in parts.items():
            if x is not None:
                before[name] = copied(x.state_dict())
                load_into(name, x, state[name])
    except Exception:
        for name, old in before.items():
            parts[name].load_state_dict(old)
        raise


def load_into(name: str, x: Any, state: Any) -> None:
    """`x.load_state_dict(state)`, where the state may be anything.

    Args:
        name: of the object, for messages.
        x: the object.
        state: what it is given.

    Raises:
        SettingError: the object stumbled over it; it may have changed.
    """
    try:
        x.load_state_dict(state)
    except TinyTorchError:
        raise
    except (*_STUMBLED, RecursionError) as error:
        raise SettingError(
            f"the state of {name} cannot be loaded",
            got=f"{short(state)} ({type(error).__name__}: {short(str(error))})",
            rule="what its state_dict() gave",
            fix="a checkpoint of the same kind of run, as it was written",
        ) from error


def _check_there(name: str, x: Any, state: Mapping[str, Any]) -> None:
    if name not in state:
        raise SettingError(
            f"there is no state for {name}",
            got="states of " + (", ".join(state) or "nothing"),
            rule="one for each part of the run",
            fix="a checkpoint of the same kind of run",
        )
    if (x is None) is not (state[name] is None):
        has, lacks = ("the run", "the state") if x is not None else ("the state", "the run")
        raise SettingError(
            f"{has} has {name}, {lacks} has not",
            got=f"{name}={x if x is None else type(x).__name__}",
            rule="both have it, or neither",
            fix=f"build the run with {'no ' if x is not None else 'the same '}{name}",
        )


def copied(x: Any) -> Any:
    """A state in memory of its own, that no later assignment reaches."""
    if isinstance(x, Mapping):
        return {key: copied(value) for key, value in x.items()}
    return x.detach().clone() if isinstance(x, Tensor) else copy.deepcopy(x)


# --- the checkpoints of one run ---


class Checkpoints:
    """A folder of checkpoints, "step-000123" for each: the newest few and the best.

    A new one is written whole before an old one is removed, so that at every moment, also when the
    process is killed or the disk is full, the newest whole one can be loaded.

    The folder may be of somebody else: a link in it is not followed, and what is no checkpoint as
    `save_checkpoint` wrote it is neither replaced nor removed.

    Args:
        folder: where they are; made when the first is saved.
        keep: how many of the newest stay, >= 1.
        every_steps: `due` says yes after so many steps, >= 1; None: never because of steps.
        every_seconds: `due` says yes after so much time, > 0; None: never because of time.
        best: name of a metric, for example "val_loss": the checkpoint with its best value stays.
        highest: whether the best value is the highest; None: by the name (loss, error and
            perplexity: the lowest; accuracy: the highest).

    Raises:
        SettingError: a setting outside its range, or a metric of which nobody knows whether high
            or low is good.

    Example:
        >>> import tempfile
        >>> kept = Checkpoints(tempfile.mkdtemp(), keep=2, best="val_loss")
        >>> for step, loss in [(10, 0.9), (20, 0.4), (30, 0.5), (40, 0.6)]:
        ...     path = kept.save({"step": step}, step, {"val_loss": loss})
        >>> kept.steps(), kept.best_step(), kept.load()
        ([20, 30, 40], 20, {'step': 40})
    """

    def __init__(
        self, folder: str | os.PathLike[str], keep: int = 3, *, every_steps: int | None = None,
        every_seconds: float | None = None, best: str | None = None, highest: bool | None = None,
    ):  # fmt: skip
        self.folder = Path(folder)
        self.keep = whole("Checkpoints", "keep", keep, at_least=1)
        if every_steps is not None:
            every_steps = whole("Checkpoints", "every_steps", every_steps, at_least=1)
        if every_seconds is not None:
            every_seconds = number("Checkpoints", "every_seconds", every_seconds, "(0, inf)")
        self.every_steps, self.every_seconds = every_steps, every_seconds
        self.best = best
        self.highest = _direction(best, highest)
        self._saved_at: float = time.monotonic()
        self._saved_step: int | None = None

    # --- looking ---

    def path(self, step: int) -> Path:
        """Where the checkpoint of a step is."""
        return self.folder / f"step-{step:06d}"

    def steps(self) -> list[int]:
        """The steps of which there is a checkpoint with all its files, oldest first."""
        return [step for step in self._listed() if self._is_complete(step)]

    def best_step(self) -> int | None:
        """The step whose `best` metric was best; the earlier of equals; None without any."""
        return self._best_of(self.steps())

    def exists(self) -> bool:
        """Whether the folder holds any checkpoint, whole or damaged."""
        return bool(self._listed())

    def due(self, step: int) -> bool:
        """Whether it is time to save after training step `step`.

        Args:
            step: training steps done.
        """
        if self.every_steps and step % self.every_steps == 0 and step != self._saved_step:
            return True
        if self.every_seconds is None:
            return False
        return time.monotonic() - self._saved_at >= self.every_seconds

    # --- saving ---

    def prepare(self) -> None:
        """Make the folder and try to write there: an error now, not after hours of training.

        Raises:
            StorageError: it cannot be written.
        """
        check_writable(self.folder)

    def save(
        self, state: Mapping[str, Any], step: int, metrics: Mapping[str, float] | None = None
    ) -> Path:
        """Write a checkpoint, then remove the old ones that are neither new nor best.

        Args:
            state: see `save_checkpoint`.
            step: training steps done, >= 0.
            metrics: numbers by name; without the one called `best` it is never the best.

        Returns:
            the folder of this checkpoint.

        Raises:
            StorageError: it cannot be written; the older ones are all there.
        """
        step = whole("Checkpoints.save", "step", step, at_least=0)
        target = self.path(step)
        if self.folder.is_dir():
            remove_leftovers(self.folder, _OURS, KIND)
        if os.path.lexists(target) and not is_replaceable(target, KIND):
            # Nobody can load it, or it holds more than we wrote: not ours to throw away.
            os.rename(target, self.folder / f"damaged-{target.name}-{secrets.token_hex(3)}")
        about = {"step": step, "metrics": {k: float(v) for k, v in (metrics or {}).items()}}
        save_checkpoint(target, state, about)
        self._saved_at, self._saved_step = time.monotonic(), step
        self._remove_old(step)
        return target

    def _remove_old(self, step: int) -> None:
        # Later steps are of another attempt at this run (somebody went back): left alone.
        steps = [s for s in self.steps() if s <= step]
        stay = {*steps[-self.keep :], self._best_of(steps)}
        for old in steps:
            if old not in stay:
                # A folder that cannot be removed costs space, and must not end a training run.
                with contextlib.suppress(OSError):
                    remove_folder(self.path(old), KIND)

    # --- loading ---

    def load(self) -> dict[str, Any] | None:
        """The state of the newest whole checkpoint; None if there is none and never was.

        A damaged one is passed over with a warning that names it.

        Raises:
            FileFormatError: there are checkpoints, and each is damaged; or the newest was written
                by a newer TinyTorch (FutureVersionError): going on from an older one would lose
                what it holds.
        """
        if self.folder.is_dir():
            remove_leftovers(self.folder, _OURS, KIND)
        passed: list[str] = []
        for step in reversed(self._listed()):
            try:
                state = load_checkpoint(self.path(step), links=False)
            except FutureVersionError:
                raise
            except (FileFormatError, StorageError) as error:
                passed.append(f"step-{step:06d} ({error.what})")
                continue
            if passed:
                warnings.warn(
                    f"damaged: {'; '.join(passed)}. Going on from step {step}.",
                    RuntimeWarning, stacklevel=2,
                )  # fmt: skip
            return state
        if passed:
            raise FileFormatError(
                f"no checkpoint in {self.folder} is whole",
                got="; ".join(passed),
                rule="at least one that is as it was written",
                fix="copy the folder again, or begin anew in another folder",
            )
        return None

    def load_best(self) -> dict[str, Any] | None:
        """The state of the checkpoint with the best metric; None if there is none."""
        step = self.best_step()
        return None if step is None else load_checkpoint(self.path(step), links=False)

    # --- inside ---

    def _listed(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        # A folder that was being replaced when the process was killed is found under its old name.
        found = (re.fullmatch(rf"({_OURS})|\.({_OURS})\.before", name, re.ASCII)
                 for name in os.listdir(self.folder))  # fmt: skip
        names = {match[1] or match[2] for match in found if match}
        steps = {int(name.removeprefix("step-")) for name in names}
        return sorted(step for step in steps if self.path(step).name in names)

    def _is_complete(self, step: int) -> bool:
        try:
            open_checkpoint(self.path(step), checksums=False, links=False)
        except (TinyTorchError, OSError):
            return False
        return True

    def _best_of(self, steps: list[int]) -> int | None:
        if self.best is None:
            return None
        values = {}
        for step in steps:
            value = self._metric(step)
            if not math.isnan(value):
                values[step] = -value if self.highest else value
        return min(values, key=lambda step: (values[step], step), default=None)

    def _metric(self, step: int) -> float:
        try:
            metrics = about_checkpoint(self.path(step), links=False).get("metrics")
        except TinyTorchError:  # of somebody else, who wrote there what is no value
            return math.nan
        value = metrics.get(self.best) if isinstance(metrics, dict) else None
        return value if isinstance(value, float) else math.nan

    def __repr__(self) -> str:
        return f"Checkpoints({str(self.folder)!r}, keep={self.keep}, {len(self.steps())} there)"


def _direction(best: str | None, highest: bool | None) -> bool:
    if highest is not None or best is None:
        return bool(highest)
    if any(word in best for word in _LOWER):
        return False
    if any(word in best for word in _HIGHER):
        return True
    raise SettingError(
        f"Checkpoints: is a high {best!r} good or bad?",
        got=f"best={best!r}",
        rule="loss, error and perplexity are good when low, accuracy when high; of other names "
        "nobody knows",
        fix=f'Checkpoints(..., best="{best}", highest=True)',
    )


def checkpoints_of_run(
    checkpoint: str | Path | Checkpoints | None, resume: bool
) -> tuple[Checkpoints | None, dict[str, Any] | None]:
    """Where `Trainer.train` saves, and the state it goes on from.

    Args:
        checkpoint: a folder, `Checkpoints`, or None: nothing is saved.
        resume: go on from the newest whole checkpoint, if there is one.

    Raises:
        SettingError: there are checkpoints and resume is False, or nowhere to resume from.
    """
    if checkpoint is None:
        if resume:
            raise SettingError(
                "train: nothing says where to resume from",
                got="resume=True without checkpoint",
                rule="checkpoint names the folder of the run",
                fix='train(loader, epochs, checkpoint="run", resume=True)',
            )
        return None, None
    found = Checkpoints(checkpoint) if isinstance(checkpoint, (str, Path)) else checkpoint
    if not resume and found.exists():
        raise SettingError(
            "train: this folder holds a run already",
            got=f"checkpoints in {found.folder}",
            rule="a new run has a folder of its own, so that nothing is overwritten",
            fix="resume=True to go on with it, or another folder",
        )
    return found, found.load() if resume else None


# --- a loop of one's own ---


class ModelCheckpointer:
    """Saves everything a run needs to go on bit for bit, and gives the epochs that are left.

    The state of the default random generator is always part of it.

    Args:
        folder: where the checkpoints are, or a `Checkpoints` with settings of its own.
        parts: whatever has state_dict() and load_state_dict(), by name: model=..., optimizer=...,
            loader=..., schedule=... A loader that is left out begins each epoch as it does anew.

    Raises:
        SettingError: a part has no state_dict(), or a name that is taken.

    Cost: each save writes the state once (see `save_checkpoint`).

    Example:
        >>> import tempfile, tinytorch as tt
        >>> folder = tempfile.mkdtemp()
        >>> def run(until):
        ...     model = tt.nn.Linear(2, 1)
        ...     sgd = tt.optim.SGD(model.parameters(), lr=0.1)
        ...     checkpointer = ModelCheckpointer(folder, model=model, optimizer=sgd)
        ...     for epoch in checkpointer.resume_from_checkpoint(10):
        ...         print("epoch", epoch)
        ...         if epoch == until:
        ...             break                      # as if the power had failed here
        >>> run(until=2)
        epoch 0
        epoch 1
        epoch 2
        >>> run(until=3)
        epoch 2
        epoch 3
    """

    def __init__(self, folder: str | os.PathLike[str] | Checkpoints, **parts: Any):
        self.checkpoints = folder if isinstance(folder, Checkpoints) else Checkpoints(folder)
        self.parts = parts
        self.epoch = 0  # whole epochs done
        self._saves = 0
        for name, part in parts.items():
            if name in _OWN or not hasattr(part, "state_dict"):
                raise SettingError(
                    f"ModelCheckpointer: {name} cannot be one of its parts",
                    got=f"{name}={type(part).__name__}",
                    rule="objects with state_dict() and load_state_dict(), under names other than "
                    + ", ".join(_OWN),
                    fix="ModelCheckpointer(folder, model=model, optimizer=optimizer)",
                )

    def save(self, metrics: Mapping[str, float] | None = None) -> Path:
        """Write a checkpoint now; within an epoch too, if the loader is one of the parts.

        Args:
            metrics: numbers by name, among them the one that says which checkpoint is best.

        Returns:
            its folder.

        Raises:
            StorageError: it cannot be written; the older ones are all there.
        """
        self._saves += 1
        own = {"epoch": self.epoch, "saves": self._saves, "random": default_generator.state_dict()}
        return self.checkpoints.save({**gather(self.parts), **own}, self._saves, metrics)

    def restore(self) -> bool:
        """Load the newest whole checkpoint into the parts; False if there is none.

        Raises:
            FileFormatError: there are checkpoints, and none is whole.
            SettingError, ShapeError: the state is of other parts, for example of a model with
                another architecture; nothing has changed then.
        """
        state = self.checkpoints.load()
        if state is None:
            return False
        restore({**self.parts, "random": default_generator}, state)
        self.epoch = whole("ModelCheckpointer", "epoch", state.get("epoch"), at_least=0)
        self._saves = whole("ModelCheckpointer", "saves", state.get("saves"), at_least=0)
        return True

    def resume_from_checkpoint(self, epochs: int) -> Iterator[int]:
        """The epochs that are left of `range(epochs)`; after each, a checkpoint is saved.

        Args:
            epochs: how many the whole run has, those already done included.

        Returns:
            an iterator; when it starts, the newest whole checkpoint is loaded.
        """
        epochs = whole("resume_from_checkpoint", "epochs", epochs, at_least=0)
        self.restore()
        while self.epoch < epochs:
            yield self.epoch
            self.epoch += 1
            self.save()
