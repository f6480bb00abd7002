"""How one operation on Tensors is carried out: by NumPy or the interpreter, then recorded.

Knows operands and rows of the table. A row sees operands of one dtype: `common` and `binary` bring
them together, weak Python numbers too. Composites, functions of several rows, are computed in
float32 (`in_float32`) and may have a gradient of their own (`custom_vjp`, `with_slope`).

Note [half precision inside a composite]
    A row of the table computes its own result in float32 and rounds it (primitives). A formula of
    several rows would round after each, and what it holds in between (a sum of 70,000 ones, a
    square) need not fit at all. So `in_float32` computes it in float32 and rounds once, at the end.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, ParamSpec, TypeVar

import numpy as np

from tinytorch.base.dtypes import Array, DType, bfloat16, float16, float32, from_bfloat16
from tinytorch.base.errors import DTypeError, GradientError, OutOfMemoryError, ShapeError
from tinytorch.base.lengths import LengthNumber
from tinytorch.primitives import TABLE, absorb
from tinytorch.primitives.primitive import Primitive, Spec, store
from tinytorch.tensor import autograd
from tinytorch.tensor.autograd import GradientRule
from tinytorch.tensor.interpreter import STATE, no_grad
from tinytorch.tensor.memory import (
    ALIAS,
    Same,
    TensorBase,
    from_array,
    from_handle,
    held,
    is_held,
    view_of,
)
from tinytorch.tensor.operands import (
    Operand,
    joint_dtype,
    make,
    refuse_tensor_params,
    tensor_of,
    weak_dtype,
)

_CAST, _FULL, _WHERE, _PAD = (TABLE[name] for name in ("cast", "full", "where", "pad"))


_LIMIT = 4096  # entries of each cache below; to make one takes a few us
_ABSORB = TABLE["absorb"]


COPY = Same("copy")
_NONE: dict[str, Any] = {}  # params of rows without any; never written to


# Output dtype of elementwise rows by (row, input dtype): their shapes are NumPy's to check.
_result: dict[tuple[Primitive, DType], DType] = {}
# What `infer` answered, and whether an operand is bfloat16, by row, shapes, dtypes and params.
_specs: dict[tuple[Any, ...], Any] = {}
# Params and output dtype of rows of one operand, by row, shape, dtype and the caller's arguments.
_prepared: dict[tuple[Any, ...], tuple[dict[str, Any], DType]] = {}
# Output dtype of rows of two operands, by row, shapes and dtype.
_products: dict[tuple[Any, ...], DType] = {}
# Python numbers as 0-d Tensors, by (value, type, dtype). They are never assigned to.
_numbers: dict[tuple[Any, ...], Any] = {}


def _remember(cache: dict[Any, Any], key: Any, value: Any) -> None:
    """Put an entry into a cache, which is emptied when it is full."""
    if len(cache) >= _LIMIT:
        cache.clear()
    cache[key] = value


def elementwise(primitive: Primitive, operands: tuple[Any, ...]) -> Any:
    """Apply an elementwise row without params to Tensors of one dtype.

    The fast path: no shape rule runs unless NumPy refuses, and then for its error message.
    """
    state = STATE
    if state.interpreter is not None:
        out = state.interpreter.apply(primitive, operands, {})
    else:
        try:
            if len(operands) == 2:
                left, right = operands[0]._buffer, operands[1]._buffer
                result = _result[primitive, left.dtype]
                array = primitive.numpy(left.array, right.array)
            else:
                buffer = operands[0]._buffer
                result = _result[primitive, buffer.dtype]
                array = primitive.numpy(buffer.array)
        except KeyError:
            _learn(primitive, operands)
            return apply(primitive, operands, {})
        except (ValueError, AttributeError):
            _explain(primitive, operands, {})
            raise
        except MemoryError as problem:
            raise OutOfMemoryError.of(problem) from None
        if type(array) is not np.ndarray or array.dtype is not result.storage:
            array = np.asarray(array, result.storage)
        out = from_array(array, result)
    if state.recording:
        for t in operands:
            if t._node is not None:
                if primitive is _ABSORB and state.interpreter is None:
                    out = copied(out)  # it gives back its operand, which the tape keeps
                return autograd.record(primitive, operands, _NONE, out)
    return out


def _learn(primitive: Primitive, operands: tuple[Any, ...]) -> None:
    """Remember the output dtype of an elementwise row for this input dtype (not bfloat16)."""
    dtype = operands[0].dtype
    scalar = Spec((), dtype)
    result: Any = primitive.infer(*(scalar for _ in operands))
    if dtype is not bfloat16 and result.dtype is not bfloat16:
        _result[primitive, dtype] = result.dtype


def apply(primitive: Primitive, operands: Sequence[Any], params: dict[str, Any]) -> Any:
    """Apply any row to Tensors of the dtypes it asks for; gives a Tensor or a tuple of them."""
    state = STATE
    operands = tuple(operands)
    if state.interpreter is not None:
        out = state.interpreter.apply(primitive, operands, params)
    elif primitive.view and operands[0]._buffer is not None:
        return _view(primitive, operands[0], params)
    else:
        out = _evaluate(primitive, operands, params)
    if state.recording:
        for t in operands:
            if t._node is not None:
                return autograd.record(primitive, operands, params, out)
    return out


def prepared(
    primitive: Primitive, x: Any, prepare: Callable[..., dict[str, Any]], *arguments: Any
) -> Any:
    """Apply a row of one operand whose params are `prepare(x, *arguments)`.

    What `prepare` and the shape rule answered is remembered: they depend on nothing but the shape,
    the dtype and the arguments.
    """
    state, buffer = STATE, x._buffer
    if state.interpreter is not None or buffer is None or buffer.dtype is bfloat16:
        return apply(primitive, (x,), prepare(x, *arguments))
    array = buffer.array
    key = (primitive, array.shape, buffer.dtype, arguments)
    try:
        params, dtype = _prepared[key]
    except (KeyError, TypeError) as miss:  # TypeError: a list among the arguments
        params = prepare(x, *arguments)
        refuse_tensor_params(primitive, params)
        spec: Any = primitive.infer(Spec(array.shape, buffer.dtype), **params)
        dtype = spec.dtype
        if type(miss) is KeyError:
            _remember(_prepared, key, (params, dtype))
    try:
        out = primitive.numpy(array, **params)
    except MemoryError as problem:
        raise OutOfMemoryError.of(problem) from None
    if type(out) is not np.ndarray or out.dtype is not dtype.storage:
        out = np.asarray(out, dtype.storage)
    tensor = from_array(out, dtype)
    if state.recording and x._node is not None:
        return autograd.record(primitive, (x,), params, tensor)
    return tensor


def _view(primitive: Primitive, x: Any, params: dict[str, Any]) -> Any:
    """Apply a row that gives views; memory is looked at as it is stored, bfloat16 too."""
    array = x._buffer.array
    key = (primitive, array.shape, x._buffer.dtype, *params.items())
    try:
        known = key in _specs
    except TypeError:  # a list among the params
        known, key = False, ()
    if not known:
        refuse_tensor_params(primitive, params)
        found = primitive.infer(Spec(array.shape, x._buffer.dtype), **params), False
        if key:
            _remember(_specs, key, found)
    out = primitive.numpy(array, **params)
    if not out.flags.writeable:  # NumPy's broadcast_to; whether it may be written is asked later
        out.flags.writeable = array.flags.writeable
    return viewed(primitive, x, out, params)


def viewed(primitive: Any, x: Any, array: Array, params: dict[str, Any]) -> Any:
    """A Tensor over `array`, which NumPy made of x's by what `primitive` stands for; recorded.

    Whether the array is a view or a copy is NumPy's to decide (`reshape`).
    """
    buffer = x._buffer
    base, whole = array.base, buffer.array
    if base is not None and (base is whole or base is whole.base):
        out = view_of(x, array, primitive, params)
        if x._node is not None and STATE.recording:
            autograd.record_view(primitive, buffer, x._node, params, out)
        return out
    out = from_array(array, buffer.dtype)
    if x._node is not None and STATE.recording:
        return autograd.record(primitive, (x,), params, out)
    return out


def alias(x: Any, row: Any = ALIAS) -> Any:
    """Another Tensor that shows all of x, a view like any other; of DETACH: without a gradient."""
    node = x._node if row is ALIAS else None
    if STATE.interpreter is not None:
        STATE.interpreter.meet(x)
        out = from_handle(x.handle(), node)
        STATE.interpreter.shows(out, x, row, _NONE)
        return out
    out = view_of(x, x._buffer.array, row, _NONE)
    out._node = node
    return out


def copied(x: Operand) -> Any:
    """The same numbers in memory of their own; recorded."""
    x = tensor_of(x)
    if STATE.interpreter is not None:
        out = captured_copy(x)
        if STATE.recording and x._node is not None:
            out._node = autograd.identity(x._node, out.handle())
        return out
    try:
        array = x._buffer.array.copy()
    except MemoryError as problem:
        raise OutOfMemoryError.of(problem) from None
    return viewed(COPY, x, array, _NONE)


def captured_copy(x: Any) -> Any:
    """What stands for a copy of x, not recorded; it lies row by row, as the copy does."""
    STATE.interpreter.meet(x)  # type: ignore[union-attr]
    if STATE.interpreter.is_contiguous(x):  # type: ignore[union-attr]
        return from_handle(x.handle())
    # a value of its own, since it has other views; the compiler sees that nothing is done
    return STATE.interpreter.apply(_PAD, (x,), nothing_around(x))  # type: ignore[union-attr]


def nothing_around(x: Any) -> dict[str, Any]:
    """Params of `pad` that add nothing: the same numbers as another value."""
    none = (0,) * len(x.shape)
    return {"before": none, "after": none, "value": 0}


def unshared(x: Any) -> Any:
    """x, or a copy if x is a view: what a function gives that promises memory of its own."""
    if STATE.interpreter is not None:
        return copied(x)
    return copied(x) if x._buffer is not None and x._buffer.family is not None else x


def product(primitive: Primitive, a: Any, b: Any) -> Any:
    """Apply a row of two operands of one dtype, without params: the shortest way for matmul."""
    state = STATE
    left, right = a._buffer, b._buffer
    if state.interpreter is not None or left is None or right is None or left.dtype is bfloat16:
        return apply(primitive, (a, b), _NONE)
    x, y = left.array, right.array
    dtype = _products.get((primitive, x.shape, y.shape, left.dtype))
    if dtype is None:
        spec: Any = primitive.infer(Spec(x.shape, left.dtype), Spec(y.shape, right.dtype))
        dtype = spec.dtype
        _remember(_products, (primitive, x.shape, y.shape, left.dtype), dtype)
    try:
        array = primitive.numpy(x, y)
    except MemoryError as problem:
        raise OutOfMemoryError.of(problem) from None
    if array.dtype is not dtype.storage:
        array = array.astype(dtype.storage)
    out = from_array(array, dtype)
    if state.recording and (a._node is not None or b._node is not None):
        return autograd.record(primitive, (a, b), _NONE, out)
    return out


def _evaluate(primitive: Primitive, operands: tuple[Any, ...], params: dict[str, Any]) -> Any:
    arrays: list[Array] = []
    parts: list[Any] = [primitive]
    try:
        for t in operands:
            buffer = t._buffer
            array = buffer.array
            arrays.append(array)
            parts.append(array.shape)
            parts.append(buffer.dtype)
    except AttributeError:
        _explain(primitive, operands, params)
        raise
    if params:
        parts.extend(params.items())
    key = tuple(parts)
    try:
        specs, narrow = _specs[key]
    except (KeyError, TypeError) as miss:  # TypeError: a list among the params
        specs, narrow = _inferred(primitive, operands, params)
        if type(miss) is KeyError:
            _remember(_specs, key, (specs, narrow))
    if narrow:
        dtypes = [t._buffer.dtype for t in operands]
        arrays = [
            from_bfloat16(a) if d is bfloat16 else a for a, d in zip(arrays, dtypes, strict=True)
        ]
    try:
        out = primitive.numpy(*arrays, **params)
    except MemoryError as problem:
        raise OutOfMemoryError.of(problem) from None
    if specs.__class__ is not tuple:
        dtype = specs.dtype
        if arrays and out is operands[0]._buffer.array and dtype is operands[0]._buffer.dtype:
            # a cast to the type it has
            return view_of(operands[0], out, ALIAS, _NONE)
        if type(out) is not np.ndarray or out.dtype is not dtype.storage:
            out = store(out, dtype)
        return from_array(out, dtype)
    return tuple([from_array(store(o, s.dtype), s.dtype) for o, s in zip(out, specs, strict=True)])


def _inferred(
    primitive: Primitive, operands: tuple[Any, ...], params: dict[str, Any]
) -> tuple[Any, bool]:
    """The Specs of the outputs, and whether an operand is bfloat16."""
    refuse_tensor_params(primitive, params)
    specs = [Spec(t._buffer.array.shape, t._buffer.dtype) for t in operands]
    return primitive.infer(*specs, **params), any(s.dtype is bfloat16 for s in specs)


def _explain(primitive: Primitive, operands: Sequence[Any], params: dict[str, Any]) -> None:
    """Raise the four-part error behind a failure of NumPy, if there is one."""
    for t in operands:
        if t._buffer is None:
            raise DTypeError(
                f"{primitive}: this tensor has no numbers",
                got=f"a tensor {t.shape} made while a function was being compiled, used after that",
                rule="inside a compiled function tensors stand for numbers to come",
                fix="return it from the compiled function, and use what the call returns",
            )
    primitive.infer(*(t.spec for t in operands), **params)


def number(value: float | LengthNumber, dtype: DType) -> Any:
    """A Python number as a 0-d Tensor of `dtype` (made once; a constant in a captured program)."""
    if STATE.interpreter is not None:
        return STATE.interpreter.apply(_FULL, (), {"shape": (), "value": value, "dtype": dtype})
    # 0.0 and -0.0 are equal as keys: the sign tells them apart.
    key = (value or math.copysign(1.0, value) + 0.5, type(value), dtype, value == 0)
    tensor = _numbers.get(key)
    if tensor is None:
        tensor = make(value, dtype)
        _remember(_numbers, key, tensor)
    return tensor


def to_dtype(x: TensorBase, dtype: DType) -> TensorBase:
    """`x` in another number type; itself if it has that already."""
    return x if x.dtype is dtype else apply(_CAST, (x,), {"dtype": dtype})


def tensor_in(x: Operand, dtype: DType) -> TensorBase:
    """A Tensor of `dtype` of what is written into one: Python numbers must fit, arrays are cast."""
    if isinstance(x, TensorBase):
        return to_dtype(x, dtype)
    if (dtype.is_float and (type(x) is float or type(x) is int)) or (
        type(x) is int and dtype.kind in "iu"
    ):
        return number(x, dtype)  # made once
    return make(x, dtype)


def common(a: Operand, b: Operand) -> tuple[TensorBase, TensorBase]:
    """Two operands as Tensors of one dtype; Python numbers take the other's type.

    Raises:
        DTypeError: an operand is not a number, array or Tensor.
    """
    if (b.__class__ is float or b.__class__ is int) and isinstance(a, TensorBase):
        dtype = a.dtype
        if dtype.is_float:
            return a, number(b, dtype)  # type: ignore[arg-type]
    if isinstance(a, TensorBase):
        if isinstance(b, TensorBase):
            dtype = joint_dtype(a, b)
            return to_dtype(a, dtype), to_dtype(b, dtype)
        if isinstance(b, np.generic):
            b = b.item()
        if isinstance(b, (bool, int, float, LengthNumber)):
            dtype = weak_dtype(b, a.dtype)
            return to_dtype(a, dtype), number(b, dtype)
        return common(a, tensor_of(b))
    if isinstance(b, TensorBase):
        b, a = common(b, a)
        return a, b
    return common(tensor_of(a), b)


def binary(primitive: Primitive, a: Operand, b: Operand) -> Any:
    """Apply an elementwise row to two operands of any kind."""
    try:
        fit = a._buffer.dtype is b._buffer.dtype  # type: ignore[union-attr]
    except AttributeError:  # an operand is no Tensor, or a captured one
        fit = False
    return elementwise(primitive, (a, b) if fit else common(a, b))


def unary(primitive: Primitive, x: Operand) -> Any:
    """Apply an elementwise row to one operand of any kind."""
    return elementwise(primitive, (tensor_of(x),))


def as_float(x: Operand) -> TensorBase:
    """A Tensor of floats: integers and bools become float32."""
    x = tensor_of(x)
    return x if x.dtype.is_float else to_dtype(x, float32)


def as_floats(a: Operand, b: Operand) -> tuple[TensorBase, TensorBase]:
    """Two Tensors of one type of floats."""
    a, b = common(a, b)
    return as_float(a), as_float(b)


def on_tensors(primitive: Primitive, operands: Sequence[Any], params: dict[str, Any]) -> Any:
    """What `primitive(...)` does when an operand is a Tensor: the others join it."""
    if primitive.elementwise and not params and primitive is not _WHERE:
        if len(operands) == 1 or (
            isinstance(operands[0], TensorBase)
            and isinstance(operands[1], TensorBase)
            and operands[0].dtype is operands[1].dtype
        ):
            return elementwise(primitive, operands)  # type: ignore[arg-type]
    else:
        for x in operands:
            if not isinstance(x, TensorBase):
                break
        else:
            return apply(primitive, operands, params)
    joined: list[TensorBase] = []
    for x in operands:
        if isinstance(x, TensorBase):
            joined.append(x)
        elif isinstance(x, (bool, int, float, LengthNumber)) and not isinstance(x, np.generic):
            like = next(t for t in operands if isinstance(t, TensorBase))
            joined.append(number(x, weak_dtype(x, like.dtype)))
        else:
            joined.append(tensor_of(x))
    return apply(primitive, joined, params)


# --- composites in half precision; see Note [half precision inside a composite] ---

P = ParamSpec("P")
R = TypeVar("R")


_HALF = (float16, bfloat16)


def in_float32(
    *followed: str, state: tuple[str, ...] = ()
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator for a composite: float16 and bfloat16 arguments are float32 inside.

    The result is rounded to the type of the followed arguments. Their gradients are computed in
    float32 too, and rounded once. In a compiled function the conversions are part of the kernels
    that read and write.

    Args:
        followed: names of the arguments whose type the result has; default the first one. Two of
            different types: the wider one.
        state: names of arguments that the composite assigns to, which stay what they are.

    Cost: 0.3 us a call where nothing is half; else a float32 copy of each argument, eagerly.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        names = tuple(inspect.signature(function).parameters)
        leads = followed or names[:1]

        @functools.wraps(function)
        def composite(*args: P.args, **settings: P.kwargs) -> R:
            try:  # the usual case by the shortest way
                if args[0]._buffer.dtype is float32:  # type: ignore[union-attr]
                    return function(*args, **settings)
            except (AttributeError, IndexError):  # captured, no Tensor, or given by name
                pass
            first: Any = args[0] if args else settings.get(leads[0])
            if args and isinstance(args[0], np.ndarray) and first.dtype == np.float16:
                first = tensor_of(first)
                args = (first, *args[1:])  # type: ignore[assignment]
            if not isinstance(first, TensorBase) or first.dtype not in _HALF:
                return function(*args, **settings)  # a half beside float32 is widened anyway
            given: dict[str, Any] = dict(zip(names, args, strict=False)) | settings
            if given.get("dtype") is not None:  # another type is asked for, and `function` makes it
                return function(*args, **settings)
            kinds = [given[n].dtype for n in leads if isinstance(given.get(n), TensorBase)]
            floats = {d for d in kinds if d.is_float}
            wide = [a if n in state else _widened(a) for n, a in zip(names, args, strict=False)]
            named = {n: a if n in state else _widened(a) for n, a in settings.items()}
            out: Any = function(*wide, *args[len(wide) :], **named)  # type: ignore[arg-type]
            return _rounded(out, floats.pop()) if len(floats) == 1 else out

        return composite

    return decorate


def _widened(x: Any) -> Any:
    return to_dtype(x, float32) if isinstance(x, TensorBase) and x.dtype in _HALF else x


def _rounded(out: Any, dtype: DType) -> Any:
    if out.__class__ is tuple:
        return tuple([_rounded(o, dtype) for o in out])
    return to_dtype(out, dtype) if out.dtype is float32 else out


# --- composites with a gradient of their own ---

# --- functions with a gradient of their own ---


class _UserGradient(GradientRule):
    """Stands in the tape for a function with a gradient of the user's."""

    asks_final = True

    def __init__(self, rule: custom_vjp, named: dict[str, Any], residuals: Any):
        self.rule, self.named, self.residuals = rule, named, residuals
        self.name = rule.__name__

    def vjp(self, g: Any, out: Any, *inputs: TensorBase, final: bool = False) -> tuple[Any, ...]:
        """One gradient for each Tensor argument."""
        residuals = self.residuals
        if STATE.recording:  # what forward kept must be connected to the inputs: compute it again
            _, residuals = self.rule.forward(*inputs, **self.named)
        given = self.rule.backward(residuals, g)
        grads: list[Any] = [*given] if issubclass(type(given), tuple) else [given]
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
        grads = [None if d is None else tensor_of(d) for d in grads]
        if final and self.rule.elementwise:
            grads = [None if d is None else absorb(d, g) for d in grads]
        return tuple(grads)


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

    def __init__(self, function: Callable[..., Any]):
        functools.update_wrapper(self, function)
        self.function, self.elementwise = function, False
        self.__name__: str = getattr(function, "__name__", "function")
        self.forward: Callable[..., Any] = self._undefined
        self.backward: Callable[..., Any] = self._undefined

    def define(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> custom_vjp:
        """Set the two rules; gives itself."""
        self.forward, self.backward = forward, backward
        return self

    defvjp = define

    def _undefined(self, *args: Any, **named: Any) -> NoReturn:
        raise GradientError(
            f"custom_vjp {self.__name__}: no gradient is defined",
            got="a call whose gradient is needed",
            rule="forward and backward are given before the first such call",
            fix=f"{self.__name__}.define(forward, backward)",
        )

    def __call__(self, *args: Any, **settings: Any) -> Any:
        """The function, recorded with its own gradient."""
        tensors = [tensor_of(x) for x in args]
        if not (STATE.recording and any(t._node is not None for t in tensors)):
            return self.function(*args, **settings)
        with no_grad():
            out, residuals = self.forward(*(held(t) for t in tensors), **settings)
        several = issubclass(type(out), tuple)
        fresh = tuple(map(_given, out)) if several else _given(out)
        return autograd.record(_UserGradient(self, settings, residuals), tensors, {}, fresh)


def _given(out: Any) -> Any:
    """A result of forward as the caller gets it; forward may give back an input as it was held."""
    return copied(out.detach()) if is_held(out) else out.detach()


def with_slope(slope: Callable[[Any], Any]) -> Callable[[Callable[[Any], Any]], custom_vjp]:
    """Decorator for a function of one Tensor whose derivative at x is `slope(x)`."""

    def decorate(function: Callable[[Any], Any]) -> custom_vjp:
        def forward(x: TensorBase) -> tuple[Any, Any]:
            return function(x), x

        def backward(x: TensorBase, g: TensorBase) -> tuple[Any]:
            return (g * slope(x),)

        rule = custom_vjp(function)
        rule.elementwise = True
        return rule.define(forward, backward)

    return decorate
