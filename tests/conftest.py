"""What all tests share: which of them need files that this machine may not have.

A test marked `data` reads the official files of a data set from the folder TINYTORCH_DATA. Without
that folder such tests are left out at collection and counted as deselected; they are never skipped
in the middle, and every rule they check also has a test on made files.
"""

import os
from pathlib import Path

import pytest


def pytest_report_header():
    folder = os.environ.get("TINYTORCH_DATA")
    return f"official data files: {folder or 'none (TINYTORCH_DATA is not set; left out: -m data)'}"


def pytest_collection_modifyitems(config, items):
    if os.environ.get("TINYTORCH_DATA"):
        return
    left_out = [item for item in items if item.get_closest_marker("data")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def official_data():
    """The folder with the official files."""
    return Path(os.environ["TINYTORCH_DATA"])
