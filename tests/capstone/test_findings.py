"""Which sets of steps are compared, and how findings are kept."""

import json
from types import SimpleNamespace

from tinytorch import capstone
from tinytorch.capstone.findings import FILE, Findings, ablation, journey
from tinytorch.capstone.measurement import Measurement
from tinytorch.capstone.profile import Bottleneck


class Measuring:
    """Stands for a workshop: each step halves the time of the baseline's 32 ms."""

    def __init__(self, steps):
        self.challenge = SimpleNamespace(steps=steps)

    def measure(self, steps=()):
        return Measurement(90.0, 32.0 / 2 ** len(steps), 100, 50, 10, "0" * 12)


STEPS = ("acceleration", "pruning", "quantisation")


def test_the_journey_adds_one_step_at_a_time():
    """Ground truth: the founding document's loop: speedup = baseline_time / optimized_time."""
    said = []
    rows = journey(Measuring(STEPS), said.append)
    assert [row.steps for row in rows] == [STEPS[:i] for i in range(4)]
    assert [s.split("x faster")[0] for s in said[1:]] == [
        "acceleration: 2.0", "pruning: 4.0", "quantisation: 8.0",
    ]  # fmt: skip


def test_the_ablation_has_each_step_alone_and_each_left_out():
    """Ground truth: the sets by hand."""
    rows = {row.label: row.steps for row in ablation(Measuring(STEPS), lambda text: None)}
    assert len(rows) == 1 + 3 + 3 + 1
    assert rows["baseline"] == () and rows["all"] == STEPS
    assert rows["pruning alone"] == ("pruning",)
    assert rows["all but pruning"] == ("acceleration", "quantisation")


def made():
    found = Findings(capstone.DIGITS.settings(), 0, "avx2, 2 threads")
    found.bottlenecks = [Bottleneck("convolution", 1e-3, 1.0, "fp32", 0.5, "pruning")]
    found.after = found.bottlenecks
    found.journey = journey(Measuring(STEPS), lambda text: None)
    found.ablation = ablation(Measuring(STEPS), lambda text: None)
    return found


def test_findings_are_kept(tmp_path):
    """Ground truth: the file, read by Python's own reader."""
    found = made()
    found.save(tmp_path)
    kept = json.loads((tmp_path / FILE).read_text())
    assert kept["seed"] == 0 and kept["challenge"]["name"] == "digits"
    assert [row["label"] for row in kept["journey"]] == [row.label for row in found.journey]
    assert kept["ablation"][-1]["found"]["milliseconds"] == found.final.milliseconds == 4.0
    assert found.final.speedup(found.baseline) == 8.0
