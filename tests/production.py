"""Run every test of what an operations team relies on, and print a table of what was checked: `make production-check`.

SHORT=1 leaves out what starts a whole system (`make test` runs those, too): files alone are checked then.
"""

import os
import sys
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
# What is checked, by whom: patterns of test files below tests/.
AREAS = {
    "images and compose files": ("*/test_compose*.py",),
    "the edge's configuration": ("*/test_edge*.py",),
    "Kubernetes manifests": ("*/test_k8s*.py", "*/test_kubernetes*.py", "*/test_kustomize*.py"),
    "metrics and their table": ("unit/test_metrics*.py",),
    "rules, scrape configuration, routes": ("unit/test_monitoring*.py",),
    "every alert, fired for real": ("acceptance/test_alerts.py",),
    "dashboards": ("unit/test_dashboards.py",),
    "every panel's query and runbook's command": ("acceptance/test_monitoring.py",),
    "backup and restore": ("acceptance/test_backup.py",),
}
WHOLE_SYSTEM = "acceptance/"


class Outcomes:
    """Counts what pytest says, by area."""

    def __init__(self, areas: dict[Path, str]) -> None:
        self._areas = areas
        self.counts: dict[str, Counter[str]] = {area: Counter() for area in areas.values()}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":  # a set-up that fails or skips says so itself
            self.counts[self._areas[ROOT / report.location[0]]][report.outcome] += 1


def files_of(short: bool) -> dict[str, list[Path]]:
    """The test files of each area."""
    found = {area: [path for glob in globs for path in (ROOT / "tests").glob(glob)] for area, globs in AREAS.items()}
    if short:
        found = {area: [path for path in paths if WHOLE_SYSTEM not in str(path)] for area, paths in found.items()}
    return found


def main() -> int:
    """Run, print, and give pytest's exit code."""
    short = os.environ.get("SHORT", "") not in ("", "0")
    files = files_of(short)
    outcomes = Outcomes({path: area for area, paths in files.items() for path in paths})
    code = pytest.main(["-q", *(str(path) for paths in files.values() for path in paths)], plugins=[outcomes])
    table = Table("checked", "passed", "failed", "skipped", title="Production check", title_justify="left")
    total: Counter[str] = Counter()
    for area, paths in files.items():
        counts = outcomes.counts.get(area, Counter())
        total += counts
        cells = [str(counts[outcome]) for outcome in ("passed", "failed", "skipped")]
        table.add_row(area, *(cells if paths else ["left out: SHORT=1" if short else "no test", "", ""]))
    Console().print(table)
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
