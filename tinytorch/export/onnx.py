"""A model as an ONNX file, which other runtimes run.

Knows recordings and names of weights; which operator is which primitive's is a table beside
(onnx_operators.py). The model is recorded as `native` records it. Where the batch is to be free, it
is recorded with two batches: a size that is twice as large for twice as many samples follows them.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from tinytorch.base.arguments import whole
from tinytorch.base.errors import CompileError, SettingError
from tinytorch.base.settings import VERSION
from tinytorch.compiler.compile import Compiled
from tinytorch.compiler.graph.graph import Graph, Value
from tinytorch.compiler.record.recording import Recording
from tinytorch.export.onnx_operators import SIZED, written
from tinytorch.export.onnx_writer import Call, Size, Writer, merged
from tinytorch.export.recorded import recorded_call, results_of, weights_of
from tinytorch.nn.module import Module
from tinytorch.storage import onnx as onnx_files
from tinytorch.storage.protobuf import Message
from tinytorch.tensor.creation import zeros
from tinytorch.tensor.tensor import Tensor

OPSETS = {18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11}  # versions of operators -> of the format
BATCHES = (2, 3)  # samples with which a model is recorded, if their number is to be free


def onnx(
    model: Any,
    path: str | os.PathLike[str],
    *example: Any,
    batch: str | None = None,
    opset: int = 21,
) -> None:
    """Write what a model does of an example as an ONNX file.

    Weights are initializers under the names of `state_dict()`, those of 8 and 4 bits too; the
    metadata names those that are not trained.

    Args:
        model: a Module in evaluation mode, a function over Tensors, or what `tt.compile` gave.
        path: the file; replaced as a whole.
        example: the inputs, arrays; their shapes and number types are those of the file.
        batch: a name for the first axis of all inputs, such as "N", of which there may then be any
            number; default None: as many as in the example.
        opset: version of ONNX's operators, 18 to 23; default 21, of 2024.

    Raises:
        CompileError: an operation that ONNX does not have, with the line it is on; a call changes
            something; or what is computed does not follow the batch.
        SettingError: another opset, no example, or a file above 2 GiB.
        StorageError: the file cannot be written.

    Cost: milliseconds, whatever the model's size, and its weights once on the disk.

    Differs from torch.onnx.export: no names for inputs ("input", "output", numbered if there are
    several), and one free axis.

    Example:
        >>> import tempfile
        >>> import tinytorch as tt
        >>> from tinytorch import export, models, nn
        >>> place = tempfile.mkdtemp() + "/net.onnx"
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval()
        >>> export.onnx(net, place, tt.ones(1, 4), batch="N")
        >>> models.load(place)(tt.ones(5, 4)).shape
        (5, 3)
    """
    whole("export.onnx", "opset", opset, 1)
    if opset not in OPSETS:
        raise SettingError(
            "export.onnx: these operators are not written", got=f"opset={opset}",
            rule=f"{min(OPSETS)} to {max(OPSETS)}", fix="opset=21",
        )  # fmt: skip
    arrays = tuple(x if isinstance(x, Tensor) else Tensor(x) for x in example)
    if (
        not arrays
        or batch is not None
        and not (isinstance(batch, str) and batch.isidentifier() and all(x.shape for x in arrays))
    ):
        raise SettingError(
            "export.onnx: it needs an example, and an axis for the batch if that has a name",
            got=f"{len(arrays)} inputs of shapes {[x.shape for x in arrays]}, batch={batch!r}",
            rule="arrays as the model is given them; batch: an identifier or None",
            fix='export.onnx(model, "net.onnx", tt.zeros(1, 3, 32, 32), batch="N")',
        )
    if batch is None:
        recording = recorded_call(model, arrays)
        calls = [Call(node, node.params) for node in recording.graph.nodes]
        shapes: dict[Value, tuple[Size, ...]] = {}
    else:
        recording, calls, shapes = _with_free_batch(model, arrays)
    writer = Writer(recording.graph, opset, shapes)
    onnx_files.write(path, _model(model, recording, calls, writer, batch or ""))


def _with_free_batch(
    model: Any, arrays: tuple[Tensor, ...]
) -> tuple[Recording, list[Call], dict[Value, tuple[Size, ...]]]:
    """A recording, its calls, and the shape of each value, with the batch's size as a name."""
    one, two = (
        recorded_call(model, tuple(zeros(n, *x.shape[1:], dtype=x.dtype) for x in arrays))
        for n in BATCHES
    )
    a, b = one.graph, two.graph
    same = dict(zip(_given(a), _given(b), strict=False))
    calls: list[Call] = []
    where = "its number of inputs, weights or operations"
    try:
        for first, second in zip(a.nodes, b.nodes, strict=True):
            where = f"{first.primitive.name} at {first.where}"
            if first.primitive is not second.primitive or second.inputs != tuple(
                same[v] for v in first.inputs
            ):
                raise ValueError("other operations")
            names = {*first.params, *second.params}
            params = {n: merged(first.params.get(n), second.params.get(n), BATCHES) for n in names}
            if "Batch(" in repr(params) and first.primitive.name not in SIZED:
                raise ValueError(f"a setting is the batch's size: {params}")
            calls.append(Call(first, params))
            same.update(zip(first.outputs, second.outputs, strict=True))
        shapes = {v: merged(v.shape, w.shape, BATCHES) for v, w in same.items()}
        for v, array in a.constants.items():
            where = "an array that is made in Python"
            if not np.array_equal(array, b.constants[same[v]]):
                raise ValueError("other numbers")
    except (ValueError, KeyError) as error:
        raise CompileError(
            "export.onnx: what is computed does not follow the batch", got=f"{where}: {error}",
            rule="the same operations for each number of samples, sizes in proportion to it",
            fix="batch=None, for the number of samples of the example",
        ) from None  # fmt: skip
    return one, calls, shapes


def _given(graph: Graph) -> list[Value]:
    return [*graph.arguments, *graph.states, *graph.constants]


def _model(model: Any, recording: Recording, calls: list[Call], w: Writer, batch: str) -> Message:
    """The message of the whole model."""
    graph = recording.graph
    inputs = _numbered(w, "input", len(graph.arguments))
    for value, name in zip(graph.arguments, inputs, strict=True):
        w.let(value, name)
    results = [graph.results[i] for i in results_of(recording)]
    outputs = _numbered(w, "output", len(results))
    function = model.fn if isinstance(model, Compiled) else model
    buffers = _hold_weights(function, recording, w)
    for call in calls:
        w.begin(call)
        name = written(w, call)
        w.let(call.output, name)
    for value, name in zip(results, outputs, strict=True):
        w.nodes.append({"operator": "Identity", "name": name, "inputs": [w.name(value)],
                        "outputs": [name]})  # fmt: skip
    nodes = w.used(outputs)
    there = [name for name in buffers if name in w.initializers]
    return {
        "ir_version": OPSETS[w.opset], "producer_name": "tinytorch", "producer_version": VERSION,
        "opset_import": [{"domain": "", "version": w.opset}],
        "metadata": [{"key": onnx_files.BUFFERS, "value": "\n".join(there)}] if there else [],
        "graph": {
            "name": type(function).__name__, "nodes": nodes,
            "initializers": list(w.initializers.values()),
            "inputs": [_described(w, v, n, batch) for v, n in
                       zip(graph.arguments, inputs, strict=True)],
            "outputs": [_described(w, v, n, batch) for v, n in
                        zip(results, outputs, strict=True)],
        },
    }  # fmt: skip


def _numbered(w: Writer, name: str, count: int) -> list[str]:
    return [w.unique(name if count == 1 else f"{name}{i}") for i in range(count)]


def _hold_weights(function: Any, recording: Recording, w: Writer) -> list[str]:
    """Give each state its name and array; gives the names of those that are not trained."""
    names: dict[int, str] = {}
    trained: set[str] = set()
    if isinstance(function, Module):
        names = {id(t): n for n, t in function.named_buffers()}
        names.update({id(t): n for n, t in function.named_parameters()})
        trained = {n for n, _ in function.named_parameters()}
    found: list[str] = []
    states = zip(recording.graph.states, recording.sources, weights_of(recording), strict=True)
    for i, (value, source, array) in enumerate(states):
        name = names.get(id(source), f"weight{i}")
        held = w.hold(value, name, array)
        if name not in trained and names:
            found.append(held)
    return found


def _described(w: Writer, value: Value, name: str, batch: str) -> Message:
    sizes: list[Message] = [
        {"number": n} if isinstance(n, int)
        else {"name": batch if n.factor == 1 else f"{n.factor}*{batch}"}
        for n in w.shape(value)
    ]  # fmt: skip
    code = onnx_files.CODES[value.dtype.name]
    return {"name": name, "type": {"tensor": {"number_type": code, "shape": {"sizes": sizes}}}}
