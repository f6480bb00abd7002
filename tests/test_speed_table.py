"""Ground truth: the kept results. The README shows what they say, to the digit."""

from benchmarks.table import README, section, table


def test_the_readme_shows_the_kept_results():
    """Ground truth: benchmarks/results/*.json, printed by the program that makes the table."""
    assert section(README.read_text()) == table(), "run: python -m benchmarks.table --write"
