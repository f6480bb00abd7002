"""Measurements against other frameworks, each reproduced by one command.

    python -m benchmarks mlp             a training step of a small network
    python -m benchmarks all             every case

Knows both sides by their public interfaces; the package never imports it. Beside the cases
(`cases/`, rows kept by `kept_rows`) stand the kept runs of training (`runs/`, findings kept by
`record`), the kernel laboratory, and small tables, each a command of its own: `layout`,
`operation_cost`, `compile_time`, `course`, `operator_samples`.
"""

from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"  # everything that is kept
