"""Module: a function with weights, and the tree that modules form.

Knows attributes, names and flags, never what a layer computes. The tree is read from the attributes
whenever it is asked for: a Parameter, a Module, or lists, tuples and dicts of them (of any depth)
set on a Module are part of it, and nothing has to be registered first. Then come the hooks around a
module's forward, and the modules that are nothing but a tree: Sequential, ModuleList, ModuleDict.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from tinytorch.base.arguments import RAW, explain
from tinytorch.base.dtypes import as_dtype
from tinytorch.base.errors import SettingError, short
from tinytorch.base.settings import MODES, STRUCTURE
from tinytorch.base.unknown_names import put_missing_names
from tinytorch.nn.summary import Summary, summarise
from tinytorch.tensor.assignment import copy_named
from tinytorch.tensor.creation import clear_gradients
from tinytorch.tensor.interchange import number_type_of
from tinytorch.tensor.tensor import Tensor

# Whether Parameters take the memory of what they are made of, which nobody else has, in place of a
# copy: `init.without_draws` says so.
FRESH: ContextVar[bool] = ContextVar("Parameters take fresh memory as it is", default=False)


class Parameter(Tensor):
    """A Tensor that a Module trains: it asks for a gradient and appears in `parameters()`.

    Args:
        data: what `tt.tensor` takes; floating point.

    Example:
        >>> from tinytorch import nn
        >>> nn.Parameter([1.0, 2.0]).requires_grad
        True
    """

    __slots__ = ()

    def __init__(self, data):
        if FRESH.get() and isinstance(data, Tensor):
            self._buffer, self._value, self._node = data._buffer, None, None
            self.requires_grad_()
        else:
            self._hold(data, None, requires_grad=True)


class Module:
    """Base of all layers and models: set weights and parts as attributes, write `forward`.

    `training` says which of two behaviours layers such as Dropout and BatchNorm2d have; `train()`
    and `eval()` set it for the whole tree.

    Differs from PyTorch: `super().__init__()` may be left out, a list of modules is part of the
    tree, NumPy arrays are taken as inputs, and hooks run before and after `forward`, not in the
    backward pass.

    Example:
        >>> from tinytorch import nn
        >>> class Twice(nn.Module):
        ...     def __init__(self):
        ...         self.inner = nn.Linear(3, 3)
        ...     def forward(self, x):
        ...         return self.inner(self.inner(x))
        >>> [name for name, _ in Twice().named_parameters()]
        ['inner.weight', 'inner.bias']
    """

    training: bool = True
    _buffer_names: tuple[tuple[str, bool], ...] = ()  # (name, is saved), in order of registration
    # Weights' names in files of older versions -> their names now; `load_state_dict` takes both.
    former_names: Mapping[str, str] = {}
    # Buffers that files of other programs may lack; `load_state_dict` then leaves them as they are.
    optional_names: tuple[str, ...] = ()
    _named_by_place = ""  # the attribute whose elements bear their place alone as a name
    _hooks: Hooks | None = None  # made when the first one is registered
    # Settings that `repr` names, unless they are these; ...: whatever they are.
    _shown: Mapping[str, Any] = {}

    def _undefined(self, *inputs: Any, **named: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward(): define one")

    # What the module computes; every subclass defines it, with arguments of its own.
    forward: Callable[..., Any] = _undefined

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """`forward` with its hooks; NumPy arrays among the inputs become Tensors."""
        for x in inputs:
            if type(x) is np.ndarray:
                inputs = tuple(Tensor(x) if type(x) is np.ndarray else x for x in inputs)
                break
        try:
            if self._hooks is None:
                return self.forward(*inputs, **named)
            return self._hooks.around(self, inputs, named)
        except RAW as problem:
            error = explain(problem, self.forward, inputs, named)
            if error is problem:
                raise
            raise error from problem

    def __setattr__(self, name: str, value) -> None:
        # A compiled function has read the old value, the class's own if there was none of this
        # object's: it must be captured again.
        own = vars(self)
        if type(value) is set or type(value) is frozenset:
            _refuse_sets(f"{type(self).__name__}.{name}", value)
        if name in own:
            if own[name] is not value:
                STRUCTURE.bump()
        elif name[0] != "_" and hasattr(type(self), name) or name == "__class__":
            STRUCTURE.bump()
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        STRUCTURE.bump()
        object.__delattr__(self, name)

    def register_buffer(self, name: str, tensor: Tensor, persistent: bool = True) -> None:
        """Set attribute `name` to a Tensor that is state but not trained.

        Args:
            name: the attribute.
            tensor: its first value.
            persistent: whether `state_dict()` holds it.
        """
        names = (*(n for n in self._buffer_names if n[0] != name), (name, persistent))
        object.__setattr__(self, "_buffer_names", names)  # no program depends on the names
        setattr(self, name, tensor)

    def register_forward_pre_hook(self, hook: Callable[[Module, tuple], Any]) -> HookHandle:
        """Call `hook(module, inputs)` before each `forward`; what it returns replaces the inputs.

        Args:
            hook: gets this module and the tuple of its inputs; returns None to leave them, else one
                input or a tuple of them.

        Returns:
            a handle whose `remove()` takes the hook away.
        """
        return HookHandle(self._with_hooks().before, hook)

    def register_forward_hook(self, hook: Callable[[Module, tuple, Any], Any]) -> HookHandle:
        """Call `hook(module, inputs, output)` after each `forward`; a result replaces the output.

        A compiled function runs hooks while it is captured, on Tensors without values; registering
        and removing makes it capture again.

        Args:
            hook: gets this module, the tuple of its inputs and its output; returns None to leave
                the output.

        Returns:
            a handle whose `remove()` takes the hook away.

        Example:
            >>> import tinytorch as tt
            >>> layer, shapes = tt.nn.Linear(3, 2), []
            >>> with layer.register_forward_hook(lambda m, inputs, out: shapes.append(out.shape)):
            ...     _ = layer(tt.zeros(4, 3))
            >>> _ = layer(tt.zeros(5, 3))
            >>> shapes
            [(4, 2)]
        """
        return HookHandle(self._with_hooks().after, hook)

    def _with_hooks(self) -> Hooks:
        if self._hooks is None:
            self._hooks = Hooks()
        return self._hooks

    # --- the tree ---

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly below this one, each with its name."""
        return self._held(Module)

    def _held(self, kind: type) -> Iterator[tuple[str, Any]]:
        """Attributes of this kind, and those in lists, tuples and dicts at any depth, named by
        their place."""
        for name, value in vars(self).items():
            if isinstance(value, kind):
                yield name, value
            elif isinstance(value, _CONTAINERS):
                start = "" if name == self._named_by_place else f"{name}."
                yield from _in_container(start, value, kind)

    def children(self) -> Iterator[Module]:
        """The modules directly below this one."""
        return (module for _, module in self.named_children())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, each once, with dotted names; its own is `prefix`."""
        seen: set[int] = set()
        for name, module in self._walk(prefix):
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def modules(self) -> Iterator[Module]:
        """This module and all below it, each once."""
        return (module for _, module in self.named_modules())

    def _walk(self, prefix: str) -> Iterator[tuple[str, Module]]:
        yield prefix, self
        for name, child in self.named_children():
            yield from child._walk(f"{prefix}.{name}" if prefix else name)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every Parameter of the tree once, under the first dotted name that leads to it."""
        yield from _each_once(self._named_tensors(lambda m: m._own_parameters()))

    def parameters(self) -> Iterator[Parameter]:
        """Every Parameter of the tree once, in the order of `named_parameters`."""
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Every buffer of the tree once, with its dotted name."""
        yield from _each_once(self._named_tensors(lambda m: m._own_buffers(saved_only=False)))

    def buffers(self) -> Iterator[Tensor]:
        """Every buffer of the tree once."""
        return (buffer for _, buffer in self.named_buffers())

    def _named_tensors(self, of: Callable[[Module], Iterator]) -> Iterator[tuple[str, Any]]:
        for path, module in self._walk(""):
            for name, tensor in of(module):
                yield (f"{path}.{name}" if path else name), tensor

    def _own_parameters(self) -> Iterator[tuple[str, Parameter]]:
        return self._held(Parameter)

    def _own_buffers(self, saved_only: bool) -> Iterator[tuple[str, Tensor]]:
        for name, saved in self._buffer_names:
            if saved or not saved_only:
                yield name, getattr(self, name)

    def get_submodule(self, path: str) -> Module:
        """The module of the tree with this dotted name; "" is the module itself.

        Raises:
            SettingError: there is none; the message lists some names.
        """
        by_name = dict(self._walk(""))
        if path in by_name:
            return by_name[path]
        names = [name for name in by_name if name]
        raise SettingError(
            f"{type(self).__name__}: no such part",
            got=repr(path),
            rule="a name of named_modules(): " + ", ".join(map(repr, names[:5])),
            fix=f"get_submodule({names[0]!r})" if names else 'get_submodule("")',
        )

    def apply(self, fn: Callable[[Module], object]) -> Module:
        """Call `fn` on every module of the tree, children first; returns self."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # --- behaviour ---

    def train(self, mode: bool = True) -> Module:
        """Set `training` in the whole tree; returns self. Compiled functions keep a program for
        either mode."""
        if mode is not True and mode is not False:
            raise SettingError(
                f"{type(self).__name__}.train: a mode is on or off",
                got=short(mode),
                rule="True, or False as eval() sets it",
                fix="model.train()",
            )
        for module in self.modules():
            _set_mode(module, mode)
        return self

    def eval(self) -> Module:
        """`train(False)`: dropout passes its input on, batch norm uses its running statistics."""
        return self.train(False)

    def to(self, where=None, *, device=None, dtype=None) -> Module:
        """Keep all floating-point parameters and buffers in another number type; returns self.

        They stay the same objects, frozen or not, with their gradients: an optimizer made before
        goes on with them, and brings what it keeps for each into the new type at its next step.
        The only device is "cpu", and asking for it changes nothing.
        """
        if (dtype := number_type_of(where, device, dtype)) is None:
            return self
        dtype = as_dtype(dtype)
        if not dtype.is_float:
            raise SettingError(
                f"{type(self).__name__}.to: weights are floating-point numbers",
                got=dtype.name,
                rule="float32, float64, float16 or bfloat16",
                fix="model.to(tt.float64)",
            )
        for tensor in (*self.parameters(), *self.buffers()):
            if tensor.dtype.is_float and tensor.dtype is not dtype:
                tensor._retype(dtype)
        return self

    def requires_grad_(self, flag: bool = True) -> Module:
        """Let every parameter ask for a gradient, or none; returns self."""
        for parameter in self.parameters():
            parameter.requires_grad = flag
        STRUCTURE.bump()
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or fill them with zeros."""
        clear_gradients(self.parameters(), set_to_none)

    # --- state ---

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and saved buffers by dotted name, in PyTorch's names and layouts.

        Live, as in PyTorch: the Tensors show the module's memory. `state[name].copy_(new)` changes
        the module, and training changes them. To keep the numbers of this moment:
        `{name: x.clone() for name, x in model.state_dict().items()}`, or `copy.deepcopy`.
        """
        return {name: tensor.detach() for name, tensor in self._state().items()}

    def _state(self) -> dict[str, Tensor]:
        named = self._named_tensors(
            lambda m: iter((*m._own_parameters(), *m._own_buffers(saved_only=True)))
        )
        state: dict[str, Tensor] = {}
        for name, tensor in named:
            if state.setdefault(name, tensor) is not tensor:
                raise SettingError(
                    f"{type(self).__name__}: two parts have one name",
                    got=f"{name!r} for tensors {state[name].shape} and {tensor.shape}",
                    rule="attributes and keys of dicts, joined by dots, lead to one tensor each",
                    fix="keys without dots, and not both 0 and '0'",
                )
        return state

    def load_state_dict(self, state: dict, strict: bool = True) -> tuple[list[str], list[str]]:
        """Copy values by name into parameters and buffers; all of them or, on an error, none.

        Args:
            state: name -> Tensor or NumPy array.
            strict: names must be exactly those of `state_dict()`; of several names of one Tensor
                one is enough, as in files of tied weights, and batch norm's count of batches may be
                missing, as in PyTorch (published networks of before 2018 have none).

        Returns:
            names that were missing in `state`, names that were not used (both empty if strict).

        Raises:
            SettingError: a missing or unknown name (if strict); it lists them.
            ShapeError: an array of another shape; it names the first.
        """
        own = self._state()
        state = self._in_present_names(state, own)
        for name in self._optional():
            if name not in state:
                own.pop(name, None)
        given = {id(own[name]) for name in state if name in own}
        own = {n: x for n, x in own.items() if n in state or id(x) not in given}
        return copy_named(own, state, owner=type(self).__name__, strict=strict)

    def _optional(self) -> Iterator[str]:
        for path, module in self._walk(""):
            yield from (f"{path}.{name}" if path else name for name in module.optional_names)

    def _in_present_names(self, state: dict, own: dict) -> dict:
        """The state under the names that modules have now: a file of an older version loads."""
        new = {
            f"{path}.{old}" if path else old: f"{path}.{now}" if path else now
            for path, module in self._walk("")
            for old, now in module.former_names.items()
        }
        found = {o: n for o, n in new.items() if o in state and o not in own and n not in state}
        return {found.get(name, name): value for name, value in state.items()} if found else state

    # --- reading ---

    def summary(self, *inputs: Any, **named: Any) -> Summary:
        """Output shape, parameters, operations and kept memory of every part, as a table.

        The module runs once without numbers: it costs milliseconds whatever its size, and changes
        nothing, neither running statistics nor random state.

        Args:
            *inputs: as `forward` takes them, or a shape (a tuple of whole numbers) for a float32
                Tensor of that shape.
            **named: the same, by name.

        Example:
            >>> from tinytorch import nn
            >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Flatten())
            >>> print(net.summary((2, 3, 16, 16)))
            layer         output          parameters    FLOPs  activations
            --------------------------------------------------------------
            Sequential    (2, 2048)
              0: Conv2d   (2, 8, 16, 16)         224  225.3 k     32.0 KiB
              1: ReLU     (2, 8, 16, 16)                8.2 k     20.0 KiB
              2: Flatten  (2, 2048)
            --------------------------------------------------------------
            parameters   224, 896 B
            forward      233.5 kFLOP
            activations  52.0 KiB kept for backward
        """
        return summarise(self, inputs, named)

    def extra_repr(self) -> str:
        """The settings shown between the brackets of `repr`; here, those of `_shown`."""
        given = {name: getattr(self, name) for name in self._shown}
        return ", ".join(
            f"{name}={value:g}" if isinstance(value, float) else f"{name}={value!r}"
            for name, value in given.items()
            if value != self._shown[name]
        )

    def __repr__(self) -> str:
        lines = [
            f"  ({name}): " + repr(child).replace("\n", "\n  ")
            for name, child in self.named_children()
        ]
        if not lines:
            return f"{type(self).__name__}({self.extra_repr()})"
        head = f"{type(self).__name__}({self.extra_repr()}"
        return "\n".join([head, *lines, ")"])


_CONTAINERS = (list, tuple, dict, deque, type({}.values()))


def _in_container(
    start: str, held: Any, kind: type, above: tuple[int, ...] = ()
) -> Iterator[tuple[str, Any]]:
    """What there is of a kind in nested lists, tuples and dicts, in order, named `start` + place;
    `above` ends circles."""
    if id(held) in above:
        return
    for place, x in held.items() if isinstance(held, dict) else enumerate(held):
        if isinstance(x, kind):
            yield f"{start}{place}", x
        elif isinstance(x, _CONTAINERS):
            yield from _in_container(f"{start}{place}.", x, kind, (*above, id(held)))
        elif isinstance(x, (set, frozenset)):
            _refuse_sets(f"{start}{place}", x)


def _refuse_sets(name: str, value: set | frozenset) -> None:
    if any(isinstance(x, (Module, Parameter)) for x in value):
        raise SettingError(
            f"{name}: parts in a set have no order, so no names",
            got=f"a {type(value).__name__} of {len(value)}",
            rule="modules and parameters are attributes, or lie in lists, tuples or dicts of any "
            "depth",
            fix="a list, or a dict with names",
        )


def _each_once(named: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    seen: set[int] = set()
    for name, tensor in named:
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, tensor


put_missing_names("Module", Module)


# --- hooks: functions called before and after forward, to look or to change ---


class HookHandle:
    """One registered hook: `remove()` takes it away, and so does the end of a `with` block.

    Args:
        hooks: the list it stands in.
        hook: the function.
    """

    def __init__(self, hooks: list, hook: Callable):
        self._hooks, self._entry = hooks, [hook]  # a list of its own: one function may stand twice
        hooks.append(self._entry)
        STRUCTURE.bump()

    def remove(self) -> None:
        """Take the hook away; a second time does nothing."""
        kept = [entry for entry in self._hooks if entry is not self._entry]
        if len(kept) != len(self._hooks):
            self._hooks[:] = kept
            STRUCTURE.bump()

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *error) -> None:
        self.remove()


class Hooks:
    """The hooks of one module, in the order in which they were registered."""

    def __init__(self):
        self.before: list[list[Callable]] = []
        self.after: list[list[Callable]] = []

    def around(self, module: Any, inputs: tuple, named: dict) -> Any:
        """`module.forward` with its hooks: each sees what the one before it returned."""
        for (hook,) in tuple(self.before):
            changed = hook(module, inputs)
            if changed is not None:
                inputs = changed if isinstance(changed, tuple) else (changed,)
        output = module.forward(*inputs, **named)
        for (hook,) in tuple(self.after):
            changed = hook(module, inputs, output)
            if changed is not None:
                output = changed
        return output


# --- modules made of modules, in order or by name ---


class ModuleList(Module):
    """A list of modules whose weights are named "0.weight", "1.weight", ...; it has no forward.

    Args:
        modules: the parts, in order.

    Example:
        >>> from tinytorch import nn
        >>> blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
        >>> len(blocks), [name for name, _ in blocks[:2].named_parameters()]
        (3, ['0.weight', '0.bias', '1.weight', '1.bias'])
    """

    _named_by_place = "_parts"

    def __init__(self, modules: Iterable[Module] = ()):
        self._parts = list(modules)

    def append(self, module: Module) -> ModuleList:
        """Add a module at the end; returns self."""
        return self.insert(len(self._parts), module)

    def extend(self, modules: Iterable[Module]) -> ModuleList:
        """Add modules at the end; returns self."""
        for module in modules:
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> ModuleList:
        """Put a module before the one at `index`; returns self."""
        parts = list(self._parts)
        parts.insert(index, module)
        self._parts = parts  # assigned, not changed in place: compiled functions notice
        return self

    def __setitem__(self, index: int, module: Module) -> None:
        parts = list(self._parts)
        parts[index] = module
        self._parts = parts

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator:
        return iter(self._parts)

    def __getitem__(self, index):
        return type(self)(self._parts[index]) if isinstance(index, slice) else self._parts[index]


def _set_mode(module: Module, mode: bool) -> None:
    """Set `training` of one module; compiled functions are told."""
    if module.training is not mode:
        object.__setattr__(module, "training", mode)
        MODES.flip(module)


@contextmanager
def evaluating(*models: Module) -> Generator[None, None, None]:
    """Within the block models are in evaluation mode; behind it each part is in the mode it had."""
    modes = {part: part.training for model in models for part in model.modules()}
    try:
        for model in models:
            model.eval()
        yield
    finally:
        for part, mode in modes.items():
            _set_mode(part, mode)


class Sequential(ModuleList):
    """Parts called one after the other, each on what the one before returned.

    Args:
        parts: modules and plain callables, as arguments or as one list. A callable keeps its place
            in the numbering, so names are those of PyTorch.

    Example:
        >>> import tinytorch as tt
        >>> from tinytorch import nn
        >>> net = nn.Sequential(nn.Linear(4, 3), tt.tanh, nn.Linear(3, 2))
        >>> net(tt.zeros(5, 4)).shape, [name for name, _ in net.named_parameters()]
        ((5, 2), ['0.weight', '0.bias', '2.weight', '2.bias'])
    """

    def __init__(self, *parts):
        if len(parts) == 1 and isinstance(parts[0], (list, tuple)):
            parts = tuple(parts[0])
        for i, part in enumerate(parts):
            if not callable(part):
                raise SettingError(
                    f"Sequential: part {i} cannot be called",
                    got=type(part).__name__,
                    rule="modules and callables, as arguments or as one list",
                    fix="Sequential(Linear(4, 3), ReLU())",
                )
        super().__init__(parts)

    def forward(self, x):
        """Apply the parts in order."""
        for part in self._parts:
            x = part(x)
        return x

    def __repr__(self) -> str:
        parts = (
            repr(p) if isinstance(p, Module) else getattr(p, "__name__", repr(p))
            for p in self._parts
        )
        lines = (f"  ({i}): " + text.replace("\n", "\n  ") for i, text in enumerate(parts))
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])


class ModuleDict(Module):
    """Modules by name, whose weights are called "name.weight"; it has no forward.

    Args:
        modules: name -> module, in order; names are words without dots.

    Example:
        >>> from tinytorch import nn
        >>> heads = nn.ModuleDict({"mean": nn.Linear(4, 2), "spread": nn.Linear(4, 2)})
        >>> list(heads), [name for name, _ in heads.named_parameters()][:2]
        (['mean', 'spread'], ['mean.weight', 'mean.bias'])
    """

    _named_by_place = "_parts"

    def __init__(self, modules: Mapping[str, Module] | None = None):
        self._parts: dict[str, Module] = {}
        for name, module in (modules or {}).items():
            self[name] = module

    def __setitem__(self, name: str, module: Module) -> None:
        if not isinstance(name, str) or not name or "." in name or not isinstance(module, Module):
            raise SettingError(
                "ModuleDict: this cannot be a part",
                got=f"{name!r}: {type(module).__name__}",
                rule="a name without dots, and a module",
                fix='ModuleDict({"head": Linear(4, 2)})',
            )
        self._parts = {**self._parts, name: module}  # assigned: compiled functions notice

    def __delitem__(self, name: str) -> None:
        self[name]  # a KeyError, if there is none
        self._parts = {n: m for n, m in self._parts.items() if n != name}

    def __getitem__(self, name: str) -> Module:
        return self._parts[name]

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._parts.keys()

    def values(self) -> Iterable[Module]:
        """The parts."""
        return self._parts.values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """Names and parts."""
        return self._parts.items()
