"""A real Prometheus watches a running system under load: every panel shows something, every metric is documented, and
every command of the runbooks runs."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from bench.publisher.bodies import Bodies
from bench.publisher.sender import Sender, varied_sizes
from ops.grafana.__main__ import FOLDER
from ops.metrics_table import described
from tests.support.collecting import publish
from tests.support.events import facebook, message, tiktok
from tests.support.prometheus import Prometheus, watched
from tests.support.runbooks import commands, environment, run
from tests.support.system import System, running
from tests.support.tools import require_tool
from tests.support.waiting import eventually

# The dashboard Reports queries PostgreSQL: tests/integration/test_report_dashboard.py.
DASHBOARDS = {
    path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json")) if path.stem != "reports"
}
# What Grafana puts in. The window is short because the load is.
OURS = re.compile(r"(sluice|gateway|collector|reporter)_")
VARIABLES = {"$__rate_interval": "20s", "$__range": "1m", "$source": ".*", "$instance": ".*"}


def queries(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every query of a dashboard with where it stands: its panels', its variables', its annotations'."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield f"{dashboard['title']}, {panel['title']}, {target['refId']}", filled(target["expr"])


def filled(expression: str) -> str:
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, expression
    return expression


async def load(system: System) -> None:
    """Some seconds of the publisher's load, with what is rare in it, and reports being read."""
    sender = Sender(
        system.services.endpoint,
        Bodies("dashboards", corrupt_share=1.0),
        sizes=varied_sizes("dashboards", 200, 1_000),
        every_seconds=0.25,
    )
    sending = asyncio.create_task(sender.run(seconds=5))
    repeated = facebook()
    while not sending.done():
        await system.post([repeated, tiktok()])
        for report in ("events", "revenue", "demographics"):
            await system.get(f"/reports/{report}", **{"from": "2026-01-01", "to": "2026-01-02"})
        await publish(system.client, "tiktok", message(tiktok(), b'{"eventId": "past the gateway"}'))
        await asyncio.sleep(0.5)  # a rate, not a wait
    await sending


@pytest.fixture(scope="module")
async def watching() -> AsyncIterator[tuple[System, Prometheus]]:
    """A system that had some load, and its Prometheus."""
    for tool in ("prometheus", "promtool", "curl"):
        require_tool(tool)
    async with running(GATEWAY_WORKERS="2") as system, watched(system) as prometheus:
        await prometheus.scrapes_everything()
        await load(system)
        yield system, prometheus


async def test_every_panel_shows_something(watching: tuple[System, Prometheus]) -> None:
    """No query of any panel comes back empty, and none is wrong; so for variables and annotations."""
    _, prometheus = watching
    empty = {where: query for dashboard in DASHBOARDS.values() for where, query in queries(dashboard)}
    assert len(empty) > 80

    async def all_answered() -> bool:
        for where, query in list(empty.items()):
            if await prometheus.query(query):
                del empty[where]
        return not empty

    with contextlib.suppress(AssertionError):
        await eventually(all_answered, what="every panel shows something", seconds=30, every=1.0)
    assert not empty
    await variables_and_annotations(prometheus)


async def test_what_is_exposed_is_documented(watching: tuple[System, Prometheus]) -> None:
    """The services expose what docs/metrics.md says: names, types, meanings and labels."""
    await metrics_are_documented(watching[1])


async def test_every_command_of_the_runbooks_runs(watching: tuple[System, Prometheus]) -> None:
    """None fails, whatever page it stands on. Two at a time; what changes something comes after what looks."""
    system, prometheus = watching
    found = commands()
    assert len(found) > 60
    await system.until_stored()
    around = environment(system, prometheus.url)
    room = asyncio.Semaphore(2)

    async def one(command: str, page: str) -> None:
        async with room:
            await run(command, around, page)

    looking = {
        command: page for command, page in found.items() if not command.startswith(("sluice ", "python -m ops "))
    }
    await asyncio.gather(*(one(command, page) for command, page in looking.items()))
    for command, page in found.items():
        if command not in looking:
            await run(command, around, page)


async def variables_and_annotations(prometheus: Prometheus) -> None:
    """What variables offer is there, and Prometheus takes the annotations' queries."""
    for dashboard in DASHBOARDS.values():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
                assert found
                assert await prometheus.query(f"group by ({found[2]}) ({found[1]})"), variable["query"]
        for annotation in dashboard["annotations"]["list"]:
            if "expr" in annotation:
                await prometheus.query(annotation["expr"])


async def metrics_are_documented(prometheus: Prometheus) -> None:
    """What the services expose is what docs/metrics.md says: names, types and labels."""
    documented = {metric.name: metric for metric in described()}
    exposed = await prometheus.get("metadata")
    ours = {name: reported for name, reported in exposed.items() if OURS.match(name)}
    assert {name for name in ours if not name.endswith("_info")} <= set(documented)
    for name, (reported, *_) in ours.items():
        assert reported["type"] == documented[name].metric_type, name
        assert reported["help"] == documented[name].meaning, name
    for name, metric in documented.items():
        series = await prometheus.query(f"{name}_count" if metric.metric_type == "histogram" else name)
        assert series, f"{name} is documented and no one exposes it"
        for labels, _ in series:
            # No label of ours is the target's, too: Prometheus would report it as exported_…
            of_target = {"__name__", "job", "instance", "service"}
            assert set(labels) - of_target == set(metric.labels), name
