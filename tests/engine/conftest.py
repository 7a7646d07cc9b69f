"""Figures that the tests measure, shown at the end of the run."""

from __future__ import annotations

import pytest


class Figures:
    """What was measured, a line each."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, line: str) -> None:
        """Show this line at the end."""
        self.lines.append(line)


_FIGURES = Figures()


@pytest.fixture(scope="session")
def figures() -> Figures:
    """The figures of this run."""
    return _FIGURES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print them."""
    for line in _FIGURES.lines:
        terminalreporter.write_line(line)
