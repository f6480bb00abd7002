"""How does a model become small, fast and told of? Baseline, steps, ablation, package, report.

Knows a challenge (a problem with data, a network and targets) and the order of things; how each
step is done is in `compression`, `export` and `compiler`. The template for one's own challenge is
`Challenge`; see docs/optimising.md.
"""

from tinytorch.base.arguments import explain_all as _explain_all
from tinytorch.base.unknown_names import names_of as _names_of
from tinytorch.capstone.challenge import (
    CHALLENGES,
    CIFAR10,
    DIGITS,
    METRICS,
    STEPS,
    Challenge,
    Target,
    quick,
    targets_of,
)
from tinytorch.capstone.findings import Findings, Row, ablation, journey
from tinytorch.capstone.measurement import Measurement, evaluate
from tinytorch.capstone.profile import Bottleneck, profile_system
from tinytorch.capstone.report import write_technical_report
from tinytorch.capstone.run import run_challenge
from tinytorch.capstone.workshop import Workshop, build_baseline_model

__all__ = [
    "CHALLENGES", "CIFAR10", "DIGITS", "METRICS", "STEPS", "Bottleneck", "Challenge", "Findings",
    "Measurement", "Row", "Target", "Workshop", "ablation", "build_baseline_model", "evaluate",
    "journey", "profile_system", "quick", "run_challenge", "targets_of", "write_technical_report",
]  # fmt: skip

_explain_all(globals(), __all__)
__getattr__ = _names_of("capstone", lambda: __all__)
