"""How does it get smaller? Weights of 8 or 4 bits in the place of float32.

Knows modules and their weights, never what a model is for. A compressed model is the same model:
it is called, compiled, saved and loaded as before.
"""

from tinytorch.base.arguments import explain_all as _explain_all
from tinytorch.base.unknown_names import names_of as _names_of
from tinytorch.compression.apply import (
    apply_acceleration,
    apply_caching,
    apply_quantization,
    fine_tune_optimizations,
)
from tinytorch.compression.averaging import (
    Ensemble,
    WeightAverage,
    average_weights,
    refresh_batch_norm,
)
from tinytorch.compression.distill import distill, distillation_loss
from tinytorch.compression.fake import FakeQuantizedWeight
from tinytorch.compression.fine_tune import fine_tune
from tinytorch.compression.observe import Observer
from tinytorch.compression.quantize import bytes_of, fake_quantize, quantize

__all__ = [
    "Ensemble", "FakeQuantizedWeight", "Observer", "WeightAverage", "apply_acceleration",
    "apply_caching", "apply_quantization", "average_weights", "bytes_of", "distill",
    "distillation_loss", "fake_quantize", "fine_tune", "fine_tune_optimizations", "quantize",
    "refresh_batch_norm",
]  # fmt: skip

_explain_all(globals(), __all__)
__getattr__ = _names_of("compression", lambda: __all__)
