"""A real Prometheus that scrapes a running system every second, and what it knows.

async with watched(system) as prometheus:
    await prometheus.query('sum(up)')            samples as (labels, value)
    await prometheus.fired()                     names of alerts that fired at any time
"""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from ops.local.monitoring import RULES, start_monitoring
from tests.support.system import System
from tests.support.tools import require_tool
from tests.support.waiting import eventually


class Prometheus:
    """One Prometheus, asked over its HTTP interface."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self.url = url
        self._http = http

    async def get(self, path: str, **query: str) -> Any:
        """The data of an answer; fails with Prometheus's own words."""
        answer = await self._http.get(f"{self.url}/api/v1/{path}", params=query)
        assert answer.status_code == 200, f"{query}: {answer.text}"
        return answer.json()["data"]

    async def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The samples of an instant query."""
        found = (await self.get("query", query=expression))["result"]
        return [(sample["metric"], float(sample["value"][1])) for sample in found]

    async def fired(self) -> set[str]:
        """Every alert that has fired since the start."""
        found = await self.query('group by (alertname) (last_over_time(ALERTS{alertstate="firing"}[1h]))')
        return {labels["alertname"] for labels, _ in found}

    async def scrapes_everything(self) -> None:
        """Wait until each target answered."""

        async def down() -> bool:
            targets = (await self.get("targets", state="active"))["activeTargets"]
            return bool(targets) and all(target["health"] == "up" for target in targets)

        await eventually(down, what="every target is up", seconds=60)


def alert_rules() -> dict[str, dict[str, Any]]:
    """The alerts by name, as they are written."""
    groups = yaml.safe_load((RULES / "alerts.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


@asynccontextmanager
async def watched(system: System, listed: Mapping[str, int] | None = None) -> AsyncIterator[Prometheus]:
    """Prometheus over this system, with our rules except their patience: an alert fires with its first bad round."""
    require_tool("prometheus")
    rules = system.folder / "rules"
    await asyncio.to_thread(_impatient, rules)
    url = await start_monitoring(system.servers, system.services, {}, rules=rules, every="1s", listed=listed)
    async with httpx.AsyncClient(timeout=30) as http:
        yield Prometheus(url, http)


def _impatient(rules: Path) -> None:
    shutil.copytree(RULES, rules)
    alerts = rules / "alerts.yml"
    alerts.write_text(re.sub(r"\n +for: \w+", "", alerts.read_text()))
