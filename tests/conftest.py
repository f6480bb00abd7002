"""What all tests share: which come first, which need files that not every machine has; fixtures.

A test marked `data` reads the official files of a data set from the folder TINYTORCH_DATA. Without
that folder such tests are left out at collection and counted as deselected; they are never skipped
in the middle, and every rule they check also has a test on made files.
"""

import os
from contextlib import contextmanager
from pathlib import Path

import pytest


def pytest_report_header():
    folder = os.environ.get("TINYTORCH_DATA")
    return f"official data files: {folder or 'none (TINYTORCH_DATA is not set; left out: -m data)'}"


def pytest_collection_modifyitems(config, items):
    # Where several processes share the tests, a long one that came last would be waited for.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    strange = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if strange:  # the processes that share the tests would not know them as the same
        raise pytest.UsageError(f"an address in the name of a test, give it another: {strange}")
    if os.environ.get("TINYTORCH_DATA"):
        return
    left_out = [item for item in items if item.get_closest_marker("data")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def by_numpy(monkeypatch):
    """Programs of compiled functions are carried out by their slow definition, NumPy's."""
    from tests.compiler.reference_program import ReferenceProgram

    monkeypatch.setattr(
        "tinytorch.compiler.compile.program_for", lambda graph, target: ReferenceProgram(graph)
    )


@pytest.fixture
def refuses(monkeypatch):
    """Let the nth call of a function of `os` fail: `with refuses("fsync", nth, OSError(...)):`."""

    @contextmanager
    def refusing(name: str, nth: int, problem: OSError):
        real, calls = getattr(os, name), iter(range(1000))

        def failing(*args, **kwargs):
            if next(calls) == nth:
                raise problem
            return real(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(os, name, failing)
            yield

    return refusing


@pytest.fixture
def official_data():
    """The folder with the official files."""
    return Path(os.environ["TINYTORCH_DATA"])
