"""EMA: a slowly moving average of the weights, which often predicts better than the newest ones.

Knows named Tensors of a model, never what it computes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from tinytorch.base.checks import number
from tinytorch.base.dtypes import float64
from tinytorch.nn.module import Module
from tinytorch.tensor.assignment import copy_named
from tinytorch.tensor.creation import full
from tinytorch.tensor.interpreter import no_grad
from tinytorch.tensor.tensor import Tensor


class EMA:
    """The exponential moving average of a model's parameters and saved buffers.

    After update number t = 0, 1, 2, ...

        d = min(decay, (1 + t) / (10 + t))       young averages follow quickly
        average = d * average + (1 - d) * weight

    Whole-number buffers are copied.

    Args:
        model: whose weights are averaged; the average begins at their present values.
        decay: how much of the past stays, in [0, 1); default 0.999.

    Cost: one extra array for each weight; 2 reads and 1 write a weight and step.

    Source: Polyak & Juditsky 1992; the warm-up (1 + t) / (10 + t) is that of TensorFlow's
    `tf.train.ExponentialMovingAverage(num_updates)`.

    Example:
        >>> import tinytorch as tt
        >>> model = tt.nn.Linear(1, 1, bias=False)
        >>> _ = model.weight.detach()
        >>> with tt.no_grad():
        ...     _ = model.weight.fill_(0.0)
        >>> ema = EMA(model, decay=0.9)
        >>> with tt.no_grad():
        ...     _ = model.weight.fill_(1.0)
        >>> ema.update()                        # d = 1 / 10
        >>> ema.averages["weight"].item().__round__(3)
        0.9
    """

    def __init__(self, model: Module, decay: float = 0.999):
        self.decay = number("EMA", "decay", decay, "[0, 1)")
        self.updates = full((), 0.0, dtype=float64)
        saved = model.state_dict().keys()  # tables that are not saved are not state either
        named = (*model.named_parameters(), *model.named_buffers())
        self._live = {name: tensor for name, tensor in named if name in saved}
        self.averages = {name: Tensor(tensor.detach()) for name, tensor in self._live.items()}

    def update(self) -> None:
        """Take the present weights in."""
        with no_grad():
            t = self.updates
            keep = ((t + 1.0) / (t + 10.0)).minimum(self.decay)
            for name, live in self._live.items():
                average, new = self.averages[name], live.detach()
                if new.dtype.is_float:
                    d = keep.astype(new.dtype)
                    new = average * d + new * (1.0 - d)
                average.assign_(new)
            self.updates.assign_(t + 1.0)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model has the averages; afterwards its own weights again."""
        own = {name: Tensor(tensor.detach()) for name, tensor in self._live.items()}
        self._give(self.averages)
        try:
            yield
        finally:
            self._give(own)

    def _give(self, values: Mapping[str, Tensor]) -> None:
        with no_grad():
            for name, live in self._live.items():
                live.assign_(values[name])

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by name, and "updates"."""
        averages = {f"average.{name}": t.detach() for name, t in self.averages.items()}
        return {"updates": self.updates.detach(), **averages}

    def load_state_dict(self, state: Mapping) -> None:
        """Copy what `state_dict` of the same model's average gave."""
        own = {f"average.{name}": t for name, t in self.averages.items()}
        copy_named({"updates": self.updates, **own}, state, owner="EMA")
