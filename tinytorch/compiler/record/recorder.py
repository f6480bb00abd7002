"""Recording: a function runs once, without numbers, and every operation becomes a node of a graph.

Knows Tensors and the graph, never the user's objects around them, passes or machine code. What the
function reaches from outside is lifted when it is first met: a Tensor's memory becomes a state, a
NumPy array a constant. When the recording is over, with an error or without, every Tensor is as it
was before.
"""

# What a Tensor consists of is read and set here, as in tensor/.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from weakref import ref

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tinytorch.base.dtypes import bfloat16, int64
from tinytorch.base.errors import CompileError
from tinytorch.base.lengths import Dim, at_bound, is_symbolic
from tinytorch.compiler.graph.graph import Graph, Node, Value
from tinytorch.compiler.record.signature import rebuild
from tinytorch.primitives.host import ORDER, HostFunction
from tinytorch.primitives.primitive import TABLE, OpClass, Primitive, Spec
from tinytorch.tensor.assignment import place_after, put_back, root_of, take
from tinytorch.tensor.autograd import Leaf, Port, TapeNode, ends_here
from tinytorch.tensor.dispatch import nothing_around
from tinytorch.tensor.interpreter import STATE, Interpreter, interpreting, no_grad, user_line
from tinytorch.tensor.memory import DETACH, Buffer, from_buffer, from_value, taken_from
from tinytorch.tensor.operands import dtype_of_array, refuse_tensor_params
from tinytorch.tensor.tensor import Tensor

Params = dict[str, Any]
Row = tuple[Any, Params]  # what takes a view, and how: a row of the table, or one of sharing's


@dataclass(eq=False)
class Origin:
    """What a view shows: its base, how it is taken, and the base's value when that was done."""

    base: Tensor
    row: Any
    params: Params
    recorded: bool  # by the tape
    seen: Value
    view: ref[Tensor]


class Recorder(Interpreter):
    """The interpreter that records. One object records one call.

    Args:
        direct: ids of arguments that no stand-in takes the place of: they are states.
        lift_numbers: let single floating-point numbers be states, not constants.
        shapes: by id of an argument, its shape with dims, and with lengths, in it (dynamic.py).

    Attributes:
        graph: what was recorded.
        arguments: the stand-ins of array arguments, and the Leafs of those that gather a gradient.
        numbers: id of a stand-in, or of a direct argument -> number of the argument.
        met: (Tensor from outside, the value that stands for what it held).
        views: (Tensor from outside, how it was taken): those that show a state's memory.
        nodes: (Tensor from outside, its place in the tape before).
        lifted: Buffer -> its state.
        sources: state -> the Tensor it was lifted from.
        leaves: Leafs that were met, and the gradients they had.
        origins: id of a view -> what it shows.
        standing: the Tensors that stand for values.
        locks: by id, of what other threads may draw from too.
        after: what the last call of a user's function gave, if there is one: the order of such.
    """

    def __init__(
        self, direct: frozenset[int] = frozenset(), lift_numbers: bool = False,
        shapes: Mapping[int, Any] | None = None,
    ) -> None:  # fmt: skip
        self._shapes = shapes or {}
        self.lift_numbers = lift_numbers
        self.graph = Graph()
        self.arguments: list[tuple[Tensor, Leaf | None]] = []
        self.numbers: dict[int, int] = {}
        self.met: list[tuple[Tensor, Value]] = []
        self.views: list[tuple[Tensor, Any]] = []
        self.nodes: list[tuple[Tensor, Any]] = []
        self.lifted: dict[Buffer, Value] = {}
        self.sources: dict[Value, Tensor] = {}
        self.leaves: dict[Leaf, Tensor | None] = {}
        self.origins: dict[int, Origin] = {}
        self.standing: list[ref[Tensor]] = []
        self.locks: dict[int, Any] = {}
        self.strides = EagerStrides()
        self.after: Value | None = None
        self._direct = direct
        self._makers: dict[Value, Node] = {}
        self._made: set[Value] = set()  # values of this recording
        self._replays = self._replay = 0  # so many so far, and the one that is recorded now
        self._constants: dict[tuple[Any, ...], Value] = {}
        self._given: dict[int, Tensor] = {}  # id of an argument -> its stand-in
        self._start = Leaf().sequence  # tape nodes older than this were made outside

    def take(self, tree: Any) -> Any:
        """The arguments with stand-ins for the arrays; one stand-in for an array given twice."""
        return rebuild(tree, self._stand_in)

    def _stand_in(self, given: Any) -> Tensor:
        if id(given) not in self._given:
            number = len(self.arguments)
            self._given[id(given)] = self._argument(given)
            if id(given) in self._direct:
                self._given[id(given)] = given
                self.numbers[id(given)] = number
        return self._given[id(given)]

    def _argument(self, given: Any) -> Tensor:
        said = self._shapes.get(id(given))
        shape = given.shape if said is None else said[1]
        if isinstance(given, Tensor):
            value = self.new_value(Spec(shape, given.dtype))
            if said is None:
                self.strides.lift(value, given._buffer.array)
        else:
            value = self.new_value(Spec(shape, dtype_of_array(np.asarray(given))))
        self.graph.arguments.append(value)
        leaf = Leaf() if isinstance(given, Tensor) and type(given._node) is Leaf else None
        tensor = from_value(value, leaf)
        self.numbers[id(tensor)] = len(self.arguments)
        self.arguments.append((tensor, leaf))
        if leaf is not None and given._node.grad is not None:
            leaf.grad = self._stand_in(given._node.grad)
            self.leaves[leaf] = leaf.grad
        return tensor

    def take_lengths(self, dims: Iterable[Dim]) -> dict[Dim, Value]:
        """An argument for each dim, 0-d int64: how long it is."""
        out: dict[Dim, Value] = {}
        for dim in dims:
            out[dim] = self.new_value(Spec((), int64))
            self.graph.arguments.append(out[dim])
            self.arguments.append((from_value(out[dim]), None))
        return out

    def new_value(self, spec: Spec) -> Value:
        """A value of this recording, which no node makes."""
        value = Value(spec)
        self._made.add(value)
        return value

    def forget_arguments(self) -> None:
        """Let go of what stands for the arguments: it is not to be found in the user's objects."""
        self.arguments, self._given, self.leaves = [], {}, {}

    def restore(self) -> None:
        """Give every Tensor from outside its memory and its gradient back."""
        for tensor, _ in (*self.met, *self.views):
            tensor._value = None
        for tensor, node in self.nodes:
            tensor._node = node
        for leaf, gradient in self.leaves.items():
            leaf.grad = gradient

    # the protocol of tensor/interpreter.py

    def apply(self, primitive: Primitive, operands: tuple[Tensor, ...], params: Params) -> Any:
        """Add one node; gives Tensors that stand for its outputs."""
        refuse_tensor_params(primitive, params)
        if self.lift_numbers and is_number(primitive, params):
            array = np.asarray(primitive.evaluate((), (), params))
            number = from_buffer(Buffer(array, params["dtype"]))
            self._lift(number)
            return from_value(number._value)
        inputs = tuple([self.value_of(t) for t in operands])
        if STATE.recording:
            for t in operands:
                if t._node is not None and t._buffer is not None and type(t._node) is not Leaf:
                    if not ends_here(t._node):
                        self._refuse_old_tape(t._node, t)
        outputs: tuple[Value, ...] = self.graph.add(
            primitive, inputs, params, user_line(), self._replay
        )
        self._made.update(outputs)
        node = self.graph.nodes[-1]
        self._makers.update(dict.fromkeys(outputs, node))
        if STATE.pulled is not None:
            node.gradient_of = self._operation_on_tape(STATE.pulled)
        out, *others = [from_value(v) for v in outputs]
        if others:
            return out, *others
        if primitive.view and self.strides.note_view(primitive, inputs[0], outputs[0], params):
            self.shows(out, operands[0], primitive, params)
        else:
            self.strides.note_result(primitive, inputs, outputs[0])
        return out

    def add_whole(
        self, row: Primitive, inputs: Sequence[Value], params: Params, own: Sequence[Tensor]
    ) -> Node:
        """Add a loop or branch, whose place in the tape is its own matter.

        Args:
            own: the Tensors of the first inputs; the others are what bodies read from outside.
        """
        values = self.graph.add(row, tuple(inputs), params, user_line(), self._replay)
        self._made.update(values)
        return self.graph.nodes[-1]

    def _operation_on_tape(self, node: TapeNode) -> str:
        """ "exp at train.py:12": what is on the tape, and the line that recorded it."""
        makers = [
            self._makers[v] for v in node.outputs if isinstance(v, Value) and v in self._makers
        ]
        name = getattr(node.primitive, "name", "a copy")
        return f"{name} at {makers[0].where}" if makers else str(name)

    def call_host(
        self, function: HostFunction, operands: Sequence[Tensor], results: tuple[Spec, ...]
    ) -> tuple[Tensor, ...]:
        """Add a call of a user's function, behind those before it."""
        after = self.order()
        # one for each call: programs number them in their order
        called = HostFunction(function.function, function.name)
        params: Params = {"function": called, "results": results}
        given = (after, *operands)
        made: Any = self.apply(TABLE["host_call"], given, params)
        outs: tuple[Tensor, ...] = made if results else (made,)
        self.after = self.value_of(outs[-1])
        return outs[:-1]

    def order(self) -> Tensor:
        """What the next call of a user's function waits for."""
        if self.after is None:
            first = {"shape": (), "value": False, "dtype": ORDER.dtype}
            self.after = self.value_of(self.apply(TABLE["full"], (), first))
        return from_value(self.after)

    def constant(self, buffer: Buffer) -> Tensor:
        """A constant; equal arrays become one."""
        array = np.array(buffer.array, order="C")
        key = (buffer.dtype, array.shape, sha256(array.tobytes()).digest())
        value = self._constants.get(key)
        if value is None:
            value = self._constants[key] = self.new_value(Spec(array.shape, buffer.dtype))
            self.graph.constants[value] = array
        return from_value(value)

    @contextmanager
    def replaying(self) -> Generator[None]:
        """What is recorded meanwhile is computed again, and never taken for what it repeats."""
        before, self._replays = self._replay, self._replays + 1
        self._replay = self._replays
        try:
            yield
        finally:
            self._replay = before

    def stands(self, tensor: Tensor) -> None:
        """Remember a Tensor without numbers: it may be found in the user's objects afterwards."""
        self.standing.append(ref(tensor))

    def meet(self, tensor: Tensor) -> None:
        """Lift a Tensor from outside, and remember the gradient it has; take a view again."""
        if tensor._value is None:
            self._lift(tensor)
        elif tensor._value not in self._made:
            raise _foreign(tensor)
        if id(tensor) in self.origins:
            self._take_again(tensor)
        node = tensor._node
        if type(node) is Leaf and node not in self.leaves:
            self.leaves[node] = node.grad

    def assign(self, tensor: Tensor, new: Tensor) -> None:
        """From now on `tensor` holds what `new` holds."""
        self.meet(tensor)
        value = self.value_of(new)
        taken = self.taken_from(tensor)
        if taken is None:
            tensor._value = self._lying_as(tensor._value, value)
        else:
            root, chain, _ = root_of(tensor)
            with no_grad() if taken[1] is DETACH else nullcontext():
                if taken[1] is DETACH:
                    root = taken[0]
                self.assign(root, put_back(root, chain, new))
            if self.value_of(taken[0]) is not self.origins[id(tensor)].seen:
                self.origins[id(tensor)].seen = taken[0]._value
            tensor._value = value
        if STATE.recording and (tensor._node is not None or new._node is not None):
            tensor._node = place_after(tensor, new)

    def _lying_as(self, before: Value, value: Value) -> Value:
        """`value` where `before` was: it is written there, and lies as that did."""
        lay = self.strides.of.get(before)
        if self.strides.of.get(value) == lay:
            return value
        fresh: Value = self.apply(TABLE["pad"], (from_value(value),), nothing_around(value))._value
        if lay is not None:
            self.strides.of[fresh] = lay
        return fresh

    def shows(self, view: Tensor, base: Tensor, row: Any, params: Params) -> None:
        """`view` is taken again when it is read after its base was assigned to."""
        key = id(view)
        alive = ref(view, lambda _: self.origins.pop(key, None))
        self.origins[key] = Origin(base, row, params, STATE.recording, base._value, alive)

    def is_contiguous(self, tensor: Tensor) -> bool:
        """Whether it would lie row by row, had the program run eagerly."""
        return self.value_of(tensor) not in self.strides.of

    def taken_from(self, tensor: Tensor) -> tuple[Tensor, Any, Params, bool] | None:
        """(base, row, params, whether the tape recorded it) of a view."""
        if tensor._value is None:
            self._lift(tensor)
        origin = self.origins.get(id(tensor))
        return None if origin is None else (origin.base, origin.row, origin.params, origin.recorded)

    def guarded_by(self, lock: Any) -> None:
        """The program takes this lock while it runs."""
        self.locks.setdefault(id(lock), lock)

    # lifting

    def value_of(self, tensor: Tensor) -> Value:
        """What stands for the numbers of a Tensor now."""
        value = tensor._value
        lifted = value is not None and value in self._made and tensor._buffer is None
        if not lifted or id(tensor) in self.origins:
            self.meet(tensor)
        return tensor._value

    def _lift(self, tensor: Tensor) -> None:
        buffer = tensor._buffer
        if buffer is None:
            raise _foreign(tensor)
        taken = taken_from(tensor)
        if taken is not None:
            self._lift_view(tensor, *taken)
            return
        value = self.lifted.get(buffer)
        if value is None:
            value = self.lifted[buffer] = self.new_value(Spec(buffer.shape, buffer.dtype))
            self.strides.lift(value, buffer.array)
            self.graph.states.append(value)
            self.sources[value] = tensor
        tensor._value = value
        self.met.append((tensor, value))
        self.nodes.append((tensor, tensor._node))

    def _lift_view(
        self, tensor: Tensor, base: Tensor, row: Any, params: Params, recorded: bool
    ) -> None:
        """A view from outside is taken from the state that its base is."""
        with interpreting(self), no_grad():
            tensor._value = self.value_of(take(base, row, params))
        self.shows(tensor, base, row, params)
        self.origins[id(tensor)].recorded = recorded
        self.views.append((tensor, tensor._buffer.taken))
        self.nodes.append((tensor, tensor._node))

    def _take_again(self, tensor: Tensor) -> None:
        origin = self.origins[id(tensor)]
        value = self.value_of(origin.base)
        if value is origin.seen:
            return
        origin.seen = value
        taped = origin.recorded and origin.row is not DETACH
        with interpreting(self), nullcontext() if taped else no_grad():
            again = take(origin.base, origin.row, origin.params)
        tensor._value = again._value
        if taped and type(tensor._node) is not Leaf:
            tensor._node = again._node

    def _refuse_old_tape(self, node: TapeNode | Port, tensor: Tensor) -> None:
        made = node.node if isinstance(node, Port) else node
        if made.sequence < self._start:
            raise CompileError(
                "a compiled function reaches a tensor that operations outside it were recorded for",
                got=f"a tensor {tensor.shape}, made by {made.primitive or 'a copy'}, {user_line()}",
                rule="the first backward() frees that record, and a second call has none",
                fix="use tensor.detach(), or compute it inside the compiled function",
            )


def is_number(primitive: Primitive, params: Params) -> bool:
    """Whether a row makes a single floating-point number."""
    single = primitive.op_class is OpClass.SOURCE and params.get("shape") == ()
    return single and params["dtype"].is_float and not is_symbolic(params["value"])


def _foreign(tensor: Tensor) -> CompileError:
    return CompileError(
        "a compiled function uses a tensor that has no numbers",
        got=f"a tensor {tensor.shape} at {user_line()}, made while another function was recorded",
        rule="inside a compiled function tensors stand for numbers to come; they end with the call",
        fix="return it from the function, or keep it in a Tensor made outside, with assign_()",
    )


class EagerStrides:
    """In which order the numbers of values would lie in memory, had the program run eagerly.

    `reshape` gives a view where the numbers lie side by side and a copy where they do not, and a
    write to the one reaches what it was taken from. The program itself lays its numbers out as it
    likes.

    Attributes:
        of: strides, in elements, of the values that would not lie row by row.
    """

    def __init__(self) -> None:
        self.of: dict[Value, tuple[int, ...]] = {}

    def lift(self, value: Value, array: np.ndarray) -> None:
        """A value from outside: it lies as its array does."""
        if not array.flags.c_contiguous:
            self.of[value] = tuple([s // array.itemsize for s in array.strides])

    def note_view(self, primitive: Primitive, x: Value, out: Value, params: Params) -> bool:
        """Note how a view of x lies; gives whether it is a view, eagerly."""
        strides = self.of.get(x)
        if strides is None and primitive.may_copy:
            return True
        array, params = _stand_in(x.shape, strides), {k: at_bound(p) for k, p in params.items()}
        if primitive.may_copy:
            try:
                view = np.reshape(array, params["shape"], copy=False)
            except ValueError:
                return False
        else:
            view = primitive.numpy(array, **params)
        if not view.flags.c_contiguous:
            self.of[out] = view.strides  # of bytes: an element has one
        return True

    def note_result(self, primitive: Primitive, inputs: tuple[Value, ...], out: Value) -> None:
        """A result lies as NumPy lays it out beside its operands (order K): asked of NumPy.

        Not what a definition lays out row by row; bfloat16, which is rounded, is one.
        """
        if not primitive.keeps_order or out.dtype is bfloat16:
            return
        if not out.shape or all(x not in self.of for x in inputs):
            return
        parts = [_stand_in(x.shape, self.of.get(x)) for x in inputs]
        if not primitive.elementwise:  # only the order of their axes is asked
            parts = [_stretched(part, at_bound(out.shape)) for part in parts]
        parts = [*{(p.shape, p.strides): p for p in parts}.values()][:30]  # NumPy takes 32 at once
        flags = [["readonly"]] * len(parts) + [["writeonly", "allocate"]]
        asked = np.nditer([*parts, None], ["zerosize_ok"], flags, order="K")
        made: Any = asked.operands[-1]  # its memory is never touched
        if made.shape == at_bound(out.shape) and not made.flags.c_contiguous:
            self.of[out] = made.strides


def _stretched(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The same strides for another shape; an axis of one element says nothing of the order."""
    pairs = zip(array.shape, array.strides, strict=True)
    return as_strided(array, shape, [0 if n == 1 else step for n, step in pairs])


def _stand_in(shape: tuple[int, ...], strides: tuple[int, ...] | None) -> np.ndarray:
    """An array of bytes that lies like this; its memory is never read."""
    shape = at_bound(shape)
    if strides is None:
        rows, step = [0] * len(shape), 1
        for axis in reversed(range(len(shape))):
            rows[axis] = step
            step *= max(1, shape[axis])
        strides = tuple(rows)
    return as_strided(np.empty(1, np.int8), shape, strides)
