"""Figures of fault tests add up over tests, files and processes."""

from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.tally import Tally, by_file


def report(nodeid: str, *figures: dict[str, Any], when: str = "teardown") -> SimpleNamespace:
    """A finished test's report; `figures` are counted one after the other."""
    properties: list[tuple[str, object]] = []
    tally = Tally(properties)
    for each in figures:
        tally.most(**each) if any(name.endswith("_max") for name in each) else tally.count(**each)
    return SimpleNamespace(nodeid=nodeid, when=when, user_properties=properties)


def test_figures_add_up_by_file_and_the_largest_is_kept() -> None:
    """Counts are summed, maxima kept, tests that count nothing left out, and no test is counted twice."""
    found = by_file(
        [
            report("a.py::one", {"kills": 1}, {"kills": 2}, {"recovery_seconds_max": 3.5}),
            report("a.py::two", {"kills": 4}, {"recovery_seconds_max": 1.0}),
            report("a.py::two", {"kills": 4}, when="call"),
            report("b.py::three", {"bad_inputs": 7}),
            report("c.py::four"),
        ]
    )
    assert found == {"a.py": {"kills": 7, "recovery_seconds_max": 3.5}, "b.py": {"bad_inputs": 7}}


def test_a_figure_that_is_not_known_is_reported() -> None:
    """A misspelt figure fails its test instead of vanishing."""
    with pytest.raises(AssertionError):
        Tally([]).count(kils=1)
