"""What a module does, part by part: the summary of its sizes and costs, the signals of its numbers.

The summary is output shapes, parameters, operations and memory. The module runs without numbers,
under an interpreter that knows primitives' shape rules and costs, and the tape: a model of any size
is counted in milliseconds.

Signals are how large numbers and gradients are from layer to layer: why first values and norms
matter. A deviation that shrinks or grows by the same factor at each layer is the sign of wrong
first values (He et al. 2015, section 2.2); norms and shortcuts hold it near 1.

Knows what goes into a module and comes out, never what it computes. Nothing of it changes, neither
statistics nor random state.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from tinytorch.base.amounts import count_text, size_text
from tinytorch.base.errors import SettingError
from tinytorch.tensor.autograd import Port, TapeNode
from tinytorch.tensor.creation import zeros, zeros_like
from tinytorch.tensor.interpreter import Interpreter, enable_grad, interpreting, user_line
from tinytorch.tensor.memory import from_buffer, from_value
from tinytorch.tensor.random import default_generator
from tinytorch.tensor.tensor import Tensor

# --- watching: what is called, and what it gives ---


class Watcher:
    """Stands in for a module's hooks for a while: `watch` around them is what it sees.

    Args:
        own: the hooks the module has, or None.
    """

    def __init__(self, own: Any):
        self.own = own
        # as Hooks has them: what the module registers meanwhile goes with the watcher
        self.before: list[list[Callable]] = []
        self.after: list[list[Callable]] = []

    def around(self, module: Any, inputs: tuple, named: dict) -> Any:
        """`watch`, given a way to call the module as it is."""
        if self.own is None:
            return self.watch(module, lambda: module.forward(*inputs, **named))
        own = self.own
        return self.watch(module, lambda: own.around(module, inputs, named))

    def watch(self, module: Any, call: Callable[[], Any]) -> Any:
        """What the module gives; subclasses look at it."""
        raise NotImplementedError


@contextmanager
def watching(module: Any, make: Callable[[Any], Watcher]) -> Iterator[dict[int, Any]]:
    """Within the block every module of a tree has a Watcher; gives them by id of their module.

    Past `__setattr__`: the hooks are back before anybody can notice, so nothing is recompiled.
    """
    parts = list(module.modules())
    watchers = {id(part): make(part._hooks) for part in parts}
    try:
        for part in parts:
            object.__setattr__(part, "_hooks", watchers[id(part)])
        yield watchers
    finally:
        for part in parts:
            object.__setattr__(part, "_hooks", watchers[id(part)].own)


def tensors_in(tree: Any) -> list[Tensor]:
    """The Tensors that a module gave: one, or those in tuples, lists and dicts."""
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    return [t for x in tree for t in tensors_in(x)] if isinstance(tree, (list, tuple)) else []


# --- the summary ---


@dataclass(frozen=True)
class SummaryRow:
    """One module of the tree, without what its parts do: the columns add up.

    Args:
        name: dotted path; "" is the whole.
        kind: its class.
        output: shapes of what it gave at its last call; empty if it was not called.
        calls: how often it was called.
        parameters: numbers in weights of its own that no row above has.
        trainable: those of them that ask for a gradient.
        flops: arithmetic operations of its own, a multiplication and an addition being two.
        activation_bytes: memory of its own results that backward needs.
    """

    name: str
    kind: str
    output: tuple[tuple[int, ...], ...]
    calls: int
    parameters: int
    trainable: int
    flops: int
    activation_bytes: int


@dataclass(frozen=True)
class Summary:
    """A module's rows and their sums; `print` shows a table.

    Args:
        rows: one for each module of the tree, in its order.
        parameter_bytes: memory of all weights.
    """

    rows: tuple[SummaryRow, ...]
    parameter_bytes: int

    @property
    def parameters(self) -> int:
        """Numbers in all weights."""
        return sum(row.parameters for row in self.rows)

    @property
    def trainable(self) -> int:
        """Those that ask for a gradient."""
        return sum(row.trainable for row in self.rows)

    @property
    def flops(self) -> int:
        """Arithmetic operations of one forward pass."""
        return sum(row.flops for row in self.rows)

    @property
    def activation_bytes(self) -> int:
        """Memory that one forward pass keeps for backward, in eager mode; compiled it is less."""
        return sum(row.activation_bytes for row in self.rows)

    def __str__(self) -> str:
        head = ("layer", "output", "parameters", "FLOPs", "activations")
        lines = [head, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        text = [_joined(line, widths) for line in lines]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        frozen = self.parameters - self.trainable
        return "\n".join(
            [text[0], rule, *text[1:], rule,
             f"parameters   {self.parameters:,}" + (f" ({frozen:,} frozen)" if frozen else "")
             + f", {size_text(self.parameter_bytes)}",
             f"forward      {count_text(self.flops, 'FLOP')}",
             f"activations  {size_text(self.activation_bytes)} kept for backward"]
        )  # fmt: skip

    __repr__ = __str__


def _cells(row: SummaryRow) -> tuple[str, ...]:
    depth = row.name.count(".") + 1 if row.name else 0
    last = row.name.rpartition(".")[2]
    name = "  " * depth + (f"{last}: {row.kind}" if last else row.kind)
    shapes = " ".join(str(shape).replace(",)", ")") for shape in row.output)
    times = f" x{row.calls}" if row.calls > 1 else ""
    return (
        name,
        shapes + times or "-",
        f"{row.parameters:,}" if row.parameters else "",
        count_text(row.flops) if row.flops else "",
        size_text(row.activation_bytes) if row.activation_bytes else "",
    )


def _joined(line: tuple[str, ...], widths: list[int]) -> str:
    left = (cell.ljust(width) for cell, width in zip(line[:2], widths[:2], strict=True))
    right = (cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True))
    return "  ".join((*left, *right)).rstrip()


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
            if not isinstance(node, TapeNode) or id(node) in seen:
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


class _Charged(Watcher):
    """Charges a module with every operation outside its parts."""

    def __init__(self, counter: ShapesOnly, own: Any):
        super().__init__(own)
        self.counter, self.calls, self.output = counter, 0, ()

    def watch(self, module: Any, call: Callable[[], Any]) -> Any:
        """The output, its shapes noted."""
        above, self.counter.owner = self.counter.owner, id(module)
        try:
            output = call()
        finally:
            self.counter.owner = above
        self.calls += 1
        self.output = tuple(tuple(t.shape) for t in tensors_in(output))
        return output


def summarise(module: Any, inputs: tuple, named: dict) -> Summary:
    """Run `module` without numbers and say what it consists of; see `Module.summary`."""
    counter = ShapesOnly()
    given = (
        zeros(*x) if _is_shape(x) else Tensor(x) if isinstance(x, np.ndarray) else x for x in inputs
    )
    stand_ins = tuple(counter.input(x) if isinstance(x, Tensor) else x for x in given)
    try:
        with (
            watching(module, lambda own: _Charged(counter, own)) as watched,
            interpreting(counter),
            enable_grad(),
        ):
            output = module(*stand_ins, **named)
            kept = counter.kept(tensors_in(output))
    finally:
        counter.restore()
    return _gathered(module, counter, watched, kept)


def _is_shape(x: Any) -> bool:
    return isinstance(x, tuple) and all(isinstance(n, int) for n in x)


def _gathered(module: Any, counter: ShapesOnly, watched: dict, kept: dict) -> Summary:
    rows, seen, nbytes = [], set(), 0
    for name, part in module.named_modules():
        own = [p for _, p in part._own_parameters() if id(p) not in seen]
        seen.update(id(p) for p in own)
        nbytes += sum(p.spec.nbytes for p in own)
        note = watched[id(part)]
        rows.append(
            SummaryRow(
                name, type(part).__name__, note.output, note.calls,
                sum(p.size for p in own), sum(p.size for p in own if p.requires_grad),
                counter.flops.get(id(part), 0), kept.get(id(part), 0),
            )
        )  # fmt: skip
    return Summary(tuple(rows), nbytes)


# --- signals ---


@dataclass(frozen=True)
class SignalRow:
    """What one module gave.

    Args:
        name: dotted path; "" is the whole.
        kind: its class.
        mean: of the numbers it gave.
        deviation: of the same.
        zeros: share of them that is exactly 0.
        gradient: root mean square of the loss's gradient with respect to them; None without a loss.
    """

    name: str
    kind: str
    mean: float
    deviation: float
    zeros: float
    gradient: float | None


@dataclass(frozen=True)
class Signal:
    """Rows in the order in which the modules finished; `print` shows a table."""

    rows: tuple[SignalRow, ...]

    def __str__(self) -> str:
        head = f"{'layer':32s} {'mean':>10s} {'deviation':>10s} {'zeros':>6s} {'gradient':>10s}"
        lines = [
            f"{(row.name or 'all') + ': ' + row.kind:32s} {row.mean:10.3g} {row.deviation:10.3g} "
            f"{row.zeros:6.0%}" + ("" if row.gradient is None else f" {row.gradient:10.3g}")
            for row in self.rows
        ]
        return "\n".join([head, *lines])

    __repr__ = __str__


class _Probe(Watcher):
    """Keeps what a module gave, and adds zeros to it whose gradient is that of the output."""

    def __init__(self, own: Any, order: list[int]):
        super().__init__(own)
        self.order = order
        self.given: np.ndarray | None = None
        self.zeros: Tensor | None = None

    def watch(self, module: Any, call: Callable[[], Any]) -> Any:
        """The output, of the last call if there are several."""
        output = call()
        found = [t for t in tensors_in(output) if t.dtype.is_float]
        if not found:
            return output
        if id(module) not in self.order:
            self.order.append(id(module))
        self.given = found[0].detach().numpy().astype(np.float64)
        if not isinstance(output, Tensor):
            return output
        zeros = zeros_like(output.detach())
        zeros.requires_grad = True
        self.zeros = zeros
        return output + zeros


def signal(module: Any, *inputs: Any, loss: Callable[[Any], Tensor] | None = None) -> Signal:
    """Run a copy of a module once and say how large numbers and gradients are at each part.

    Args:
        module: any; it stays as it is, and so does the random state.
        inputs: as its `forward` takes them.
        loss: output -> a single number; None: numbers only, no gradients.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch import nn
        >>> _ = tt.manual_seed(0)
        >>> net = nn.initialise(nn.MLP([256] * 20), "he_normal")
        >>> rows = signal(net, tt.randn(64, 256)).rows
        >>> all(0.3 < row.deviation < 4.0 for row in rows)
        True
    """
    copied, order = copy.deepcopy(module), []
    state = default_generator.state_dict()
    try:
        with enable_grad(), watching(copied, lambda own: _Probe(own, order)) as probes:
            output = copied(*inputs)
            if loss is not None:
                loss(output).backward()
    finally:
        default_generator.load_state_dict(state)
    names = {id(part): (name, type(part).__name__) for name, part in copied.named_modules()}
    return Signal(tuple(_row(*names[at], probes[at], loss is not None) for at in order))


def _row(name: str, kind: str, probe: _Probe, with_gradient: bool) -> SignalRow:
    given = np.zeros(1) if probe.given is None or not probe.given.size else probe.given
    gradient = None
    if with_gradient and probe.zeros is not None and probe.zeros.grad is not None:
        g = probe.zeros.grad.numpy().astype(np.float64)
        gradient = float(np.sqrt((g * g).mean())) if g.size else 0.0
    return SignalRow(
        name, kind, float(given.mean()), float(given.std()), float((given == 0).mean()), gradient
    )
