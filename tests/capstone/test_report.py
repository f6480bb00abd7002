"""The report: its headings, and that what it says are the numbers it was given."""

import pytest

from tests.capstone.test_findings import made
from tinytorch import capstone
from tinytorch.capstone.measurement import Measurement

# The founding documents, heading by heading: of 16_capstone/README.md, then of module 20.
SECTIONS = {
    "Executive Summary": (
        "Problem statement and motivation", "Key technical achievements",
        "Performance improvements achieved", "Engineering insights gained",
    ),
    "Technical Approach": (
        "Architecture and design decisions", "Implementation methodology",
        "Tools and techniques used", "Alternative approaches considered",
    ),
    "Results & Analysis": (
        "Quantitative performance improvements", "Benchmark comparisons (before/after)",
        "Trade-off analysis (speed vs memory vs complexity)", "Limitations and future work",
    ),
    "Engineering Reflection": (
        "What you learned about framework design", "Most challenging technical decisions",
        "How your work fits into broader ML systems",
    ),
}  # fmt: skip
MODULE_20 = ("Problem statement and approach", "Baseline vs optimized metrics",
             "Optimization journey and decisions", "Lessons learned")  # fmt: skip

BEFORE = Measurement(90.0, 20.0, 9_000_000, 4_000_000, 80_000_000, "a" * 12)
AFTER = Measurement(74.5, 0.5, 500_000, 100_000, 8_000_000, "b" * 12)


def test_every_heading_of_the_documents_in_its_section(tmp_path):
    """Ground truth: the documents' lists."""
    text = capstone.write_technical_report(BEFORE, AFTER, path=tmp_path / "capstone_report.md")
    assert text == (tmp_path / "capstone_report.md").read_text()
    assert text.startswith("# Performance Ninja: Optimized CIFAR-10 Trainer\n")
    for section, headings in SECTIONS.items():
        part = text.split(f"\n## {section}\n")[1].split("\n## ")[0]
        assert all(f"\n### {heading}\n" in part for heading in headings)
    assert all(f"\n### {heading}\n" in text for heading in MODULE_20)
    bodies = text.split("\n### ")[1:]
    assert all(body.partition("\n")[2].split("\n## ")[0].strip() for body in bodies)


def test_the_numbers_are_those_that_were_measured(tmp_path):
    """Closed form: 20 / 0.5 ms, 4 / 0.1 MB, 80 / 8 MFLOP; 74.5 % is below 75."""
    text = capstone.write_technical_report(BEFORE, AFTER, path=tmp_path / "report.md")
    assert "40.0x faster" in text and "40.0x smaller" in text and "10.0x less arith" in text
    assert "-15.50 points" in text and "3 of 4 targets are met" in text
    assert "| accuracy_target | >= 75 % | 90 % | 74.5 % | **not met** |" in text
    assert "| model_size | < 10 MB | 4 MB | 0.1 MB | met |" in text
    assert text.count("Not measured") >= 3, "what was not measured is said to be missing"


def test_targets_may_be_given_or_be_the_last_measurement(tmp_path):
    """Ground truth: the founding document calls it with `metrics`, once the targets, once what
    evaluate gave last."""
    easy = {"accuracy_target": 70.0}
    text = capstone.write_technical_report(BEFORE, AFTER, easy, path=tmp_path / "a.md")
    assert "1 of 1 targets are met" in text and "inference_time" not in text
    text = capstone.write_technical_report(BEFORE, None, AFTER, path=tmp_path / "b.md")
    assert "74.5 %" in text


def test_findings_fill_the_tables(tmp_path):
    """Ground truth: the findings: a row for each set of steps, the step that gains nothing."""
    found = made()
    found.package = {
        "accuracy": 90.0, "pictures": 500, "milliseconds": 0.25, "library_bytes": 123_000,
        "process_bytes": None, "target": "avx2",
    }  # fmt: skip
    text = capstone.write_technical_report(None, None, path=tmp_path / "r.md", findings=found)
    assert "Not measured" not in text
    assert "| + quantisation | 90.00 | 4.000 | 8.00x |" in text
    assert "| all but pruning | 90.00 | 8.000 | 4.00x |" in text
    assert "| 100.0% | 1000.0 | convolution | fp32 | 50% | pruning |" in text
    assert "quantisation: 2.00 times as fast as the row before" in text
    assert "0.250 ms each" in text and "no shared library was linked" in text
    found.package["process_bytes"] = 9_700_000
    text = capstone.write_technical_report(None, None, path=tmp_path / "r.md", findings=found)
    assert "holds 9.7 MB" in text


@pytest.mark.parametrize("track", ["Systems Engineer"])
def test_another_track(tmp_path, track):
    """Ground truth: the title."""
    text = capstone.write_technical_report(BEFORE, AFTER, path=tmp_path / "r.md", track=track)
    assert text.startswith(f"# {track}: ")
