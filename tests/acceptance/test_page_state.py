"""What the page says of the system as a whole: never that all is well while requests are turned away."""

import asyncio
import os
import signal

import httpx
import pytest

from ops.cli.pause import pause, resume
from ops.local.flow import Flow, line, table
from tests.support.events import facebook
from tests.support.system import System
from tests.support.waiting import eventually

STREAM_BYTES = 1 << 20
EVENTS = 400  # so many fill a fifth of the stream


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """Streams that a few requests fill."""
    return {"GATEWAY_WORKERS": "1", "STREAM_MAX_BYTES": str(STREAM_BYTES), "REJECTED_STREAM_MAX_BYTES": str(1 << 26)}


async def shown(system: System) -> set[tuple[str, str]]:
    """Part and check of each problem that /pipeline reports."""
    answer = (await system.get("/pipeline")).json()
    assert (answer["level"] == "good") is (answer["problems"] == [])
    return {(problem["part"], problem["check"]) for problem in answer["problems"]}


async def until_shown(system: System, *wanted: tuple[str, str], exactly: bool = True, seconds: float = 30) -> None:
    """Wait until these problems are reported, and no others unless exactly is false."""

    found: set[tuple[str, str]] = set()

    async def is_so() -> bool:
        nonlocal found
        found = await shown(system)
        return found == set(wanted) if exactly else found >= set(wanted)

    try:
        await eventually(is_so, what="/pipeline reports this", seconds=seconds, every=0.2)
    except AssertionError:
        assert found == set(wanted)


async def test_requests_that_are_turned_away(system: System) -> None:
    """A source is paused and its stream fills up: page and table report the pause, the fullness and the 503s."""
    await until_shown(system)
    await pause(system.client, "facebook")
    status = 202
    async with httpx.AsyncClient() as http:
        while status == 202:
            body = [facebook() for _ in range(EVENTS)]
            status = (await http.post(system.services.endpoint, json=body, timeout=60)).status_code
    assert status == 503
    wanted = [("gateway", "requests"), ("facebook", "room in streams"), ("facebook", "paused")]
    await until_shown(system, *wanted)
    flow = Flow(system.supervisor, system.services, system.servers)
    sample = await flow.sample()
    for said in (
        "1 request got 500 or 503 in the last minute",
        "% full; when it is full, requests get 503",
        "facebook is paused",
    ):
        assert said in line(sample, sample)
        assert said in str(table(sample, sample).caption)
    await resume(system.client, "facebook")
    await system.until_stored()
    await until_shown(system, seconds=90)


async def test_a_frozen_nats_is_not_called_well(system: System) -> None:
    """Collectors cannot look at the streams any more: the page says so, and that its figures are stale."""
    pid = system.supervisor.pid("nats")
    os.kill(pid, signal.SIGSTOP)
    try:
        silent = [(source, "collectors") for source in ("facebook", "tiktok", "rejected")]
        await until_shown(system, *silent, ("gateway", "requests"), exactly=False, seconds=60)
        assert (await system.get("/pipeline")).json()["stale"] is True
        sample = await Flow(system.supervisor, system.services, system.servers).sample()
        assert sample.states["nats"] == "does not answer"
    finally:
        os.kill(pid, signal.SIGCONT)
    await until_shown(system, seconds=60)


async def test_a_collector_that_is_gone(system: System) -> None:
    """Of a source without a collector the page says that none reports; with it back, all is well again."""
    await asyncio.gather(system.supervisor.stop("fb-collector"), system.supervisor.stop("rejected-collector"))
    await until_shown(
        system, ("facebook", "collectors"), ("rejected", "collectors"), ("gateway", "requests"),
        exactly=False, seconds=60,
    )  # fmt: skip
    await system.supervisor.start_again("rejected-collector")
    await system.supervisor.start_again("fb-collector")
    await until_shown(system, seconds=60)
