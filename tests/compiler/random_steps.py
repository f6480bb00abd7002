"""Random programs over the public functions, layers and optimizers, as Python source.

A program is a function `make()` that gives a step and its arguments: what is printed when one fails
can be pasted into a test. It is drawn line by line and every line is run at once, so that later
lines know shapes and sizes. `check` runs a drawn step eagerly and compiled, several times; each
time what it returns, the states it leaves and the gradients it leaves must lie within the bounds
(error_bounds.py) of the float64 evaluation of what it recorded, from the numbers it began with. So
eager and compiled steps are both held to the definition, and no error of an earlier step excuses a
later one.

Knows the public names, never what the compiler does with them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import prod
from typing import Any
from unittest.mock import patch

import numpy as np

import tinytorch as tt
from tests.compiler.bounded import Bounded, given
from tests.compiler.error_bounds import run_bounded
from tests.compiler.random_programs import Checked
from tests.compiler.random_values import Chooser, Refused, indices, numbers
from tinytorch import nn
from tinytorch.base.dtypes import float64
from tinytorch.base.errors import TinyTorchError
from tinytorch.compiler.record.recording import record
from tinytorch.compiler.record.signature import Slot
from tinytorch.tensor.tensor import Tensor

F = nn.functional
LENGTHS = (1, 2, 3, 4, 5, 8, 16, 17, 33)
HIGHEST = 1e4  # of a number in the program; float16 ends at 65504
DTYPES = ("float32",) * 6 + ("float64",) * 2 + ("float16", "bfloat16")


def tensor(seed: int, shape: tuple[int, ...], dtype: str = "float32", kind: str = "normal"):
    """A Tensor; the same arguments give the same numbers."""
    return Tensor(numbers(seed, shape, float64, kind)).astype(dtype)


def whole(seed: int, shape: tuple[int, ...], size: int, dtype: str = "int64") -> Tensor:
    """Whole numbers from 0 to size - 1."""
    return Tensor(indices(seed, shape, size) % size).astype(dtype)


NAMES = {"tt": tt, "nn": nn, "F": F, "tensor": tensor, "whole": whole}


class Step:
    """A drawn program.

    Args:
        source: of `make()`.
        times: how often to run the step.
        precision: of its products, "float32" or "bf16".
    """

    def __init__(self, source: str, times: int, precision: str = "float32"):
        self.source, self.times, self.precision = source, times, precision

    def make(self) -> tuple[Callable, tuple]:
        """A step and its arguments, with weights of their own."""
        names = dict(NAMES)
        exec(compile(self.source, "<drawn>", "exec"), names)
        return names["make"]()

    def __repr__(self) -> str:
        return f"\n# precision {self.precision}, {self.times} calls\n{self.source}"


class Author(Chooser):
    """Draws one program."""

    def __init__(self, seed: object = 0, replayed: Sequence[int] | None = None):
        super().__init__(seed, replayed)
        self.names: dict[str, Any] = dict(NAMES)
        self.setup: list[str] = []
        self.body: list[str] = []
        self.arguments: list[str] = []
        self.weights: list[str] = []  # Parameters
        self.pool: list[str] = []  # names of Tensors, in the order they were made
        self.dtype = self.choose(DTYPES)
        self.odd = self.rarely(8)
        narrow = self.dtype == "float32" and self.rarely(6)
        self.precision = "bf16" if narrow else "float32"
        self._made = 0
        self.tried = ""
        self.run("tt.manual_seed(0)", self.setup)

    def __repr__(self) -> str:
        """The lines so far, and the last one tried: shown when that one raises."""
        return "\n".join(["", *self.setup, *self.body, f"# then: {self.tried}"])

    # what there is

    def __getitem__(self, name: str) -> Tensor:
        return self.names[name]

    def shape_of(self, name: str) -> tuple[int, ...]:
        return tuple(self[name].shape)

    def pick(self, fits: Callable[[Tensor], bool] = lambda t: True) -> str:
        """The name of a Tensor; the newest first."""
        return self.choose([n for n in reversed(self.pool) if fits(self[n])])

    def real(self, least: int = 0, most: int = 9, size: int = 0) -> str:
        """A Tensor of floats of so many axes."""

        def fits(t: Tensor) -> bool:
            return t.dtype.is_float and least <= len(t.shape) <= most and prod(t.shape) >= size

        return self.pick(fits)

    def axis(self, name: str) -> int:
        rank = len(self.shape_of(name))
        d = self.number(0, rank - 1)
        return rank - 1 - d if self.flag() else d - rank

    def fresh(self, letter: str) -> str:
        self._made += 1
        return f"{letter}{self._made}"

    # writing lines

    def run(self, line: str, lines: list[str]) -> None:
        """Write a line, unless it is refused in words."""
        self.tried = line
        try:
            with tt.precision(self.precision):
                exec(compile(line, "<line>", "exec"), self.names)
        except TinyTorchError as error:
            raise Refused from error
        lines.append(line)

    def line(self, expression: str) -> str:
        """A new Tensor."""
        name = self.fresh("t")
        self.run(f"{name} = {expression}", self.body)
        self._keep(name)
        return name

    def _keep(self, name: str) -> None:
        value = self[name]
        if not isinstance(value, Tensor):
            raise TypeError(f"{self.body[-1]} gives no Tensor")
        if not self._sound(value):
            self.body.pop()
            raise Refused
        self.pool.append(name)

    def _sound(self, value: Tensor) -> bool:
        if prod(value.shape) > 20_000:
            return False
        array = _held(value).value
        if not value.dtype.is_float or self.odd:
            return True
        return bool(np.isfinite(array).all()) and np.abs(array).max(initial=0) < HIGHEST

    def given(self, sizes: Sequence[int], kind: str | None = None, dtype: str | None = None) -> str:
        """A new argument, or a Tensor that the step closes over; in all orders in memory."""
        shape: tuple[int, ...] = tuple(sizes)
        name = self.fresh("x")
        kind = kind or ("odd" if self.odd else self.choose(["normal", "normal", "whole"]))
        seed, dtype = self._made, dtype or self.dtype
        how = self.number(0, 7) if shape and 0 not in shape else 0
        made = f"tensor({seed}, {{}}, {dtype!r}, {kind!r})"
        if how == 7 and len(shape) > 1:
            order = self.order(len(shape))
            turned = tuple(shape[i] for i in order)
            back = tuple(order.index(i) for i in range(len(shape)))
            text = made.format(turned) + f".permute{back}"
        elif how == 6:
            text = made.format((2 * shape[0], *shape[1:])) + "[::2]"
        elif how == 5:
            text = made.format((*shape[:-1], shape[-1] + 3)) + "[..., 1:-2]"
        elif how == 4:
            text = made.format((1, *shape[1:])) + f".expand({', '.join(map(str, shape))})"
        else:
            text = made.format(shape)
        self.run(f"{name} = {text}", self.setup)
        if not self.rarely(4):
            self.arguments.append(name)
        self.pool.append(name)
        return name

    def weight(self, shape: Sequence[int], kind: str = "normal") -> str:
        """A Parameter."""
        name = self.fresh("p")
        text = f"nn.Parameter(tensor({self._made}, {tuple(shape)}, {self.dtype!r}, {kind!r}))"
        self.run(f"{name} = {text}", self.setup)
        self.weights.append(name)
        self.pool.append(name)
        return name

    def layer(self, text: str) -> str:
        """A Module."""
        name = self.fresh("l")
        self.run(f"{name} = nn.{text}.to({self.dtype!r})", self.setup)
        self.weights += [f"{name}.{n}" for n, _ in self.names[name].named_parameters()]
        return name

    def of_weight(self, shape: Sequence[int]) -> str:
        """A weight, most of the time; else another argument."""
        return self.given(shape) if self.rarely(4) else self.weight(shape)

    def finish(self) -> Step:
        """The program: what it returns, and how it is trained."""
        self._turn_round()
        live = _needed(self.body, self.results)
        setup = _needed(self.setup, [*live, *self.results, *self.tail])
        arguments = [n for n in self.arguments if any(s.startswith(f"{n} = ") for s in setup)]
        lines = ["def make():", *(f"    {s}" for s in setup)]
        lines += ["", f"    def step({', '.join(arguments)}):"]
        lines += [f"        {s}" for s in (*live, *self.tail)]
        lines += [f"        return ({', '.join(self.results)},)", ""]
        lines += [f"    return step, ({''.join(a + ', ' for a in arguments)})"]
        return Step("\n".join(lines), 3 if self.trains else 2, self.precision)

    def _turn_round(self) -> None:
        """Draw losses, gradients and the optimizer."""
        self.tail: list[str] = []
        self.trains = False
        made = [n for n in self.pool if n[0] in "ts"] or self.pool
        self.results = [made[-1]]
        for _ in range(self.number(0, 2)):
            self.results.append(self.choose(made[::-1]))
        if self.odd or not self.weights or self.rarely(6):
            return
        terms = []
        for _ in range(self.number(1, 2)):
            try:
                terms.append(_loss(self))
            except Refused:
                continue
        if not terms:
            return
        total = " + ".join(f"{t}.astype('float32')" for t in terms)
        try:
            loss = self.line(total)
            if not self[loss].requires_grad:
                return
            self[loss].backward()
        except Refused:
            return
        self.results.append(loss + ".detach()")
        reached = [w for w in dict.fromkeys(self.weights) if eval(w, self.names).grad is not None]
        if not reached:  # a staircase lies between
            return
        self.tail = [f"{loss}.backward()"]
        how = self.number(0, 5)
        if how <= 2:  # a training step
            self.trains = True
            optimizer = self.choose(OPTIMIZERS)
            text = optimizer.format("[" + ", ".join(reached) + "]")
            self.setup.append(f"optimizer = tt.optim.{text}")
            if self.rarely(4):
                self.tail.append(f"tt.optim.clip_grad_norm_([{', '.join(reached)}], 0.5)")
            self.tail += ["optimizer.step()", "optimizer.zero_grad()"]
        elif how <= 4:  # its gradients are returned
            for i, w in enumerate(reached):
                self.tail.append(f"g{i}, {w}.grad = {w}.grad, None")
                self.results.append(f"g{i}")
        # else they stay, and the next call adds to them


def _needed(lines: list[str], wanted: list[str]) -> list[str]:
    """The lines that a name in `wanted` depends on, and the lines that write into it."""

    def names(text: str) -> set[str]:
        return set(re.findall(r"\b[a-z]+\d*\b", text))

    keep, live = [], set().union(*map(names, wanted)) if wanted else set()
    for line in reversed(lines):
        target = re.match(r"[a-z]+\d*", line)
        if line.startswith("tt.") or ".assign_(" in line or (target and target.group() in live):
            keep.append(line)
            live |= names(line)
    return keep[::-1]


OPTIMIZERS = (
    "SGD({}, lr=0.1)",
    "SGD({}, lr=0.05, momentum=0.9)",
    "SGD({}, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01)",
    "Adam({}, lr=0.01)",
    "AdamW({}, lr=0.01)",
    "Lion({}, lr=0.01)",
    "RMSprop({}, lr=0.01, momentum=0.5)",
)


# Families of lines. Each takes the Author and writes one line or a few, or raises Refused.

ONE = (
    "tt.tanh({})", "tt.sigmoid({})", "tt.relu({})", "F.gelu({})", "F.silu({})", "F.elu({})",
    "F.selu({})", "F.mish({})", "F.softplus({})", "F.softsign({})", "F.hardsigmoid({})",
    "F.hardswish({})", "F.hardtanh({})", "F.leaky_relu({})", "F.logsigmoid({})", "F.relu6({})",
    "F.gelu({}, approximate='tanh')", "tt.abs({})", "tt.square({})", "tt.exp(tt.tanh({}))",
    "tt.sqrt(tt.abs({}) + 1)", "tt.log1p(tt.abs({}))", "tt.log(tt.abs({}) + 0.5)", "tt.sin({})",
    "tt.cos({})", "tt.erf({})", "tt.expm1(tt.tanh({}))", "tt.rsqrt(tt.square({}) + 1)",
    "(-{})", "({} * 0.5 + 1)", "({} ** 2)", "(1 / (tt.abs({}) + 1))", "tt.clip({}, -1, 1)",
    "tt.floor({})", "tt.sign({})", "tt.atan({})", "tt.sinh(tt.tanh({}))", "{}.clone()",
    "{}.detach()", "tt.host_call(abs, {0}, {0}.detach())", "tt.round({} * 4)",
    "(2.0 ** tt.tanh({}))", "tt.trunc({})",
)  # fmt: skip
TWO = (
    "({} + {})", "({} * {})", "({} - {})", "tt.maximum({}, {})", "tt.minimum({}, {})",
    "({} / (tt.abs({}) + 1))", "tt.atan2({}, {})", "tt.hypot({}, {})", "tt.logaddexp({}, {})",
    "((tt.abs({}) + 1) ** tt.tanh({}))", "tt.copysign({}, {})",
)  # fmt: skip
ALONG = (
    "F.softmax({}, dim={})", "F.log_softmax({}, dim={})", "F.softmin({}, dim={})",
    "tt.cumsum({}, {})", "tt.sort({}, dim={})[0]", "tt.sort({}, dim={}, descending=True)[0]",
    "{}.flip({})", "tt.roll({}, 1, dim={})", "F.normalize({}, dim={})",
    "tt.cumulative_prod(tt.tanh({}), axis={})", "tt.diff({}, axis={})",
)  # fmt: skip
REDUCED = (
    "{}.sum({}, {})", "{}.mean({}, {})", "{}.amax({}, {})", "{}.amin({}, {})", "{}.prod({}, {})",
    "{}.logsumexp({}, {})", "{}.var({}, {})", "{}.std({}, {})", "tt.norm({}, {}, {})",
)  # fmt: skip


def one(w: Author) -> None:
    w.line(w.choose(ONE).format(w.real()))


def two(w: Author) -> None:
    x = w.real()
    shape = w.shape_of(x)

    def fits(t: Tensor) -> bool:
        if t.dtype is not w[x].dtype:
            return False
        try:
            return prod(np.broadcast_shapes(shape, tuple(t.shape))) <= 6000
        except ValueError:
            return False

    y = w.pick(fits)
    if w.rarely(3):
        y = w.of_weight([n if w.flag() else 1 for n in shape][w.number(0, len(shape)) :])
    if w.flag():
        x, y = y, x
    if w.rarely(6):
        w.line(f"tt.where({x} > {y}, {x}, {y} * 0.5)")
        return
    w.line(w.choose(TWO).format(x, y))


def outer(w: Author) -> None:
    """A column and a row."""
    n, m = w.choose(LENGTHS), w.choose(LENGTHS)
    column, row = w.of_weight((n, 1)), w.of_weight((1, m))
    if w.rarely(3):
        row = f"({w.given((n, 3))} @ {w.of_weight((3, m))})"
    x = w.line(w.choose(["({} + {})", "({} - {})", "({} * {})"]).format(column, row))
    how = w.number(0, 3)
    if how == 1:
        x = w.line(w.choose(ALONG[:3]).format(x, w.axis(x)))
    if how:
        w.line(w.choose(REDUCED).format(x, w.axis(x), "False"))


def along(w: Author) -> None:
    x = w.real(1)
    w.line(w.choose(ALONG).format(x, w.axis(x)))


def reduced(w: Author) -> None:
    x = w.real(1)
    rank = len(w.shape_of(x))
    dims = str(w.axis(x)) if w.flag() else str(w.axes(rank))
    w.line(w.choose(REDUCED).format(x, dims, w.choose(["True", "False"])))


def softmax(w: Author) -> None:
    x = w.real(1)
    w.line(w.choose(ALONG[:3]).format(x, w.axis(x)))


def norm(w: Author) -> None:
    x = w.real(1, size=2)
    shape = w.shape_of(x)
    how = w.number(0, 4)
    last = shape[len(shape) - w.number(1, len(shape)) :] or shape[-1:]
    if how <= 1:
        name, extra = ("layer_norm", "") if how else ("rms_norm", "")
        if w.flag():
            extra = f", {w.of_weight(last)}"
        w.line(f"F.{name}({x}, {tuple(last)}{extra})")
        return
    if len(shape) < 2:
        raise Refused
    channels = shape[1]
    if how == 2:
        groups = w.choose([g for g in (1, 2, channels, 4) if g and channels % g == 0])
        layer = w.layer(f"GroupNorm({groups}, {channels})")
    elif how == 3 and len(shape) in (2, 3, 4) and w[x].dtype is not tt.float16:
        kind = "BatchNorm2d" if len(shape) == 4 else "BatchNorm1d"
        layer = w.layer(f"{kind}({channels})")
    else:
        layer = w.layer(f"LayerNorm({tuple(last)})")
    w.line(f"{layer}({x})")


MOVED = (
    "{}.reshape(-1)", "{}.flatten()", "{}.unsqueeze(0)", "{}.unsqueeze(-1)", "{}.squeeze()",
    "{}[None]", "{}.contiguous()", "tt.stack([{0}, {0} * 2])", "tt.tile({}, (2,))",
)  # fmt: skip
MOVED_ROWS = (
    "{}[::2]", "{}[1:]", "{}[::-1]", "{}[-1]", "{}[..., ::2]", "{}[..., 0]", "{}[0]",
    "tt.cat([{0}, {0}], 0)", "tt.cat([{0}, {0} * 2], -1)", "{}.chunk(2)[0]",
    "{}.repeat_interleave(2)", "tt.repeat({}, 2, axis=0)", "{}.flip(-1)",
)  # fmt: skip
MOVED_MATRICES = (
    "{}.transpose(0, 1)", "{}.transpose(-1, -2)", "{}.mT", "tt.tril({})", "tt.triu({}, 1)",
    "{}[:, ::2]", "{}[:, 1:]", "{}.flatten(1)", "{}.flatten(0, 1)", "F.pad({}, (1, 2))",
    "F.pad({}, (0, 1, 2, 0), value=1.0)", "tt.moveaxis({}, 0, -1)",
)  # fmt: skip


def moved(w: Author) -> None:
    x = w.pick(lambda t: prod(t.shape) <= 6000)
    shape = w.shape_of(x)
    options: list[str] = [*MOVED]
    if shape:
        options += MOVED_ROWS
    if len(shape) > 1:
        options += MOVED_MATRICES
        options.append("{}.permute" + str(w.order(len(shape))))
    text = w.choose(options)
    try:
        w.line(text.format(x))
    except (IndexError, ZeroDivisionError):  # of an axis of size 0
        raise Refused from None


def product(w: Author) -> None:
    x = w.real(1)
    shape = w.shape_of(x)
    n = w.choose(LENGTHS)
    how = w.number(0, 4)
    if how == 0 and w.dtype == _name(w, x):
        layer = w.layer(f"Linear({shape[-1]}, {n})")
        w.line(f"{layer}({x})")
    elif how == 1 and len(shape) >= 2:
        w.line(f"{x} @ {x}.mT")
    elif how == 2 and len(shape) == 2:
        w.line(f"tt.einsum('ij,kj->ik', {x}, {w.of_weight((n, shape[1]))})")
    elif how == 3 and len(shape) >= 2:
        w.line(f"{w.of_weight((n, shape[-2]))} @ {x}")
    else:
        w.line(f"{x} @ {w.of_weight((shape[-1], n))}")


def _name(w: Author, x: str) -> str:
    return w[x].dtype.name


def _images(w: Author, axes: int) -> str:
    """(N, C, H, W) or (N, C, T): of the pool or new."""
    found = [n for n in w.pool[::-1] if len(w[n].shape) == axes and w[n].dtype.name == w.dtype]
    if found and not w.rarely(3):
        return w.choose(found)
    sizes = [w.choose([5, 1, 7, 8, 12]) for _ in range(axes - 2)]
    return w.given((w.choose([2, 1, 3, 0]), w.choose([3, 1, 4, 8]), *sizes))


def convolved(w: Author) -> None:
    """A convolution, and most of the time what follows it in a network."""
    flat = w.rarely(3)
    x = _images(w, 3 if flat else 4)
    channels = w.shape_of(x)[1]
    if not channels:
        raise Refused
    groups = w.choose([g for g in (1, 1, 1, 2, channels) if channels % g == 0])
    out = groups * w.choose([1, 2, 4, 3])
    kernel, stride = w.choose([3, 1, 2]), w.choose([1, 1, 2, 3])
    padding, dilation = w.number(0, 2), w.choose([1, 1, 2])
    given_to = f"{channels}, {out}, {kernel}, {stride}, {padding}"
    how = w.number(0, 3)
    if flat:
        layer = w.layer(f"Conv1d({given_to}, dilation={dilation}, groups={groups})")
    elif how == 3:
        extra = w.number(0, stride - 1)
        given_to += f", {extra}, groups={groups}, dilation={dilation}"
        layer = w.layer(f"ConvTranspose2d({given_to})")
    else:
        bias = w.flag()
        given_to += f", dilation={dilation}, groups={groups}, bias={bias}"
        layer = w.layer(f"Conv2d({given_to})")
    y = w.line(f"{layer}({x})")
    how = w.number(0, 6)
    if how == 0:
        return
    if how == 1:
        groups = w.choose([g for g in (1, 2, out) if out % g == 0])
        y = w.line(f"{w.layer(f'GroupNorm({groups}, {out})')}({y})")
    elif how == 2:
        y = w.line(f"{w.layer(f'BatchNorm{1 if flat else 2}d({out})')}({y})")
    elif how == 3:
        y = w.line(f"{y}.flatten(2)")
    elif how == 4:
        y = w.line(w.choose(ALONG[:3]).format(y, w.axis(y)))
    elif how == 5:
        y = w.line(f"F.layer_norm({y}, {w.shape_of(y)[2:]})")
    if w.flag():
        w.line(w.choose(ONE[:17]).format(y))


def pooled(w: Author) -> None:
    if w.rarely(3):
        x = _images(w, 3)
        name = w.choose(["max_pool1d", "avg_pool1d"])
        w.line(f"F.{name}({x}, {w.choose([2, 1, 3])}, {w.choose([2, 1])}, {w.number(0, 1)})")
        return
    x = _images(w, 4)
    how = w.number(0, 2)
    if how == 2:
        w.line(f"F.adaptive_avg_pool2d({x}, {w.choose([1, 2, 3])})")
        return
    name = ("max_pool2d", "avg_pool2d")[how]
    kernel, stride = (w.choose([2, 3]), w.choose([2, 3])), (w.choose([2, 1]), w.choose([2, 1]))
    w.line(f"F.{name}({x}, {kernel}, {stride}, {w.number(0, 1)})")


def attended(w: Author) -> None:
    """Attention of a layer, or of heads that are drawn."""
    if w.rarely(3):
        heads = w.choose([1, 2])
        size = heads * w.choose([2, 4, 8])
        x = w.given((w.choose([1, 2]), w.choose([1, 4, 7]), size))
        text = f"({size}, {heads}, causal={w.flag()})"
        name = w.choose(["MultiHeadAttention", "TransformerBlock"])
        w.line(f"{w.layer(name + text)}({x})")
        return
    b, a, d = w.choose([1, 2]), w.choose([1, 2]), w.choose([1, 4, 8])
    t, s = w.choose([4, 1, 7, 17, 0]), w.choose([4, 1, 7, 17, 0])
    q, k, v = (w.of_weight((b, a, n, d)) for n in (t, s, s))
    how = w.number(0, 3)
    extra = ""
    if how == 1:
        extra = ", is_causal=True"
    elif how == 2:
        extra = f", attn_mask={w.weight((t, s))}"
    elif how == 3:
        mask = w.line(f"{w.given((t, s), 'normal')} > 0")
        extra = f", attn_mask={mask}"
    w.line(f"F.scaled_dot_product_attention({q}, {k}, {v}{extra})")


def indexed(w: Author) -> None:
    """Rows or elements at places that repeat; tables of embeddings; scatters."""
    how = w.number(0, 5)
    n = w.choose([3, 1, 8])
    if how == 0:
        layer = w.layer(f"Embedding({n}, {w.choose([4, 1, 5, 16])})")
        w.line(f"{layer}({_places(w, w.choose([(4,), (2, 5), (0,)]), n)})")
        return
    x = w.real(1, size=1)
    shape = w.shape_of(x)
    d = w.number(0, len(shape) - 1)
    if how == 1:
        w.line(f"{x}[{_places(w, w.choose([(4,), (2, 3), ()]), shape[0])}]")
    elif how == 2:
        w.line(f"tt.take({x}, {_places(w, (5,), shape[d])}, {d})")
    elif how == 3:
        there = (*shape[:d], w.choose([1, 3]), *shape[d + 1 :])
        w.line(f"tt.gather({x}, {d}, {_places(w, there, shape[d])})")
    elif how == 4:
        index = _places(w, shape, n)
        table = (*shape[:d], n, *shape[d + 1 :])
        w.line(f"tt.scatter_add({w.of_weight(table)}, {d}, {index}, {x})")
    else:
        w.line(f"{x}[{_places(w, (3,), shape[0])}, ...]")


def _places(w: Author, shape: Sequence[int], size: int) -> str:
    """Whole numbers below size: an argument."""
    if size < 1:
        raise Refused
    name = w.fresh("i")
    dtype = w.choose(["int64", "int32"])
    w.run(f"{name} = whole({w._made}, {tuple(shape)}, {size}, {dtype!r})", w.setup)
    w.arguments.append(name)
    w.pool.append(name)
    return name


IN_PLACE = (
    ".mul_(0.5)", ".zero_()", ".fill_(0.5)", ".add_(1.0)", ".clamp_(-1, 1)", ".copy_({})",
    ".flip(0).mul_(2.0)", "[..., None].sub_(0.25)",
)  # fmt: skip


def written(w: Author) -> None:
    """An assignment to part of a Tensor, of values that may depend on what is written to."""
    x = w.real(1, size=1)
    shape = w.shape_of(x)
    places = ["::2", "1:", "-1", "0", "..., 0", "..., ::2", "::-1"]
    if len(shape) > 1:
        places += [":, ::2", ":, 0", "1:, :-1", "0, :"]
    at = w.choose(places)
    if w.rarely(3):
        at = _places(w, (w.choose([1, 3]),), shape[0])
    elif w.rarely(5):
        at = f"{x} > 0.5"
    target = w.line(f"{x} * 1.0")
    right = w.choose(
        [
            "0.5", f"{target}[{at}] * 0.5", f"{target}.sum()", f"{target}[{at}].flip(0)",
            f"{target}.mean(0)", f"tt.tanh({target})[{at}]",
        ]
    )  # fmt: skip
    how = w.choose(["*=", "=", "+="])
    if ">" in at:  # a mask: what it reads has a size that depends on values
        how, right = "=", w.choose(["0.5", f"{target}.sum()"])
    text = f"{target}[{at}] {how} {right}"
    if w.rarely(3) and ">" not in at:  # through a view of it
        text = f"{target}[{at}]" + w.choose(IN_PLACE).format(right)
    w.pool.remove(target)
    try:
        w.run(text, w.body)
    except (IndexError, ValueError):  # shapes that do not fit, refused in NumPy's words
        raise Refused from None
    if not w._sound(w[target]):
        raise Refused
    w.pool.append(target)


def compared(w: Author) -> None:
    """What gives whole numbers or truth, and what selects by it."""
    x = w.real(1, size=1)
    how = w.number(0, 4)
    d = w.axis(x)
    if how == 0:
        texts = ["tt.argmax({}, {})", "tt.argsort({}, {})", "tt.argmin({}, {})",
                 "tt.max({}, {})[0]", "tt.min({}, {})[1]", "tt.sort({}, {})[1]"]  # fmt: skip
        w.line(w.choose(texts).format(x, d))
    elif how == 1:
        mask = w.line(f"{x} > {w.choose(['0', '0.5', f'{x}.mean()'])}")
        w.line(f"{x}.masked_fill({mask}, {w.choose(['0.0', '-1e9'])})")
    elif how == 2:
        w.line(f"tt.where({x} > 0, {x}, 0.0)")
    elif how == 3:
        k = w.number(1, w.shape_of(x)[d])
        w.line(f"tt.topk({x}, {k}, {d})[{w.number(0, 1)}]")
    else:
        texts = ["tt.isnan({})", "tt.isfinite({})", "({} == 0)", "({0} != {0})"]
        w.line(w.choose(texts).format(x))


def searched(w: Author) -> None:
    """Where numbers belong in a row that is sorted."""
    row = w.line(f"tt.sort({w.given((w.choose([5, 1, 8, 33]),))})[0]")
    needles = w.given((w.choose([3, 1, 8]),))
    w.line(f"tt.searchsorted({row}, {needles}, side={w.choose(['left', 'right'])!r})")


def cast(w: Author) -> None:
    x = w.pick()
    options = ["float32", "float64", "float16", "bfloat16"]
    if not w[x].dtype.is_float or w.rarely(4):
        options += ["int32", "int64", "uint8", "bool"]
    w.line(f"{x}.astype({w.choose([o for o in options if o != _name(w, x)])!r})")


def back(w: Author) -> None:
    """To the program's own number type again."""
    x = w.pick(lambda t: t.dtype.name != w.dtype)
    w.line(f"{x}.astype({w.dtype!r})")


def counted(w: Author) -> None:
    """Arithmetic of whole numbers and truth."""
    x = w.pick(lambda t: not t.dtype.is_float)
    if w[x].dtype is tt.bool:
        w.line(w.choose(["(~{})", "{}.sum()", "{}.any()", "{}.all()"]).format(x))
        return
    texts = (
        "({} + 1)", "({0} * {0})", "({} // 2)", "({} % 3)", "({} - 2)", "({} >> 1)", "({} & 5)",
        "{}.sum()", "tt.abs({})", "({} == 1)", "tt.cumsum({0}.flatten(), 0)",
    )  # fmt: skip
    w.line(w.choose(texts).format(x))


def dropped(w: Author) -> None:
    x = w.real(1)
    if w.flag():
        w.line(f"F.dropout({x}, 0.5)")
    else:
        w.line(f"{x} + tt.rand{w.shape_of(x)}.astype({_name(w, x)!r})")


def kept(w: Author) -> None:
    """A state that each call changes: all of it, or part of it in place."""
    x = w.real()
    shape = w.shape_of(x)
    state = w.fresh("s")
    w.run(f"{state} = tensor({w._made}, {shape}, {_name(w, x)!r})", w.setup)
    value = f"{state} * 0.5 + {x}.detach()"
    if not shape or 0 in shape or w.flag():
        w.run(f"{state}.assign_({value})", w.body)
    else:
        at = w.choose(["::2", "0", "-1", _places(w, (2,), shape[0])])
        w.run(f"{state}[{at}] = ({value})[{at}]", w.body)
    w.pool.append(state)


def recurrent(w: Author) -> None:
    name = w.choose(["GRU", "LSTM", "RNN"])
    inside, hidden = w.choose([3, 1, 4]), w.choose([2, 4, 5])
    x = w.given((w.choose([2, 1, 3]), w.choose([2, 1]), inside))
    w.line(f"{w.layer(f'{name}({inside}, {hidden})')}({x})[0]")


def looped(w: Author) -> None:
    """A loop along the first axis, with a value from outside; one in a loop, sometimes."""
    x = w.real(1)
    outside = w.real()
    if not w.shape_of(x)[0]:
        raise Refused
    new = w.choose(["(c * 0.5 + v).tanh()", "(c + v).sigmoid() * v", f"c * 0.5 + {outside}.mean()"])
    if len(w.shape_of(x)) > 1 and w.rarely(3):
        new = f"tt.scan(lambda d, u: ((d + u) * 0.5, None), v[0], v)[0] + {new}"
    y = w.choose(["c * v", "(c - v).sum()", "v.exp().tanh()", "c", "v"])
    end = w.choose(["", ", reverse=True"])
    part = w.choose(["[1]", "[0]"])
    w.line(f"tt.scan(lambda c, v: ({new}, {y}), {x}[-1], {x}{end}){part}")


def branched(w: Author) -> None:
    """One of two results of one shape and type; a loop or a branch in one of them, sometimes."""
    x, outside = w.real(), w.real()
    cases = [
        "{x}.tanh() * 2", "{x} + {o}.mean().to({x}.dtype)", "{x}", "({x} * 0.5).sigmoid()",
        "{x} * tt.cond({x}.sum() > {o}.sum(), lambda: {x}.sum(), lambda: {x}.mean() * 3)",
    ]  # fmt: skip
    if w.shape_of(x) and w.shape_of(x)[0]:
        cases.append("tt.scan(lambda c, v: ((c + v).tanh(), c), {x}[0], {x})[1]")
    first, second = (w.choose(cases).format(x=x, o=outside) for _ in range(2))
    other = w.choose(["", f", {outside} * 2"])
    part = "[0]" if other else ""
    test = w.choose([f"{x}.mean() > 0.1", f"{outside}.sum() < {x}.sum() - 0.3"])
    w.line(f"tt.cond({test}, lambda: ({first}{other}), lambda: ({second}{other})){part}")


def new(w: Author) -> None:
    w.given(_shape(w))


def _shape(w: Author) -> tuple[int, ...]:
    shape = [w.choose(LENGTHS) for _ in range(w.number(1, 3))]
    while prod(shape) > 3000:
        shape.pop()
    if w.rarely(12):
        shape[w.number(0, len(shape) - 1)] = 0
    return tuple(shape)


FAMILIES = (
    one, two, outer, along, reduced, softmax, norm, moved, product, convolved, pooled, attended,
    indexed, written, compared, cast, back, counted, dropped, recurrent, new, one, two, moved,
    reduced, convolved, norm, written, back, kept, searched, looped, branched,
)  # fmt: skip


def _loss(w: Author) -> str:
    """A 0-d Tensor made of one of the program's."""
    x = w.choose([n for n in reversed(w.pool) if w[n].requires_grad and w[n].dtype.is_float])
    shape = w.shape_of(x)
    how = w.number(0, 7)
    if how >= 4 and shape and 0 not in shape:
        target = w.given(shape, "normal", _name(w, x))
        if len(shape) >= 2 and how <= 6:
            classes = (shape[0], *shape[2:])
            labels = _places(w, classes, shape[1])
            extra = w.choose(["", "", f", ignore_index={w.number(0, shape[1] - 1)}",
                              ", reduction='sum'"])  # fmt: skip
            if how == 4:
                return w.line(f"F.nll_loss(F.log_softmax({x}, 1), {labels}{extra})")
            return w.line(f"F.cross_entropy({x}, {labels}{extra})")
        names = ["mse_loss({}, {})", "l1_loss({}, {})", "huber_loss({}, {})",
                 "smooth_l1_loss({}, {})", "kl_div(F.log_softmax({}, -1), F.softmax({}, -1))",
                 "binary_cross_entropy_with_logits({}, tt.sigmoid({}))"]  # fmt: skip
        return w.line("F." + w.choose(names).format(x, target))
    texts = ("({}).square().sum()", "({}).mean()", "({0} * {0}).mean()", "({}).sum()")
    return w.line(texts[how % 4].format(x))


def step(w: Author, longest: int = 9) -> Step:
    """A program of up to `longest` families."""
    w.given(_shape(w))
    if not w.odd:
        w.weight(_shape(w))
    for _ in range(w.number(1, longest)):
        family = w.choose(FAMILIES)
        try:
            family(w)
        except Refused:
            continue
    return w.finish()


# checking


def check(drawn: Step, target: str, threads: int) -> Checked:
    """Run it eagerly and compiled; every call against the definition of what it recorded."""
    seen = Checked()
    seen.operations.update(re.findall(r"(?:tt|F|nn|optim)\.([A-Za-z]\w+)\(", drawn.source))
    no_cache = patch("tinytorch.codegen.cache.open_cache", lambda: None)  # nobody asks twice
    with no_cache, tt.precision(drawn.precision):
        for how in ("eager", "compiled"):
            tt.manual_seed(0)
            plain, arguments = drawn.make()
            run = plain
            if how == "compiled":
                run = tt.compile(plain, target=target, threads=threads)
            for i in range(drawn.times):
                _one_call(f"{how}, call {i}", plain, run, arguments, seen)
                if seen.wrong:
                    return seen
    return seen


def _one_call(what: str, plain: Callable, run: Callable, arguments: tuple, seen: Checked) -> None:
    captured = record(plain, arguments, {})
    graph = captured.graph
    unique = list({id(a): a for a in arguments}.values())
    arrays = {v: _held(t) for v, t in zip(graph.arguments, unique, strict=True)}
    for v, source in zip(graph.states, captured.sources, strict=True):
        arrays[v] = _held(_tensor(source))
    held = run_bounded(graph, arrays)
    news = dict(graph.updates)
    outside = {id(t): v for v, t in zip(graph.states, captured.sources, strict=True)}

    def wanted(slot: Slot) -> Bounded:
        kind, i = slot.kind, slot.index
        if kind == "view":
            base, rows = captured.returned_views[i]
            if isinstance(base, Slot):
                return _view(wanted(base), rows)
            state = outside.get(id(base))
            return _view(_held(base) if state is None else held[news.get(state, state)], rows)
        if kind == "result":
            return held[graph.results[i]]
        if kind == "after":
            return held[graph.updates[i][1]]
        return held[captured.given[i] if kind == "before" else graph.arguments[i]]

    returned = run(*arguments)
    for i, (found, slot) in enumerate(zip(returned, captured.result, strict=True)):
        if isinstance(slot, Slot):
            seen.compare(f"{what}: result {i}", _stored(found), found.dtype, wanted(slot))
    sources = dict(zip(graph.states, captured.sources, strict=True))
    for i, (old, new) in enumerate(graph.updates):
        now = _stored(_tensor(sources[old]))
        seen.compare(f"{what}: state {i}", now, old.dtype, held[new])
    for i, (leaf, slot) in enumerate(captured.left):
        grad = None if isinstance(leaf, int) else leaf.grad
        if slot is not None and grad is not None:
            seen.compare(f"{what}: gradient {i}", _stored(grad), grad.dtype, wanted(slot))


def _tensor(source: Any) -> Tensor:
    """What holds a state: a Tensor, or the gradient of a leaf."""
    return source if isinstance(source, Tensor) else source.grad


def _view(base: Bounded, rows: Sequence[tuple[Any, dict]]) -> Bounded:
    """What is shown of an array; detaching it shows all."""
    value, error = base.value, base.error
    for row, params in rows:
        if hasattr(row, "numpy"):
            value = row.numpy(value, **params)
            error = None if error is None else row.numpy(error, **params)
    return Bounded(value, error)


def _stored(t: Tensor) -> np.ndarray:
    return t._buffer.array


def _held(t: Tensor) -> Bounded:
    return given(_stored(t), t.dtype)
