"""TinyTorch: a deep-learning framework in Python, made to be read, compiled to machine speed.

Knows names only. Importing it loads NumPy and the lower floors; nn, optim, the compiler and
the rest are loaded when they are first used.
"""

from __future__ import annotations

import builtins
import importlib
from types import FunctionType
from typing import TYPE_CHECKING, Any

from tinytorch import primitives
from tinytorch.base import settings
from tinytorch.base.arguments import explain_all, explain_methods, fitted
from tinytorch.base.dtypes import (
    bfloat16,
    bool_,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint32,
)
from tinytorch.base.dtypes import bool_ as bool
from tinytorch.base.errors import TinyTorchError
from tinytorch.base.lengths import dim
from tinytorch.base.settings import num_threads, set_num_threads
from tinytorch.base.unknown_names import unknown
from tinytorch.tensor.autograd import tape
from tinytorch.tensor.cond import cond
from tinytorch.tensor.dispatch import custom_vjp
from tinytorch.tensor.functions import *  # noqa: F403
from tinytorch.tensor.functions import __all__ as _functions
from tinytorch.tensor.host import host_call
from tinytorch.tensor.interpreter import enable_grad, is_grad_enabled, no_grad, precision
from tinytorch.tensor.random import Generator, default_generator, manual_seed
from tinytorch.tensor.scan import scan
from tinytorch.tensor.tensor import Tensor
from tinytorch.tensor.transforms import (
    checkpoint,
    grad,
    gradcheck,
    jvp,
    primitive,
    value_and_grad,
    vjp,
)

if TYPE_CHECKING:  # at run time the folder of this name, which can be called
    from tinytorch.tensor.creation import tensor

__version__ = settings.VERSION

# Names that are loaded when first used: (module, name in it; None: the module itself).
_LATER: dict[str, tuple[str, str | None]] = {
    "array_api": ("tinytorch.array_api", None),
    "capstone": ("tinytorch.capstone", None),
    "compile": ("tinytorch.compiler.compile", "compile"),
    "compression": ("tinytorch.compression", None),
    "data": ("tinytorch.data", None),
    "debug": ("tinytorch.tensor.debug", None),
    "export": ("tinytorch.export", None),
    "generation": ("tinytorch.generation", None),
    "inspection": ("tinytorch.inspection", None),
    "models": ("tinytorch.models", None),
    "nn": ("tinytorch.nn", None),
    "optim": ("tinytorch.optim", None),
    "storage": ("tinytorch.storage", None),
    "text": ("tinytorch.text", None),
    "training": ("tinytorch.training", None),
    "compiler": ("tinytorch.compiler", None),
}

__all__ = [
    "Generator",
    "Tensor",
    "TinyTorchError",
    "bfloat16",
    "bool",
    "bool_",
    "checkpoint",
    "cond",
    "custom_vjp",
    "default_generator",
    "dim",
    "enable_grad",
    "float16",
    "float32",
    "float64",
    "grad",
    "gradcheck",
    "host_call",
    "int16",
    "int32",
    "int64",
    "int8",
    "is_grad_enabled",
    "jvp",
    "manual_seed",
    "no_grad",
    "num_threads",
    "precision",
    "primitive",
    "primitives",
    "scan",
    "set_num_threads",
    "settings",
    "tape",
    "tensor",
    "uint32",
    "uint8",
    "value_and_grad",
    "vjp",
    *_functions,
    *_LATER,
]


# Errors that no check foresaw come in four parts (base/arguments.py). The files named here hold
# what is called most; they refuse wrong values themselves, but for a few of their functions. What
# they cannot see, a call with too many arguments or by a wrong name, is explained at the door
# alone: the package's own files go on calling them as they are.
_CHECKED = ("row_functions", "elementwise", "reductions", "shaping")
_UNCHECKED = (
    "argwhere", "astype", "bincount", "broadcast_arrays", "broadcast_shapes", "cat", "chunk",
    "concat", "count_nonzero", "cumprod", "cumulative_prod", "cumulative_sum", "diff", "isin",
    "max", "meshgrid", "min", "narrow", "nextafter", "nonzero", "pad", "permute_dims", "repeat",
    "repeat_as_torch", "repeat_interleave", "roll", "searchsorted", "select", "sort", "split",
    "stack", "std", "tile", "topk", "unfold", "unique_all", "unique_counts", "unique_inverse",
    "unique_values", "var",
)  # fmt: skip


def _may_fail_raw(x: object) -> builtins.bool:
    home = getattr(x, "__module__", "") or ""
    return home.rpartition(".")[2] not in _CHECKED or getattr(x, "__name__", "") in _UNCHECKED


explain_all(
    globals(),
    [name for name in __all__ if name != "Tensor" and _may_fail_raw(globals().get(name))],
)
for _kind in Tensor.__mro__[:-1]:
    explain_methods(_kind, [n for n, x in vars(_kind).items() if n[0] != "_" and _may_fail_raw(x)])
explain_methods(Tensor, ["__init__"])


def _is_row(x: object, modules: tuple[str, ...] = _CHECKED) -> builtins.bool:
    home = (getattr(x, "__module__", None) or "").rpartition(".")[2]
    return isinstance(x, FunctionType) and home in modules and not hasattr(x, "__explained__")


def _explain_rows() -> None:
    doors: dict[FunctionType, Any] = {}
    names = importlib.import_module("tinytorch.tensor.functions")
    for name in _functions:
        x = globals()[name]
        if _is_row(x):
            if x not in doors:
                door: Any = fitted(x)
                door.__module__, door.__name__, door.__qualname__ = names.__name__, name, name
                doors[x] = door  # pickle finds it by these names
            globals()[name] = vars(names)[name] = doors[x]
    for kind in Tensor.__mro__[:-1]:
        for name, x in [*vars(kind).items()]:
            if name[0] != "_" and _is_row(x, _CHECKED[:-1]):  # layers call x.reshape(...) often
                doors[x] = doors.get(x) or fitted(x)
                setattr(kind, name, doors[x])


_explain_rows()


def __getattr__(name: str) -> Any:
    try:
        module, attribute = _LATER[name]
    except KeyError:
        raise unknown("tinytorch", name, __dir__) from None
    loaded = importlib.import_module(module)
    if attribute is not None:
        explain_all(vars(loaded), [attribute])
    value = loaded if attribute is None else getattr(loaded, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
