"""What an ONNX graph is written with: names, nodes, constants, and sizes that follow the batch.

Knows messages of `storage/onnx.py` and values of a recorded program, never which operator is which
primitive's: that is a table of its own (onnx_operators.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from tinytorch.base.dtypes import DType, int64
from tinytorch.base.errors import CompileError
from tinytorch.compiler.graph.graph import Graph, Node, Value
from tinytorch.primitives.primitive import store
from tinytorch.storage.onnx import CODES, attribute_of, tensor_of
from tinytorch.storage.protobuf import Message


@dataclass(frozen=True)
class Batch:
    """A size that is `factor` times the batch's."""

    factor: int


Size = int | Batch


@dataclass(frozen=True, eq=False)
class Call:
    """A primitive as it was called, with sizes in which the batch is a name.

    Args:
        node: of the recording.
        params: its parameters.
    """

    node: Node
    params: dict[str, Any]

    @property
    def inputs(self) -> tuple[Value, ...]:
        """What it reads."""
        return self.node.inputs

    @property
    def output(self) -> Value:
        """The first array that it makes."""
        return self.node.outputs[0]

    @property
    def dtype(self) -> DType:
        """Number type of its first input."""
        return self.inputs[0].dtype


class Writer:
    """An ONNX graph that grows.

    Args:
        graph: the recording it is written from.
        opset: version of the operators.
        shapes: of each value, where they are not its own: with the batch in it.
    """

    def __init__(self, graph: Graph, opset: int, shapes: dict[Value, tuple[Size, ...]]):
        self.graph, self.opset = graph, opset
        self.nodes: list[Message] = []
        self.initializers: dict[str, Message] = {}
        self._shapes, self._calls = shapes, dict[Value, Call]()
        self._names: dict[Value, str] = {}
        self._arrays: dict[Value, np.ndarray] = dict(graph.constants)
        self._taken: set[str] = set()
        self._made: dict[str, Message] = {}
        self._constants: dict[tuple[Any, ...], str] = {}
        self._batch: dict[int, str] = {}
        users = graph.users()
        self._users = {v: len(nodes) for v, nodes in users.items()}
        for v in graph.results:
            self._users[v] = self._users.get(v, 0) + 1

    # --- names ---

    def unique(self, wish: str) -> str:
        """A name that nothing has yet."""
        name, i = wish, 1
        while name in self._taken or not name:
            name, i = f"{wish}_{i}", i + 1
        self._taken.add(name)
        return name

    def let(self, value: Value, name: str) -> None:
        """Say under which name a value is found."""
        self._names[value] = name

    def hold(self, value: Value, wish: str, array: np.ndarray) -> str:
        """A weight, written when it is first read; gives its name."""
        name = self._names[value] = self.unique(wish)
        self._arrays[value] = array
        return name

    def name(self, value: Value) -> str:
        """The name of a value."""
        if value in self.graph.constants and value not in self._names:
            self.let(value, self.constant(self._arrays[value], value.dtype))
        name = self._names[value]
        if value in self._arrays and value not in self.graph.constants:
            self.initializers.setdefault(name, tensor_of(name, self._arrays[value], value.dtype))
        return name

    # --- what the recording says ---

    def begin(self, call: Call) -> None:
        """A call whose operators are written next."""
        for value in call.node.outputs:
            self._calls[value] = call

    def maker(self, value: Value, name: str) -> Call | None:
        """The call that made a value, if it is of that primitive."""
        call = self._calls.get(value)
        return call if call is not None and call.node.primitive.name == name else None

    def shape(self, value: Value) -> tuple[Size, ...]:
        """Sizes of a value, with the batch in them."""
        return self._shapes.get(value, value.shape)

    def weight(self, value: Value) -> np.ndarray | None:
        """The stored array of a value that is a weight."""
        return self._arrays.get(value)

    def zero(self, value: Value) -> bool:
        """Whether a value is the number 0."""
        call = self.maker(value, "full")
        return call is not None and call.params["value"] == 0

    def only_node(self, value: Value) -> Message | None:
        """The operator that made a value, if that is read once."""
        return self._made.get(self._names[value]) if self._users.get(value) == 1 else None

    # --- writing ---

    def add(self, operator: str, *inputs: str | Value, count: int = 1, **attributes: Any) -> Any:
        """Write a node.

        Args:
            operator: its operator.
            inputs: names, or values.
            count: how many outputs it has.
            attributes: None are left out.

        Returns:
            the name of its output; of several a list.
        """
        names = [self.name(x) if isinstance(x, Value) else x for x in inputs]
        outputs = [self.unique(f"{operator}_{len(self.nodes)}") for _ in range(count)]
        node = {
            "operator": operator, "name": outputs[0], "inputs": names, "outputs": outputs,
            "attributes": [attribute_of(k, v) for k, v in attributes.items() if v is not None],
        }  # fmt: skip
        self.nodes.append(node)
        self._made[outputs[0]] = node
        return outputs if count > 1 else outputs[0]

    def constant(self, array: Any, dtype: DType) -> str:
        """Numbers that are no weights, by a node of their own; equal ones are one."""
        stored = np.asarray(array)
        key = (dtype.name, stored.shape, stored.tobytes())
        if key not in self._constants:
            self._constants[key] = self.add("Constant", value=tensor_of("", stored, dtype))
        return self._constants[key]

    def number(self, value: Any, dtype: DType) -> str:
        """One number."""
        return self.constant(store(np.asarray(value), dtype), dtype)

    def integers(self, numbers: Sequence[Size]) -> str:
        """A list of whole numbers, sizes of the batch among them."""
        plain = [n for n in numbers if isinstance(n, int)]
        if len(plain) == len(numbers):
            return self.constant(np.array(plain, np.int64), int64)
        parts = [self._times(n.factor) if isinstance(n, Batch) else self.integers([n])
                 for n in numbers]  # fmt: skip
        return parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=0)

    def _times(self, factor: int) -> str:
        """The batch's size, so many times: a list of one."""
        if factor not in self._batch:
            if factor > 1:
                name = self.add("Mul", self._times(1), self.integers([factor]))
            else:
                name = self.add("Shape", self.graph.arguments[0], start=0, end=1)
            self._batch[factor] = name
        return self._batch[factor]

    def reshape(self, x: str | Value, shape: Sequence[Size]) -> str:
        """x in another shape; the one size of the batch in it follows from the others."""
        free = [isinstance(n, Batch) for n in shape]
        if sum(free) == 1 and 0 not in shape:
            shape = [-1 if isinstance(n, Batch) else n for n in shape]
        return self.add("Reshape", x, self.integers(shape), allowzero=1 if 0 in shape else None)

    def expand(self, x: str | Value, shape: Sequence[Size], old: Sequence[Size] = ()) -> str:
        """x repeated along axes of size 1; sizes that stay are asked for as 1."""
        old = (*(1,) * (len(shape) - len(old)), *old)
        wanted = [1 if n == m else n for n, m in zip(shape, old, strict=True)]
        return self.add("Expand", x, self.integers(wanted))

    def cast(self, x: str | Value, dtype: DType) -> str:
        """x in another number type."""
        return self.add("Cast", x, to=CODES[dtype.name])

    def used(self, results: Sequence[str]) -> list[Message]:
        """The nodes that the results follow from, in order; the others are dropped."""
        needed, kept = set(results), list[Message]()
        for node in reversed(self.nodes):
            if needed.intersection(node["outputs"]):
                needed.update(node["inputs"])
                kept.append(node)
        self.initializers = {n: t for n, t in self.initializers.items() if n in needed}
        return kept[::-1]


def refuse(call: Call, problem: str, rule: str) -> NoReturn:
    """Raise the error of an operation that ONNX does not have."""
    where = f" at {call.node.where}" if call.node.where else ""
    raise CompileError(
        f"export.onnx: {problem}", got=f"{call.node.primitive.name}{where}", rule=rule,
        fix="another operation on that line, or export.native, which has all of them",
    )  # fmt: skip


def merged(first: Any, second: Any, batches: tuple[int, int]) -> Any:
    """What two recordings with other batches say, with the batch's size as a name.

    Raises:
        ValueError: it does not follow the batch in this way.

    >>> merged((2, 8, 6), (3, 8, 9), (2, 3))
    (Batch(factor=1), 8, Batch(factor=3))
    """
    if isinstance(first, tuple) and isinstance(second, tuple) and len(first) == len(second):
        return tuple(merged(a, b, batches) for a, b in zip(first, second, strict=True))
    if first is second or repr(first) == repr(second):
        return first
    a, b = batches
    if type(first) is int and type(second) is int and 0 < first and first % a == 0:
        if first // a * b == second:
            return Batch(first // a)
    raise ValueError(f"{first!r} and {second!r}")


def pairs(call: Call) -> Iterator[tuple[Value, Value]]:
    """The two operands of a call, in both orders."""
    a, b = call.inputs
    yield a, b
    yield b, a
