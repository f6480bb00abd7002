"""How does it get smaller? Few bits, many zeros, fewer channels, low rank.

Knows modules and their weights, never what a model is for. A compressed model is the same model:
it is called, compiled, saved and loaded as before.
"""

from tinytorch.base.arguments import explain_all as _explain_all
from tinytorch.base.unknown_names import names_of as _names_of
from tinytorch.compression.apply import (
    apply_acceleration,
    apply_caching,
    apply_pruning,
    apply_quantization,
    fine_tune_optimizations,
)
from tinytorch.compression.averaging import (
    Ensemble,
    WeightAverage,
    average_weights,
    refresh_batch_norm,
)
from tinytorch.compression.channels import prune_channels
from tinytorch.compression.distill import distill, distillation_loss
from tinytorch.compression.factorize import factorize, share_weights
from tinytorch.compression.fake import FakeQuantizedWeight
from tinytorch.compression.fine_tune import fine_tune
from tinytorch.compression.fold import fold_batch_norm
from tinytorch.compression.load import load_compressed
from tinytorch.compression.observe import Observer
from tinytorch.compression.prune import Pruning, prune, scheduled_sparsity, store_sparse
from tinytorch.compression.quantize import bytes_of, fake_quantize, quantize
from tinytorch.compression.replaced import dense, sparsity_of
from tinytorch.compression.report import Report, flops_of, report

__all__ = [
    "Ensemble", "FakeQuantizedWeight", "Observer", "Pruning", "Report", "WeightAverage",
    "apply_acceleration", "apply_caching", "apply_pruning", "apply_quantization", "average_weights",
    "bytes_of", "dense", "distill", "distillation_loss", "factorize", "fake_quantize", "fine_tune",
    "fine_tune_optimizations", "flops_of", "fold_batch_norm", "load_compressed", "prune",
    "prune_channels", "quantize", "refresh_batch_norm", "report", "scheduled_sparsity",
    "share_weights", "sparsity_of", "store_sparse",
]  # fmt: skip

_explain_all(globals(), __all__)
__getattr__ = _names_of("compression", lambda: __all__)
