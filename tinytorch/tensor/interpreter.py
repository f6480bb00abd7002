"""Who decides how an operation on Tensors is carried out, for each thread, and in which mode.

Without an interpreter an operation is carried out at once, by NumPy. The compiler pushes one to
record a program instead. Modes say whether operations are recorded for gradients and how precise
contractions are. Knows Tensors as opaque objects; knows no compiler.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, ContextDecorator, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NoReturn

from tinytorch.base.errors import CompileError, SettingError
from tinytorch.base.locks import ForkSafeLock

if TYPE_CHECKING:
    from types import FrameType

    from tinytorch.primitives.primitive import Primitive

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class Interpreter:
    """The protocol of an interpreter: subclass it, then `with interpreting(it): ...`.

    Note [what a Tensor is during a capture]
        A Tensor made by an operation has `_value` (opaque here; it answers `.shape` and `.dtype`)
        and no `_buffer`; `tinytorch.tensor.memory.from_value` makes one. A Tensor made before the
        capture has a `_buffer`, and the interpreter lifts it when it first meets it. It must lift
        by the identity of the Buffer, not of the Tensor: `detach()` and the tape give it other
        Tensor objects over the same Buffer. A Tensor that was assigned during the capture has
        both; `_value` is then the current one, and the interpreter sets `_value` back to None
        when the capture ends. Nothing but the interpreter writes `_value` of an existing Tensor.

    Gradients need nothing from it: the tape holds `_value`s as it holds Buffers, `backward()` calls
    `apply` for each primitive of the backward pass, and leaves `tensor.grad` a Tensor with a
    `_value`.
    """

    def apply(self, primitive: Primitive, operands: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Carry out one operation.

        Args:
            primitive: the row of the table.
            operands: Tensors, of the dtypes the row asks for.
            params: its static parameters.

        Returns:
            A Tensor, or a tuple of Tensors for a row with several outputs.
        """
        raise NotImplementedError

    def constant(self, buffer: Any) -> Any:
        """A Tensor of the numbers in `buffer` (tinytorch.tensor.memory.Buffer), fixed from now on.

        Called for NumPy arrays and lists that meet Tensors, or become Tensors, during the capture.
        """
        raise NotImplementedError

    def stands(self, tensor: Any) -> None:
        """Called for each Tensor that is made without numbers, for a `_value`."""

    def meet(self, tensor: Any) -> None:
        """Called before `.grad` of a Tensor is read or set, or its handle or place in the tape.

        From then on the Tensor has a `_value`, and the interpreter remembers the gradient it had.
        """

    def replaying(self) -> AbstractContextManager[None]:
        """A context in which operations repeat earlier ones, so that these need not be kept."""
        return nullcontext()

    def assign(self, tensor: Any, new: Any) -> None:
        """From now on `tensor` holds what `new` holds; shapes and dtypes agree already.

        What shows some of the same memory shows the new numbers from now on.
        """
        raise NotImplementedError

    def guarded_by(self, lock: ForkSafeLock) -> None:
        """Called when a state is met that other threads may move on too: its lock."""

    def call_host(self, function: Any, operands: Sequence[Any], results: tuple[Any, ...]) -> Any:
        """Let each run of the program call a function of the user at this place.

        Args:
            function: a HostFunction (primitives/host.py).
            operands: the Tensors whose numbers it is given.
            results: the Spec of each array that it gives.

        Returns:
            A tuple of Tensors, one for each Spec.
        """
        raise NotImplementedError

    def shows(self, view: Any, base: Any, row: Any, params: dict[str, Any]) -> None:
        """`view`, new, shows the memory of `base` as `row` takes it (tensor/assignment.py).

        Rows of the table that give views say so themselves in `apply`.
        """

    def is_contiguous(self, tensor: Any) -> bool:
        """Whether the numbers would lie row by row in memory, carried out eagerly."""
        return True

    def taken_from(self, tensor: Any) -> tuple[Any, ...] | None:
        """What sharing.taken_from gives, of a Tensor met or made during the capture."""
        return None

    def scan(
        self, trip: Any, carried: Sequence[Any], xs: Sequence[Any], length: int, reverse: bool
    ) -> tuple[Sequence[Any], Sequence[Any]]:
        """Carry out a loop: `trip(carried, xs[t])` gives (carried, y), each a list of Tensors.

        Returns:
            the last carried Tensors, and those of y stacked along axis 0.
        """
        raise NotImplementedError

    def cond(self, predicate: Any, true: Any, false: Any) -> Sequence[Any]:
        """Carry out a branch: `true()` if the predicate holds, else `false()`.

        Args:
            predicate: a bool Tensor of shape ().
            true, false: give lists of Tensors, as many and of the same kinds.

        Returns:
            what the one that is taken gives.
        """
        raise NotImplementedError

    def refuse(self, what: str) -> NoReturn:
        """Raise, because `what` needs numbers that are not known while a program is recorded."""
        raise CompileError(
            "a compiled function cannot look at values",
            got=f"{what} at {user_line()}",
            rule="it runs once, without numbers, to record the program that runs afterwards",
            fix="use tt.where(condition, a, b), or move this line out of the compiled function",
        )


class RecordAgain(BaseException):  # no error: `except Exception` lets it pass
    """Raised while a program is recorded, when what was recorded so far no longer fits the objects
    around it: the recording is given up and begun anew."""


class ThreadState(threading.local):
    """What each thread has of its own.

    `interpreter`: who carries operations out (None: NumPy, at once); `recording`: whether the tape
    is written; `precision`: of contractions; `journal`: who is told before a Tensor is assigned to
    (tensor/transforms.py), None mostly; `pulled`: the operation on the tape whose gradient rule is
    being recorded by an interpreter.
    """

    interpreter: Interpreter | None = None
    journal: Any = None
    recording: bool = True
    pulled: Any = None
    precision: str = "float32"


STATE = ThreadState()


def current() -> Interpreter | None:
    """The interpreter of this thread, None in eager mode."""
    return STATE.interpreter


@contextmanager
def interpreting(interpreter: Interpreter | None) -> Generator[None]:
    """Let `interpreter` decide within the block, on this thread; None: eager within the block."""
    before, STATE.interpreter = STATE.interpreter, interpreter
    try:
        yield
    finally:
        STATE.interpreter = before


def user_frame() -> FrameType | None:
    """The innermost frame outside the package: the user's line. Cost: about 0.1 us a frame."""
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return frame


def user_line() -> str:
    """ "train.py:41", the user's line that led here."""
    frame = user_frame()
    if frame is None:
        return "an unknown line"
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


# --- modes: contexts, no_grad and enable_grad decorators too ---

PRECISIONS = ("float32", "bf16", "float16")


class _Recording(ContextDecorator):
    """Set whether operations are recorded, within a block."""

    on = True

    def __init__(self):
        self._before: list[bool] = []

    def __enter__(self):
        self._before.append(STATE.recording)
        STATE.recording = self.on
        return self

    def __exit__(self, *problem: object):
        STATE.recording = self._before.pop()
        return False


class no_grad(_Recording):
    """Record nothing within the block (or the decorated function): results need no gradient.

    Example:
        >>> import tinytorch as tt
        >>> w = tt.Tensor([1.0], requires_grad=True)
        >>> with tt.no_grad():
        ...     y = w * 2
        >>> y.requires_grad
        False
    """

    on = False


class enable_grad(_Recording):
    """Record within the block, even inside `no_grad()`."""

    on = True


class precision:
    """Compute matmul, convolution and attention on inputs of this precision, within the block.

    "bf16": float32 inputs of contractions are rounded to bfloat16, sums stay float32, results are
    float32; the tape keeps the rounded inputs, at half the memory. gelu and silu, which keep what a
    contraction gave for backward, round it too and compute in float32 (nn/activation.py).
    Everything else stays as it is.

    "float16": float32 inputs of contractions, and the gradients that come back to them, are rounded
    to float16 and computed with as float32. Gradients below 2**-25 become 0 there, so the loss is
    scaled (training/update.py). It shows on a CPU what float16 does; it saves neither time nor
    memory.

    Args:
        name: "float32", "bf16" or "float16".

    Example:
        >>> import tinytorch as tt
        >>> x = tt.Tensor([[1.001]])
        >>> with tt.precision("bf16"):
        ...     (x @ x).item()
        1.0
    """

    def __init__(self, name: str):
        if name not in PRECISIONS:
            raise SettingError(
                "precision: no such precision",
                got=repr(name),
                rule="one of " + ", ".join(map(repr, PRECISIONS)),
                fix='precision("bf16")',
            )
        self.name = name

    def __enter__(self):
        self._before, STATE.precision = STATE.precision, self.name
        return self

    def __exit__(self, *problem: object):
        STATE.precision = self._before
        return False


def is_grad_enabled() -> bool:
    """Whether operations are recorded on this thread."""
    return STATE.recording
