"""Running a module without numbers: shapes, arithmetic operations and kept memory are counted.

Knows primitives' shape rules and costs, and the tape; never what a module computes. A model of any
size is counted in milliseconds, and nothing of it changes: neither statistics nor random state.
"""

from __future__ import annotations

from typing import Any, NoReturn

from tinytorch.base.errors import SettingError
from tinytorch.tensor.autograd import Node, Port
from tinytorch.tensor.base import from_buffer, from_value
from tinytorch.tensor.interpreter import Interpreter, user_line


class ShapesOnly(Interpreter):
    """The interpreter that counts. `owner` is whoever is charged with the next operation."""

    def __init__(self):
        self.owner: Any = None
        self.flops: dict[Any, int] = {}
        self._made_by: dict[int, Any] = {}  # id of a value -> owner
        self._memory: dict[int, Any] = {}  # id of a view -> the value whose memory it is
        self._alive: list[Any] = []  # values keep their ids
        self._met: list[Any] = []

    def apply(self, primitive, operands: tuple, params: dict[str, Any]):
        """The shapes of the outputs, and the operations charged to the owner."""
        ins = [t.spec for t in operands]
        answer = primitive.infer(*ins, **params)
        outs = answer if isinstance(answer, tuple) else (answer,)
        cost = int(primitive.flops(ins, outs, **params))
        self.flops[self.owner] = self.flops.get(self.owner, 0) + cost
        values = [self.value(spec) for spec in outs]
        if primitive.view and operands:
            source = operands[0].handle()
            self._memory[id(values[0])] = self._memory.get(id(source), source)
        tensors = [from_value(v) for v in values]
        return tuple(tensors) if isinstance(answer, tuple) else tensors[0]

    def value(self, spec: Any) -> Any:
        """A value of this shape and number type, different from all others."""
        new = type(spec)(tuple(spec.shape), spec.dtype)
        self._alive.append(new)
        self._made_by[id(new)] = self.owner
        return new

    def input(self, tensor) -> Any:
        """A Tensor like this one, without numbers, which nobody is charged with."""
        value = self.value(tensor.spec)
        del self._made_by[id(value)]
        return from_value(value)

    def constant(self, buffer) -> Any:
        """The numbers themselves: nothing looks at them."""
        return from_buffer(buffer)

    def meet(self, tensor) -> None:
        """Give a Tensor from outside a value; it is taken back in `restore`."""
        if tensor._value is None:
            tensor._value = type(tensor.spec)(tuple(tensor.shape), tensor.dtype)
            self._alive.append(tensor._value)
            self._met.append(tensor)

    def assign(self, tensor, new) -> None:
        """Nothing is written."""
        self.meet(tensor)

    def restore(self) -> None:
        """Every Tensor from outside has its numbers again."""
        for tensor in self._met:
            tensor._value = None

    def refuse(self, what: str) -> NoReturn:
        """Raise: there are no numbers to look at."""
        raise SettingError(
            "summary: the module looks at values",
            got=f"{what} at {user_line()}",
            rule="a summary runs the module without numbers, as a compiled function does",
            fix="use tt.where(condition, a, b) in forward",
        )

    def kept(self, outputs: list) -> dict[Any, int]:
        """Bytes that the tape behind these outputs keeps for backward, by owner.

        Only what operations of this run made: weights and inputs are there anyway. A view counts as
        the memory it shows.
        """
        todo, seen, counted = [t._node for t in outputs], set(), set()
        total: dict[Any, int] = {}
        while todo:
            place = todo.pop()
            node = place.node if isinstance(place, Port) else place
            if not isinstance(node, Node) or id(node) in seen:
                continue
            seen.add(id(node))
            todo += [p for p in node.parents if p is not None]
            outs = node.output if isinstance(node.output, tuple) else (node.output,)
            for handle in (*node.inputs, *outs):
                memory = self._memory.get(id(handle), handle)
                if id(memory) in counted or id(memory) not in self._made_by:
                    continue
                counted.add(id(memory))
                owner = self._made_by[id(memory)]
                total[owner] = total.get(owner, 0) + memory.nbytes
        return total
