"""Counters and histograms exist before their first event: rate() does not see a series that begins with one."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase

import collector.metrics
import gateway.metrics
import reporter.metrics  # noqa: F401
from gateway import answer

BEGUN = "a-source"


@pytest.fixture(scope="module", autouse=True)
def collector_begins() -> None:
    """A collector of a source that no other test has."""
    collector.metrics.initialize(BEGUN)


def counts(service: str) -> list[MetricWrapperBase]:
    return [
        metric
        for metric in REGISTRY._collector_to_names
        if isinstance(metric, Counter | Histogram) and metric._name.startswith(service)
    ]


def labels(metric: MetricWrapperBase) -> list[dict[str, str]]:
    (family,) = metric.collect()
    return [sample.labels for sample in family.samples]


@pytest.mark.parametrize("metric", counts("collector_"), ids=lambda metric: metric._name)
def test_a_collector_shows_all_of_its_source(metric: MetricWrapperBase) -> None:
    """Each counter and histogram of a collector has its source's series when the collector begins."""
    assert BEGUN in {of.get("source") for of in labels(metric)}


@pytest.mark.parametrize("metric", counts("gateway_") + counts("reporter_"), ids=lambda metric: metric._name)
def test_gateway_and_reporter_show_all(metric: MetricWrapperBase) -> None:
    """Each counter and histogram of gateway and reporter has a series when the service begins."""
    assert labels(metric)


def test_no_status_of_the_gateway_is_missing() -> None:
    """A request with any status of the gateway's own answers can be counted."""
    statuses = {status for status, _ in answer.REJECTIONS.values()} - {404, 405}  # of other pages
    assert gateway.metrics.requests.keys() == statuses | {202, 422, 500, 503}
