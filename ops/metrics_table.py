"""Write the table in docs/metrics.md from the metric objects of the services.

`python -m ops.metrics_table` writes the page; a test checks that it is up to date.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

# The imports register the metrics.
import collector.metrics  # noqa: F401
import core.metrics  # noqa: F401
import gateway.metrics  # noqa: F401
import reporter.metrics  # noqa: F401

PAGE: Final = Path(__file__).parents[1] / "docs" / "metrics.md"
BEGIN: Final = "<!-- table: python -m ops.metrics_table -->\n"
_OURS: Final = ("sluice_", "gateway_", "collector_", "reporter_")
END: Final = "<!-- end of table -->\n"


class Described(NamedTuple):
    """A metric with the name under which it is exposed."""

    name: str
    metric_type: str
    labels: tuple[str, ...]
    meaning: str


def described() -> list[Described]:
    """Return every metric of the services, by name."""
    known = [metric for metric in REGISTRY._collector_to_names if isinstance(metric, MetricWrapperBase)]
    return sorted(metric for metric in map(_describe, known) if metric.name.startswith(_OURS))


def table() -> str:
    """Return the table in Markdown."""
    rows = ["| name | type | labels | meaning |\n", "| --- | --- | --- | --- |\n"]
    for metric in described():
        labels = " ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.name}` | {metric.metric_type} | {labels} | {metric.meaning} |\n")
    return "".join(rows)


def page() -> str:
    """Return docs/metrics.md with the current table."""
    text = PAGE.read_text()
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    return f"{before}{BEGIN}{table()}{END}{after}"


def _describe(metric: MetricWrapperBase) -> Described:
    (family,) = metric.describe()
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return Described(name, family.type, tuple(metric._labelnames), family.documentation)


if __name__ == "__main__":
    PAGE.write_text(page())
