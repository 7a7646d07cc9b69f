"""Development and staging under an engine: the files as they are, started, loaded and stopped."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from tests.engine.project import NAME, CommandFailed, Project, inspect, project

REACH = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"
POSTS = 6
LOAD = ("--posts", str(POSTS), "--max-events", "20000", "--corrupt-share", "0.5", "--seed", "engine", "--quiet")


@pytest.fixture(scope="module", params=["override", "staging"])
def running(request: pytest.FixtureRequest) -> Iterator[Project]:
    """One environment, healthy."""
    with tempfile.TemporaryDirectory(prefix="sluice-check-") as name, project(request.param, Path(name)) as made:
        Path(name).chmod(0o711)
        made.up()
        yield made


def last_hours() -> dict[str, str]:
    """The range of a report that counts all events of this test."""
    now = datetime.now(UTC)
    return {"from": (now - timedelta(hours=2)).isoformat(), "to": (now + timedelta(hours=2)).isoformat()}


def test_the_publishers_load_is_stored(running: Project) -> None:
    """The stand-in's POSTs are answered 202 by the edge, and the doctor finds nothing; reports count the same."""
    printed = running.compose("run", "--rm", "--no-deps", "stand-in", "python", "-m", "bench.publisher", *LOAD)
    sent, _ = json.JSONDecoder().raw_decode(printed[printed.index("{") :])
    assert sent["answered"] == {"202": POSTS}, sent
    running.settle()
    running.operate("doctor")  # it fails if a check finds something
    assert httpx.get(f"{running.reports}/reports/events", params=last_hours(), timeout=30).status_code == 401
    answer = httpx.get(f"{running.reports}/reports/events", params=last_hours(), auth=running.reader, timeout=30)
    assert answer.status_code == 200, answer.text
    assert sum(row["events"] for row in answer.json()["rows"]) == sent["accepted"]


def test_reports_are_public_only_in_development(running: Project) -> None:
    """The edge serves them there, and answers 404 in staging."""
    url = f"{running.events.removesuffix('/events')}/reports/events"
    answer = httpx.get(url, params=last_hours(), auth=running.reader, timeout=30)
    assert answer.status_code == (404 if running.environment == "staging" else 200), answer.text


def test_every_gateway_takes_a_part(running: Project) -> None:
    """Staging has two gateways, and each answered POSTs."""
    gateways = running.containers("gateway")
    assert len(gateways) == (2 if running.environment == "staging" else 1)
    for gateway in gateways:
        address = gateway["NetworkSettings"]["Networks"][f"{NAME}_ingest"]["IPAddress"]
        metrics = httpx.get(f"http://{address}:8080/metrics", timeout=30).text
        counted = [line for line in metrics.splitlines() if line.startswith("gateway_requests_total{")]
        assert sum(float(line.rpartition(" ")[2]) for line in counted) >= 1, gateway["Name"]


def test_a_sender_reaches_only_the_edge(running: Project) -> None:
    """From the publisher's network no server behind the edge answers, by name or by address."""

    def reach(host: str, port: str) -> None:
        running.compose("run", "--rm", "--no-deps", "stand-in", "python", "-c", REACH, host, port)

    reach("edge", "8080")
    for service, network, port in (("nats", "publish", "4222"), ("postgres", "storage", "5432")):
        for host in (service, running.address(service, network)):
            with pytest.raises(CommandFailed):
                reach(host, port)


def test_everything_stops_in_time(running: Project) -> None:
    """Each service drains and ends by itself within its grace period: the engine kills none."""
    running.compose("stop")
    states = [inspect(name) for name in running.compose("ps", "--all", "--quiet").split()]
    assert {state["Name"]: state["State"]["ExitCode"] for state in states if state["State"]["ExitCode"] == 137} == {}
