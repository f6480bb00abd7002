"""The page on the design is what its script prints today."""

import importlib.machinery
import importlib.util
import re

from tests.floors import ROOT


def without_machine(text: str) -> str:
    block = r"<!-- of the machine: begin -->.*?<!-- of the machine: end -->"
    return re.sub(block, "<machine>", text, flags=re.S)


def test_the_page_is_true(tmp_path, monkeypatch):
    """Ground truth: running the script; if it differs, run scripts/make_design_page and read."""
    monkeypatch.setenv("TINYTORCH_CACHE", str(tmp_path))
    path = str(ROOT / "scripts/make_design_page")
    loader = importlib.machinery.SourceFileLoader("make_design_page", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    written = (ROOT / "docs/design.md").read_text()
    assert without_machine(module.page()) == without_machine(written)
    assert written.count("of the machine: begin") == 2
