"""The table in docs/metrics.md: every metric of our services, from the very objects that they expose.

`python -m ops.metrics_table` writes it anew; a test holds the page and the services to each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from prometheus_client.metrics import MetricWrapperBase

import collector.metrics
import core.metrics
import gateway.metrics
import reporter.metrics

PAGE: Final = Path(__file__).parents[1] / "docs" / "metrics.md"
BEGIN: Final = "<!-- table: python -m ops.metrics_table -->\n"
END: Final = "<!-- end of table -->\n"


class Described(NamedTuple):
    """One metric; a counter's name is the one it is exposed under."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


def described() -> list[Described]:
    """Every metric of our services, by name."""
    modules = (core.metrics, gateway.metrics, collector.metrics, reporter.metrics)
    return sorted({_describe(metric) for module in modules for metric in _metrics(vars(module).values())})


def table() -> str:
    """The table in Markdown."""
    rows = ["| name | type | labels | meaning |\n", "| --- | --- | --- | --- |\n"]
    for metric in described():
        labels = " ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning} |\n")
    return "".join(rows)


def page() -> str:
    """docs/metrics.md as it has to be."""
    text = PAGE.read_text()
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    return f"{before}{BEGIN}{table()}{END}{after}"


def _metrics(values: Any) -> Iterator[MetricWrapperBase]:
    for value in values:
        if isinstance(value, MetricWrapperBase) and not value._labelvalues:  # not a child
            yield value


def _describe(metric: MetricWrapperBase) -> Described:
    (family,) = metric.describe()
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return Described(name, family.type, tuple(metric._labelnames), family.documentation)


if __name__ == "__main__":
    PAGE.write_text(page())
