"""The recorder to which loops and branches are one operation each.

Knows which is recorded by what (loops.py, branches.py); never how. A body is recorded again where
it assigns to a Tensor from outside: from then on that is carried through it.
"""

# What a Tensor consists of is read and set here, as in tensor/.
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from tinytorch.compiler.record.bodies import BodyRecorder, Carry, Tensors
from tinytorch.compiler.record.branches import BranchRecording, Case
from tinytorch.compiler.record.loops import LoopRecording, Trip
from tinytorch.compiler.record.recorder import Recorder
from tinytorch.tensor.assignment import assign_
from tinytorch.tensor.autograd import Leaf
from tinytorch.tensor.interpreter import no_grad


class _Control(Recorder):
    """A recorder of what has bodies."""

    def for_body(self) -> BodyRecorder:
        """What records a body of something in this recording."""
        return InnerRecorder(self)

    def scan(
        self, trip: Trip, carried: Tensors, xs: Tensors, length: int, reverse: bool
    ) -> tuple[Tensors, Tensors]:
        """Record one trip, and add the node of the loop."""

        def recorded(written: Tensors, order: Any) -> LoopRecording:
            return LoopRecording(self, trip, carried, xs, written, order, reverse, length)

        n = len(carried)
        before, after = self._added(recorded, n)
        return before, after

    def cond(self, predicate: Any, true: Case, false: Case) -> Sequence[Any]:
        """Record both cases, and add the node of the branch."""

        def recorded(written: Tensors, order: Any) -> BranchRecording:
            return BranchRecording(self, predicate, (true, false), written, order)

        return self._added(recorded, 0)[1]

    def _added(
        self, recorded: Callable[[Tensors, Any], LoopRecording | BranchRecording], carried: int
    ) -> tuple[list[Any], list[Any]]:
        """(the first results, those behind what is written) of a recording that is added.

        Args:
            recorded: makes it, told what is written and which of that is the order of calls.
            carried: how many results come before what is written.
        """
        written: list[Any] = []
        order: Any = None
        while True:
            try:
                outs = recorded(written, order).add()
                break
            except Carry as found:
                written.append(self.order() if found.tensor is None else found.tensor)
                order = written[-1] if found.tensor is None else order
        end = carried + len(written)
        for tensor, new in zip(written, outs[carried:end], strict=True):
            if tensor is order:
                self.after = self.value_of(new)
                continue
            # that was done without a record if it gathers a gradient, or it would have been refused
            with no_grad() if type(tensor._node) is Leaf else nullcontext():
                assign_(tensor, new)
        return outs[:carried], outs[end:]


class ControlRecorder(_Control):
    """The recorder of a program."""


class InnerRecorder(_Control, BodyRecorder):
    """The recorder of a body."""
