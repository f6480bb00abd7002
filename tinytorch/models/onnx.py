"""Models of ONNX files: a Module whose weights are the file's and whose forward is its graph.

Knows names, weights and the order of nodes; what an operator computes is a table beside
(onnx_operators.py). Each node is an operation on Tensors, so such a model is trained further,
compiled, saved and exported like any other.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from tinytorch.base.dtypes import DType, as_dtype, bfloat16, dtype_named
from tinytorch.base.errors import DTypeError, FileFormatError, ShapeError, short
from tinytorch.models.onnx_operators import OPERATORS, READ, Step
from tinytorch.nn.module import Module, Parameter
from tinytorch.storage import onnx as onnx_files
from tinytorch.storage.protobuf import Message
from tinytorch.tensor.interpreter import interpreting
from tinytorch.tensor.memory import from_array
from tinytorch.tensor.tensor import Tensor

OPSETS = range(7, 29)  # 7 brought broadcasting; 28 is of onnx 1.23
# Operands that are measured, not trained.
STATISTICS = {
    "BatchNormalization": (3, 4), "DequantizeLinear": (1, 2), "QuantizeLinear": (1, 2),
}  # fmt: skip


def load_onnx(path: str | os.PathLike[str], dtype: str | DType = "float32") -> ONNXModel:
    """The model of an ONNX file, in evaluation mode.

    Args:
        path: the file; arrays that lie beside it (external data) are read from its folder alone.
        dtype: of the weights in memory that are float32 in the file; default float32.

    Returns:
        an `ONNXModel`.

    Raises:
        NotFoundError: there is no such file.
        FileFormatError: it is damaged, of operators or a version of them that TinyTorch does not
            have, or reads what no node makes; external data lies outside the folder.

    Cost: the bytes of the weights twice, as they lie there, mapped, and in memory.
    """
    file = onnx_files.read(path)
    model = ONNXModel(file)
    if (wanted := as_dtype(dtype)) is not dtype_named("float32"):
        model.to(wanted)
    model.eval()
    return model


class ONNXPart(Module):
    """A part of an `ONNXModel` that holds weights: "layer1" of "layer1.weight"."""


class ONNXModel(Module):
    """The graph of an ONNX file; `load_onnx` makes it.

    Floating-point initializers are Parameters, those of 8 bits and statistics of batch norms
    buffers, under the file's names where these may be attributes ("fc1.weight"), else "weight0" and
    so on. Statistics stay as they are and dropout passes on, in training too: a file says what is
    done in inference.

    A file that says how many samples there are, such as (1, 1, 28, 28), takes other numbers too:
    where a Reshape begins with that number, the new one stands, as long as samples are the first
    axis of what is reshaped.

    Args:
        file: what `storage.onnx.read` gave.
    """

    def __init__(self, file: onnx_files.ONNXFile):
        graph, self._path = file.model["graph"], str(file.path)
        self._opset = self._version(file.model)
        self._fixed: dict[str, Any] = {}  # numbers that are no weights
        self._places: dict[str, tuple[str, ...]] = {}  # weights: the attributes that lead to them
        self._steps = self._read_nodes(file, graph["nodes"])
        stored = {t["name"]: t for t in graph["initializers"]}
        if len(stored) < len(graph["initializers"]) or graph["sparse_initializers"]:
            self._refuse("weights stand twice, or are sparse", len(stored), "each once, dense")
        self._inputs = [x for x in graph["inputs"] if x["name"] not in stored]
        self._outputs = tuple(x["name"] for x in graph["outputs"])
        given = {x["name"] for x in self._inputs}
        self._steps = self._in_order(given.union(stored, self._fixed))
        self._hold(file, stored)
        self._kind = self._trained_kind()
        self._batch = self._declared_batch()

    def _refuse(self, problem: str, got: object, rule: str) -> NoReturn:
        raise FileFormatError(
            f"{self._path} is no model that TinyTorch reads: {problem}", got=short(got), rule=rule,
            fix="export the model again, by torch.onnx.export(..., opset_version=18) or such",
        )  # fmt: skip

    def _version(self, model: Message) -> int:
        found = [x["version"] for x in model["opset_import"] if x["domain"] in ("", "ai.onnx")]
        if len(found) != 1 or found[0] not in OPSETS:
            rule = f"opset {OPSETS[0]} to {OPSETS[-1]}"
            self._refuse("its version of the operators is unknown", f"opset {found}", rule)
        return found[0]

    def _read_nodes(self, file: onnx_files.ONNXFile, nodes: list[Message]) -> list[Step]:
        """The nodes as steps, constants apart; every operator is looked up."""
        steps: list[Step] = []
        for i, node in enumerate(nodes):
            operator = node["operator"]
            where = f"node {short(node['name'] or i)} ({short(operator)}) of {self._path}"
            known = operator == "Constant" or operator in OPERATORS
            if not known or node["domain"] not in ("", "ai.onnx"):
                raise FileFormatError(
                    f"{where}: TinyTorch does not have this operator",
                    got=f"{short(node['domain'] or 'ai.onnx')}.{short(operator)}",
                    rule="one of " + ", ".join(sorted(OPERATORS)),
                    fix="export the model with other operators, or leave that part out",
                )
            attributes = {a["name"]: self._attribute(file, a, where) for a in node["attributes"]}
            outputs = tuple(node["outputs"])
            step = Step(operator, where, self._opset, attributes, tuple(node["inputs"]), outputs)
            if operator == "Constant":
                self._fixed[outputs[0] if outputs else ""] = _constant(step)
                continue
            rule = OPERATORS[operator]
            try:
                inspect.signature(rule).bind(step, *step.inputs)
            except TypeError:
                got = f"{len(step.inputs)} operands"
                step.refuse("it has another number of operands", got, "as the operator says")
            steps.append(step)
        return steps

    def _attribute(self, file: onnx_files.ONNXFile, a: Message, where: str) -> Any:
        kind = onnx_files.ATTRIBUTES.get(a["type"])
        if kind is None or kind == "graph" or kind == "tensor" and a["tensor"] is None:
            rule = "numbers, texts, lists of them, or a tensor"
            self._refuse(f"{where}: an attribute is of no such kind", short(a["name"]), rule)
        value = a[kind]
        if kind == "tensor":
            return file.array(value)
        if kind in ("text", "texts"):
            texts = [str(x, "utf-8", "replace") for x in (value if kind == "texts" else [value])]
            return texts if kind == "texts" else texts[0]
        return value

    def _in_order(self, made: set[str]) -> list[Step]:
        """The steps, if every name is made once before it is read; what is read last is noted."""
        last = {name: i for i, step in enumerate(self._steps) for name in step.inputs}
        last.update((name, len(self._steps)) for name in self._outputs)
        computed: set[str] = set()
        steps: list[Step] = []
        for i, step in enumerate(self._steps):
            if missing := [x for x in step.inputs if x and x not in made]:
                rule = "an input, a weight, or what an earlier node makes"
                step.refuse("it reads what is not there", missing[0], rule)
            if twice := [x for x in step.outputs if x in made]:
                step.refuse("what it makes has no name of its own", twice, "each name once")
            outputs = tuple(x if x in last else "" for x in step.outputs)
            computed.update(outputs)
            made.update(outputs)
            made.discard("")
            done = {x for x in step.inputs if x and x in computed and last[x] == i}
            steps.append(replace(step, outputs=outputs, done=tuple(done)))
        if missing := [x for x in self._outputs if x not in made]:
            self._refuse("an output is not made", missing[0], "the name of a value")
        if not self._outputs:
            self._refuse("it has no output", 0, "one at least")
        return steps

    def _hold(self, file: onnx_files.ONNXFile, stored: dict[str, Message]) -> None:
        """Arrays that nodes read: as Parameters, buffers, or numbers that are no weights."""
        entries = {e["key"]: e["value"] for e in file.model["metadata"]}
        measured = set(entries.get(onnx_files.BUFFERS, "").split("\n"))
        for step in self._steps:
            places = STATISTICS.get(step.operator, ())
            measured.update(step.inputs[p] for p in places if p < len(step.inputs))
        read = {x for step in self._steps for x in step.inputs} | set(self._outputs)
        for name, tensor in stored.items():
            if name not in read:
                continue
            array, kind = file.array(tensor)
            if not (kind.is_float or kind.itemsize == 1 and kind.kind in "iu") or not array.shape:
                self._fixed[name] = _number(array, kind)
                continue
            weight = from_array(array.copy(), kind)
            holder, path = self._place(name)
            self._places[name] = path
            key = path[-1]
            if kind.is_float and name not in measured:
                setattr(holder, key, Parameter(weight))
            else:
                holder.register_buffer(key, weight)

    def _place(self, name: str) -> tuple[Module, tuple[str, ...]]:
        """Where a weight lies: "fc1.weight" as attribute "weight" of a part "fc1"."""
        path = tuple(name.split("."))
        holder: Module = self
        if all(x and x[0] != "_" and not hasattr(Module, x) for x in path):
            for part in path[:-1]:
                if part not in vars(holder):
                    setattr(holder, part, ONNXPart())
                holder = vars(holder)[part]
                if not isinstance(holder, ONNXPart):
                    break
            else:
                if path[-1] not in vars(holder):
                    return holder, path
        return self, (f"weight{len(self._places)}",)

    def _trained_kind(self) -> DType | None:
        """The number type of what is trained."""
        return next((p.dtype for p in self.parameters()), None)

    def _follower(self) -> Callable[[Any], Any]:
        """Gives numbers of the file's floating-point type in the type that the weights have now."""
        kind, old = self._trained_kind(), self._kind
        if kind is None or old is None or kind is old:
            return lambda x: x

        def follow(x: Any) -> Any:
            if isinstance(x, np.ndarray) and x.dtype == old.storage:
                x = Tensor(x)
            return x.astype(kind) if isinstance(x, Tensor) and x.dtype is old else x

        return follow

    def _declared_batch(self) -> int | None:
        """The number of samples that the file says, if it says one for all inputs."""
        found = {(_sizes(x) or [0])[0] for x in self._inputs}
        return found.pop() if len(found) == 1 and found != {0} else None

    def forward(self, *inputs: Tensor) -> Any:
        """What the graph gives for its inputs, in the file's order: one output, or a tuple."""
        self._check_inputs(inputs)
        names = [x["name"] for x in self._inputs]
        follow = self._follower()
        values = {name: follow(x) for name, x in self._fixed.items()}
        values.update(
            (n, functools.reduce(getattr, path, self)) for n, path in self._places.items()
        )
        values.update(zip(names, inputs, strict=True))
        values[""] = None
        samples = inputs[0].shape[0] if inputs and inputs[0].shape else None
        # Of another number of samples than the file says: values of which they are the first axis.
        first = set(names) if self._batch not in (None, samples) else set[str]()
        for step in self._steps:
            operands = [values[x] for x in step.inputs]
            if step.operator == "Reshape" and step.inputs[0] in first:
                operands[1] = self._other_batch(operands[1], samples)
            found = _carried_out(step, operands)
            wanted = max((i + 1 for i, x in enumerate(step.outputs) if x), default=0)
            if len(found) < wanted:
                step.refuse("more of its outputs are read than are made", wanted, f"{len(found)}")
            pairs = zip(step.outputs, found, strict=False)
            made = [(name, follow(x)) for name, x in pairs if name]
            values.update(made)
            if step.keeps_first(first):
                first.update(name for name, x in made if x.shape[:1] == (samples,))
            for name in step.done:
                del values[name]
        results = [_tensor(values[name]) for name in self._outputs]
        return results[0] if len(results) == 1 else tuple(results)

    def _other_batch(self, shape: Any, samples: Any) -> Any:
        """The shape of a Reshape that was written for another number of samples."""
        if not isinstance(shape, np.ndarray) or not shape.size or shape[0] != self._batch:
            return shape
        return np.array([samples, *shape[1:]], np.int64)

    def _check_inputs(self, inputs: tuple[Any, ...]) -> None:
        wanted = [f"{x['name']} {_sizes(x)}" for x in self._inputs]
        if len(inputs) != len(self._inputs):
            raise ShapeError(
                "ONNXModel: another number of inputs", got=f"{len(inputs)}",
                rule=", ".join(wanted), fix=f"model({', '.join(w.split()[0] for w in wanted)})",
            )  # fmt: skip
        for x, fact, text in zip(inputs, self._inputs, wanted, strict=True):
            sizes, kind = _sizes(fact), _number_type(fact)
            if sizes is not None and (
                len(sizes) != len(x.shape)
                or any(a not in (0, b) for a, b in zip(sizes[1:], x.shape[1:], strict=True))
            ):
                raise ShapeError(
                    "ONNXModel: an input has another shape", got=f"{tuple(x.shape)}",
                    rule=f"{text}, 0 for any number", fix=f"x.reshape(-1, *{tuple(sizes[1:])})",
                )  # fmt: skip
            if kind is not None and kind.is_float != x.dtype.is_float:
                raise DTypeError(
                    "ONNXModel: an input is of another number type", got=x.dtype.name,
                    rule=f"{fact['name']}: {kind.name}", fix=f'x.astype("{kind.name}")',
                )  # fmt: skip

    def extra_repr(self) -> str:
        """How many nodes it has."""
        return f"{len(self._steps)} nodes, opset {self._opset}"


def _constant(step: Step) -> Any:
    """The value of a Constant."""
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64,
             "value_ints": np.int64}  # fmt: skip
    for name, value in step.attributes.items():
        if name == "value" and isinstance(value, tuple):
            return _number(*value)
        if name in kinds and not isinstance(value, (str, tuple)):
            return np.array(value, kinds[name])
    step.refuse("this constant is not read", list(step.attributes), "numbers or a tensor")


def _number(array: np.ndarray, kind: DType) -> Any:
    """Numbers that are known while a program is compiled; of bfloat16 a Tensor."""
    held = array.copy()  # what is mapped ends with the file
    return from_array(held, kind) if kind is bfloat16 else held


def _carried_out(step: Step, operands: list[Any]) -> tuple[Any, ...]:
    """The outputs of a step: arrays where all operands are, since shapes are made of them."""
    rule = OPERATORS[step.operator]
    given = [x for x in operands if x is not None]
    if given and all(isinstance(x, np.ndarray) for x in given):
        with interpreting(None):  # now, not when the program runs
            out = rule(step, *(_operand(step, i, x) for i, x in enumerate(operands)))
            out = out if isinstance(out, (tuple, list)) else (out,)
            return tuple(_plain(x) for x in out)
    out = rule(step, *(_operand(step, i, x) for i, x in enumerate(operands)))
    return tuple(out) if isinstance(out, (tuple, list)) else (out,)


def _operand(step: Step, place: int, x: Any) -> Any:
    return x if place in READ.get(step.operator, ()) or x is None else _tensor(x)


def _plain(x: Any) -> Any:
    """The array of a Tensor; NumPy has none for bfloat16."""
    return x if isinstance(x, np.ndarray) or x.dtype is bfloat16 else x.numpy()


def _tensor(x: Any) -> Any:
    return Tensor(x) if isinstance(x, np.ndarray) else x


def _sizes(fact: Message) -> list[int] | None:
    """The sizes of an input, 0 for any; None if the file does not say."""
    tensor = (fact["type"] or {}).get("tensor")
    shape = tensor["shape"] if tensor else None
    return None if shape is None else [max(0, size["number"]) for size in shape["sizes"]]


def _number_type(fact: Message) -> DType | None:
    tensor = (fact["type"] or {}).get("tensor")
    name = onnx_files.NUMBER_TYPES.get(tensor["number_type"]) if tensor else None
    return dtype_named(name) if name else None
