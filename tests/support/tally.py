"""What fault tests tried and found, added up over a whole run: any test may use the fixture `tally`.

    tally.count(kills=1, bad_inputs=12)             added to what others counted
    tally.most(recovery_seconds_max=1.7)            the largest of all counts

The figures travel with a test's report, so that they add up in one place when tests run in several processes. At the
end of the run they are printed by file; where SLUICE_FAULTS_REPORT names a file, they go there as JSON, too.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest

PROPERTY: Final = "tally"
COUNTED: Final = ("kills", "events", "lost", "doubled", "altered", "unknown", "bad_inputs")
MOST: Final = ("recovery_seconds_max", "rss_bytes_max")
REPORT: Final = "SLUICE_FAULTS_REPORT"

Figures = dict[str, float]


class Tally:
    """The figures of one test."""

    def __init__(self, properties: list[tuple[str, object]]) -> None:
        self._figures: Figures = {}
        properties.append((PROPERTY, self._figures))

    def count(self, **more: int) -> None:
        """Add to `kills`, `events`, `lost`, `doubled`, `altered`, `unknown` or `bad_inputs`."""
        assert set(more) <= set(COUNTED), more
        _add(self._figures, more)

    def most(self, **figures: float) -> None:
        """Keep the largest `recovery_seconds_max` and `rss_bytes_max` seen."""
        assert set(figures) <= set(MOST), figures
        _add(self._figures, figures)


def _add(total: Figures, more: Figures | dict[str, int]) -> None:
    for name, figure in more.items():
        total[name] = max(total.get(name, 0), figure) if name in MOST else total.get(name, 0) + figure


def by_file(reports: Iterable[Any]) -> dict[str, Figures]:
    """The figures of finished tests, added up by the file that a test stands in."""
    files: dict[str, Figures] = defaultdict(dict)
    for report in reports:
        if getattr(report, "when", None) == "teardown":  # it comes once for each test, and last
            for name, figures in report.user_properties:
                if name == PROPERTY and figures:
                    _add(files[report.nodeid.partition("::")[0]], figures)
    return dict(sorted(files.items()))


def summarize(terminal: pytest.TerminalReporter) -> None:
    """Print the figures and write them to the file that SLUICE_FAULTS_REPORT names."""
    files = by_file(report for reports in terminal.stats.values() for report in reports)
    if not files:
        return
    total: Figures = dict.fromkeys((*COUNTED, *MOST), 0)
    for figures in files.values():
        _add(total, figures)
    terminal.section("faults")
    terminal.write_line(_line("", {name: name.removesuffix("_max") for name in total}))
    for file, figures in [*files.items(), ("all", total)]:
        terminal.write_line(_line(Path(file).stem, {name: _shown(name, figures.get(name, 0)) for name in total}))
    if path := os.environ.get(REPORT):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps({name: round(figure, 2) for name, figure in total.items()}, indent=2) + "\n")


def _shown(name: str, figure: float) -> str:
    if name == "rss_bytes_max":
        return f"{figure / 1e6:,.0f} MB" if figure else "-"
    return f"{figure:,.1f}" if name in MOST and figure else f"{figure:,.0f}" if figure else "-"


def _line(first: str, cells: dict[str, str]) -> str:
    return f"{first:42}" + "".join(
        f"{cell:>{max(11, len(name.removesuffix('_max')) + 2)}}" for name, cell in cells.items()
    )
