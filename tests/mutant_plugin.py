"""A plugin for pytest, loaded by scripts/mutants alone: which test executes which line.

Knows two variables of the environment. MUTANTS_MAP: a file to write {"seconds": of each test,
"failed": tests, "lines": {file: {line: numbers of tests}}} to. MUTANTS_ORDER: a file with tests to
run first, in that order, and tests to leave out.
"""

import json
import os
from pathlib import Path

PACKAGE = Path("tinytorch").resolve()


class Mapping:
    """Measures which lines each test executes, for itself."""

    def __init__(self, path):
        import coverage

        self.path, self.seconds, self.failed = path, {}, []
        self.coverage = coverage.Coverage(
            data_file=None, source=[str(PACKAGE)], config_file=False, context="import"
        )
        self.coverage.start()

    def pytest_runtest_logstart(self, nodeid, location):
        self.coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report):
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.failed and report.nodeid not in self.failed:
            self.failed.append(report.nodeid)

    def pytest_sessionfinish(self):
        self.coverage.stop()
        data = self.coverage.get_data()
        number = {name: i for i, name in enumerate(self.seconds)}
        lines = {}
        for file in data.measured_files():
            lines[Path(file).relative_to(PACKAGE).as_posix()] = {
                line: sorted({number[c.rpartition("|")[2]] for c in tests
                              if c.rpartition("|")[2] in number})
                for line, tests in data.contexts_by_lineno(file).items()
            }  # fmt: skip
        text = json.dumps({"seconds": self.seconds, "failed": self.failed, "lines": lines})
        Path(self.path).write_text(text)


class Order:
    """Runs the tests most likely to notice a change before the others."""

    def __init__(self, path):
        given = json.loads(Path(path).read_text())
        self.place = {name: i for i, name in enumerate(given["first"])}
        self.left_out = set(given["left_out"])

    def pytest_collection_modifyitems(self, items):
        last = len(self.place)
        items[:] = [item for item in items if item.nodeid not in self.left_out]
        items.sort(key=lambda item: self.place.get(item.nodeid, last))


def pytest_configure(config):
    for variable, plugin in (("MUTANTS_MAP", Mapping), ("MUTANTS_ORDER", Order)):
        if path := os.environ.get(variable):
            config.pluginmanager.register(plugin(path))
