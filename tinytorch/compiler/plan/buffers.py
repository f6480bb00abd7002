"""Which memory each stored value has.

Knows stored values, layouts and Storages, never kernels. A result lies in fresh memory, a new state
where the old one lay if that can be, a part of a concatenation inside the whole; everything else in
a temporary of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinytorch.compiler.graph.graph import Node, Value
from tinytorch.compiler.plan import kinds
from tinytorch.compiler.plan.access import reshape_strides
from tinytorch.compiler.plan.fuse import Fusion, Group
from tinytorch.compiler.plan.layout import dense_strides, plain
from tinytorch.compiler.plan.materialize import Stored
from tinytorch.compiler.plan.tasks import Storage


@dataclass(frozen=True)
class Home:
    """The memory of a stored value."""

    storage: Storage
    strides: tuple[int, ...]
    offset: int = 0


@dataclass(frozen=True, eq=False)
class Copy:
    """A value written densely to a Storage of its own."""

    value: Value
    to: Storage


class Homes:
    """The memory of a program.

    Args:
        fusion: the groups.
        stored: the values that need memory.
        copied: states that are not updated in place.

    `of` holds the Home of each stored value, `copies` what must be copied on the way, `last` the
    new states (value, Storage of the state, where it is kept meanwhile) copied when all is done,
    `direct` the (old, new) states each group updates in place, `placed` the (concatenation, number)
    of parts that are written where they belong.
    """

    def __init__(self, fusion: Fusion, stored: Stored, copied: set[Value]):
        self.graph, self.fusion, self.stored = fusion.graph, fusion, stored
        self.producer, self.orders = fusion.producer, fusion.orders
        self.of: dict[Value, Home] = {}
        self.storages: list[Storage] = []
        self.results: dict[Value, Storage] = {}
        self.copies: list[Copy] = []
        self.last: list[tuple[Value, Storage, Storage | None]] = []
        self.direct: dict[Group, list[tuple[Value, Value]]] = {}
        self.placed: set[tuple[Node, int]] = set()
        self._settle(copied)

    def holds(self, v: Value, storage: Storage) -> bool:
        """Whether the value's home is that Storage."""
        return v in self.of and self.of[v].storage is storage

    def storage(self, kind, nbytes: int, value: Value | None = None) -> Storage:
        """A new Storage of the program."""
        s = Storage(kind, nbytes, value)
        self.storages.append(s)
        return s

    def _settle(self, copied: set[Value]) -> None:
        """Give every stored value its home."""
        graph = self.graph
        for kind, values in (
            ("argument", graph.arguments),
            ("state", graph.states),
            ("constant", graph.constants),
        ):
            for v in values:
                self.of[v] = Home(
                    self.storage(kind, v.spec.nbytes, v), dense_strides(v.shape, plain(v))
                )
        self._settle_updates(copied)
        made = {v for g in self.fusion.groups for v in self.stored.made_by(g)}
        for v in graph.results:
            if v in self.results:
                continue
            self.results[v] = self.storage("result", v.spec.nbytes, v)
            if v in made and v not in self.of and self.orders[v] == plain(v):
                self.of[v] = Home(self.results[v], dense_strides(v.shape, plain(v)))
            else:
                self.copies.append(Copy(v, self.results[v]))
        self._settle_parts(made)
        place = {v: i for i, v in enumerate(v for n in graph.nodes for v in n.outputs)}
        for v in sorted(self.stored.values, key=lambda v: place.get(v, -1)):
            if v in self.of:
                continue
            s = self.storage("temporary", v.spec.nbytes, v)
            if v in made:
                self.of[v] = Home(s, dense_strides(v.shape, self.orders[v]))
            else:  # an array of one number, wanted in memory
                self.of[v] = Home(s, dense_strides(v.shape, plain(v)))
                self.copies.append(Copy(v, s))

    def _settle_parts(self, made: set[Value]) -> None:
        """Parts of a concatenation that nobody else reads are written where they belong at once."""
        for node in self.graph.nodes:
            out = node.outputs[0]
            if node.primitive.name != "concatenate" or out not in self.stored.values:
                continue
            if out not in self.of:
                s = self.storage("temporary", out.spec.nbytes, out)
                self.of[out] = Home(s, dense_strides(out.shape, self.orders[out]))
            home, axis, first = self.of[out], node.params["axis"] % len(out.shape), 0
            for i, part in enumerate(node.inputs):
                offset = home.offset + first * home.strides[axis]
                first += part.shape[axis]
                base = self._only_read_by(part, node)
                if base is None or base not in made or base in self.of:
                    continue
                if self.producer[base].primitive.name in ("random_bits", "scatter_add", "put_rows"):
                    continue  # their kernels write dense arrays, or rows of a matrix
                strides = self._strides_before(part, base, home.strides)
                if strides is not None:
                    self.of[base] = Home(home.storage, strides, offset)
                    self.placed.add((node, i))

    def _only_read_by(self, v: Value, node: Node) -> Value | None:
        """The stored value below a chain of movement that serves `node` alone."""
        users = self.fusion.users
        while True:
            if len(users.get(v, [])) != 1 or v in self.graph.outputs:
                return None
            if v in self.stored.values:
                return v
            made = self.producer.get(v)
            if made is None or made.primitive.name not in ("reshape", "permute"):
                return None
            v = made.inputs[0]

    def _strides_before(
        self, v: Value, base: Value, strides: tuple[int, ...]
    ) -> tuple[int, ...] | None:
        """The strides of `base` with which v, made from it by movement, has the given ones."""
        while v is not base:
            made = self.producer[v]
            below = made.inputs[0]
            if made.primitive.name == "permute":
                back = [0] * len(strides)
                for i, a in enumerate(made.params["axes"]):
                    back[a] = strides[i]
                strides = tuple(back)
            else:
                found = reshape_strides(v.shape, strides, below.shape)
                if found is None:
                    return None
                strides = found
            v = below
        return strides

    def _settle_updates(self, copied: set[Value]) -> None:
        states = set(self.graph.states)
        for state, new in self.graph.updates:
            home = self.of[state]
            if new is state:
                continue
            node = self.producer.get(new)
            group = self.fusion.of.get(node) if node is not None else None
            free = new in self.stored.values and new not in self.of and state not in copied
            if group is not None and free and self._in_place(group, state):
                self.of[new] = home
                self.direct.setdefault(group, []).append((state, new))
            elif self.fusion.base(new)[0] in states:  # it may itself be overwritten: keep it first
                kept = self.storage("temporary", new.spec.nbytes, None)
                self.copies.append(Copy(new, kept))
                self.last.append((new, home.storage, kept))
            else:
                self.last.append((new, home.storage, None))

    def _in_place(self, group: Group, state: Value) -> bool:
        """Whether the group reads the state only where it writes the new one."""
        if group.host is not None:
            if kinds.is_update(group.host):
                x, *others = group.host.inputs
                return x is state and all(self.fusion.base(v)[0] is not state for v in others)
            if not kinds.has_epilogue(group.host):
                return False
            if any(self.fusion.base(v)[0] is state for v in group.host.inputs):
                return False
        return True
