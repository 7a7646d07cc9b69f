"""docs/metrics.md and the services' metrics are the same."""

import re

from core.events.contract import Reason
from gateway import metrics as gateway
from ops.metrics_table import PAGE, described, page


def test_the_page_holds_every_metric_with_its_type_labels_and_meaning() -> None:
    """The table is what the services' own objects say; `python -m ops.metrics_table` writes it anew."""
    assert PAGE.read_text() == page()


def test_names_keep_to_the_conventions() -> None:
    """The service comes first, a counter ends in _total, times are seconds and sizes bytes."""
    for metric in described():
        assert re.fullmatch(r"(sluice|gateway|collector|reporter)(_[a-z]+)+", metric.name), metric.name
        assert (metric.metric_type == "counter") == metric.name.endswith("_total"), metric.name
        assert not re.search(r"_(ms|milliseconds|kb|mb|minutes)(_|$)", metric.name), metric.name


def test_every_reason_and_status_is_exposed_before_it_first_happens() -> None:
    """A series that appears with its first event would hide that event from rate()."""
    children = gateway._failed._metrics
    assert {key for (key,) in children} == {reason.value for reason in Reason}
