"""Ground truth: the kept results. The pages show what they say, to the digit."""

import pytest

from benchmarks.table import PAGES, section


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_page_shows_the_kept_results(page):
    """Ground truth: benchmarks/results/*.json, printed by the program that makes the tables."""
    assert section(page.read_text()) == PAGES[page](), "run: python -m benchmarks table --write"
