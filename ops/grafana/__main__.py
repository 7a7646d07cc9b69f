"""Write the dashboards: `python -m ops.grafana`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from ops.grafana.capacity import capacity
from ops.grafana.collectors import collectors
from ops.grafana.gateway import gateway
from ops.grafana.overview import overview
from ops.grafana.reporter import reporter
from ops.grafana.reports import reports

FOLDER: Final = Path(__file__).parent / "dashboards"
DASHBOARDS: Final[tuple[Callable[[], Dashboard], ...]] = (overview, gateway, collectors, reporter, capacity, reports)


def rendered() -> dict[str, str]:
    """Return the JSON of each dashboard, by file name."""
    encode = JSONEncoder(sort_keys=True, indent=2).encode
    return {f"{make.__name__}.json": encode(make().build()) + "\n" for make in DASHBOARDS}


if __name__ == "__main__":
    for name, text in rendered().items():
        (FOLDER / name).write_text(text)
