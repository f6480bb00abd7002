"""Functions with a gradient of their own: the user's, and those whose formula is an approximation.

Knows how such a function stands in the tape.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from tinytorch.base.errors import GradientError, ShapeError
from tinytorch.primitives import absorb
from tinytorch.tensor import autograd
from tinytorch.tensor.base import held, is_held
from tinytorch.tensor.dispatch import copied, tensor_of
from tinytorch.tensor.interpreter import STATE
from tinytorch.tensor.modes import no_grad


class _UserGradient:
    """Stands in the tape for a function with a gradient of the user's."""

    asks_final = True

    def __init__(self, rule: custom_vjp, named: dict, residuals: Any):
        self.rule, self.named, self.residuals = rule, named, residuals

    def vjp(self, g, out, *inputs, final=False):
        """One gradient for each Tensor argument."""
        residuals = self.residuals
        if STATE.recording:  # what forward kept must be connected to the inputs: compute it again
            _, residuals = self.rule.forward(*inputs, **self.named)
        grads = self.rule.backward(residuals, g)
        grads = grads if isinstance(grads, tuple) else (grads,)
        shapes = [None if d is None else tuple(d.shape) for d in grads]
        wanted = [x.shape for x in inputs]
        if len(shapes) != len(wanted) or any(
            s not in (None, w) for s, w in zip(shapes, wanted, strict=True)
        ):
            raise ShapeError(
                f"custom_vjp {self}: backward gave gradients that do not fit the arguments",
                got=f"gradients {shapes} for arguments {wanted}",
                rule="one gradient (or None) for each argument, of its shape",
                fix="return a tuple, one entry an argument",
            )
        grads = tuple(None if d is None else tensor_of(d) for d in grads)
        if final and self.rule.elementwise:
            return tuple(None if d is None else absorb(d, g) for d in grads)
        return grads

    def __repr__(self) -> str:
        return self.rule.__name__


class custom_vjp:
    """A function of Tensors with a gradient of your own.

    `forward(*tensors, **settings)` gives (result, residuals), `backward(residuals, g)` one gradient
    (or None) for each Tensor argument. Second derivatives follow from both, if `backward` is made
    of Tensor operations.

    Args:
        function: gives the result; used where nothing is recorded.

    Example:
        >>> import tinytorch as tt
        >>> @tt.custom_vjp
        ... def straight_through(x):
        ...     return x.round()
        >>> _ = straight_through.define(lambda x: (x.round(), None), lambda kept, g: (g,))
        >>> tt.grad(lambda x: straight_through(x).sum())(tt.Tensor([0.2, 0.7])).tolist()
        [1.0, 1.0]
    """

    def __init__(self, function: Callable):
        functools.update_wrapper(self, function)
        self.function, self.elementwise = function, False
        self.__name__: str = getattr(function, "__name__", "function")
        self.forward: Callable = self._undefined
        self.backward: Callable = self._undefined

    def define(self, forward: Callable, backward: Callable) -> custom_vjp:
        """Set the two rules; gives itself."""
        self.forward, self.backward = forward, backward
        return self

    defvjp = define

    def _undefined(self, *args, **named):
        raise GradientError(
            f"custom_vjp {self.__name__}: no gradient is defined",
            got="a call whose gradient is needed",
            rule="forward and backward are given before the first such call",
            fix=f"{self.__name__}.define(forward, backward)",
        )

    def __call__(self, *args, **settings):
        """The function, recorded with its own gradient."""
        tensors = [tensor_of(x) for x in args]
        if not (STATE.recording and any(t._node is not None for t in tensors)):
            return self.function(*args, **settings)
        with no_grad():
            out, residuals = self.forward(*(held(t) for t in tensors), **settings)
        fresh = tuple(map(_given, out)) if isinstance(out, tuple) else _given(out)
        return autograd.record(_UserGradient(self, settings, residuals), tensors, {}, fresh)


def _given(out: Any) -> Any:
    """A result of forward as the caller gets it; forward may give back an input as it was held."""
    return copied(out.detach()) if is_held(out) else out.detach()


def with_slope(slope: Callable) -> Callable:
    """Decorator for a function of one Tensor whose derivative at x is `slope(x)`."""

    def decorate(function: Callable) -> custom_vjp:
        rule = custom_vjp(function)
        rule.elementwise = True
        return rule.define(lambda x: (function(x), x), lambda x, g: (g * slope(x),))

    return decorate
