"""Who carries operations out: what an interpreter sees, what a capture refuses, precision."""

import numpy as np
import pytest

import tinytorch as tt
from tinytorch.base.errors import CompileError, SettingError, TinyTorchError
from tinytorch.tensor.interpreter import Interpreter, interpreting
from tinytorch.tensor.memory import from_value


class Echo(Interpreter):
    """Carries everything out by keeping Specs alone."""

    def __init__(self):
        self.seen = []

    def apply(self, primitive, operands, params):
        self.seen.append(primitive.name)
        out = primitive.infer(*(t.spec for t in operands), **params)
        return tuple(from_value(s) for s in out) if isinstance(out, tuple) else from_value(out)

    def constant(self, buffer):
        self.seen.append("constant")
        return tt.asarray(np.zeros(1)) if buffer is None else from_value(_spec(buffer))

    def assign(self, tensor, new):
        self.seen.append("assign")
        tensor._value = new._value


def _spec(buffer):
    from tinytorch.primitives.primitive import Spec

    return Spec(buffer.shape, buffer.dtype)


def test_an_interpreter_sees_forward_and_backward():
    """Invariant: with an interpreter no array is computed, gradients are captured values too."""
    w, x = tt.ones(3, 2, requires_grad=True), tt.ones(4, 3)
    echo = Echo()
    with interpreting(echo):
        loss = ((x @ w).relu() * 2.0).mean()
        loss.backward()
        assert w.grad._value is not None and w.grad.shape == (3, 2)
        with tt.no_grad():
            w.assign_(w - w.grad * 0.1)
        assert "captured" in repr(loss) and loss.shape == ()
    assert "matmul" in echo.seen and "assign" in echo.seen
    w._value = None
    assert w.tolist() == [[1.0] * 2] * 3


@pytest.mark.parametrize(
    "look",
    [
        lambda x: x.item(), lambda x: x.numpy(), bool, float, int, lambda x: x.tolist(),
        lambda x: np.asarray(x), lambda x: x[x > 0], lambda x: 1 if x.sum() > 0 else 2,
    ],
)  # fmt: skip
def test_a_capture_refuses_to_show_values(look):
    """Ground truth: the message names this file and the cure."""
    x = tt.ones(1)
    with (
        interpreting(Echo()),
        pytest.raises(
            CompileError, match=r"(?s)cannot look at values.*test_interpreter\.py:.*tt\.where"
        ),
    ):
        look(x)


def test_a_captured_tensor_has_no_numbers_afterwards():
    """Ground truth: the messages."""
    with interpreting(Echo()):
        y = tt.ones(2) * 2
    for use in (lambda: y.item(), lambda: y + 1, lambda: y.sum(), lambda: tt.ones(2) * y):
        with pytest.raises(TinyTorchError, match="has no numbers"):
            use()


def test_interpreters_are_of_one_thread():
    """Invariant: another thread stays eager."""
    import threading

    got = []
    with interpreting(Echo()):
        thread = threading.Thread(target=lambda: got.append((tt.ones(2) + 1).tolist()))
        thread.start()
        thread.join()
    assert got == [[2.0, 2.0]]


def test_bfloat16_precision_mode():
    """Closed form: 1 + 2^-9 rounds to 1 in bfloat16; results and gradients are float32."""
    x = tt.full((1, 1), 1 + 2**-9, requires_grad=True)
    with tt.precision("bf16"):
        y = x @ x
    assert y.item() == 1.0 and y.dtype is tt.float32
    y.sum().backward()
    assert x.grad.dtype is tt.float32 and x.grad.item() == 2.0
    with pytest.raises(SettingError, match="no such precision"):
        tt.precision("fp8")
