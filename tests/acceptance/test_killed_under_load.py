"""Services end and come back under load, asked and unasked: nothing is lost, nothing counts twice.

Every POST that got no answer, or 503, may be stored once or not at all; the oracle holds the rest to what was answered.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from itertools import repeat

import pytest

from bench.bodies import Bodies
from bench.sender import Sender
from ops.ledger import read_ledger
from ops.local.services import COLLECTORS
from tests.support.system import System
from tests.support.waiting import eventually

EVENTS = 60
EVERY_SECONDS = 0.03  # 2,000 events a second
WELL_AGAIN_SECONDS = 30.0
SERVICES = ("gateway", *COLLECTORS)
ENDS = (signal.SIGTERM, signal.SIGKILL)


@pytest.fixture(scope="module")
async def load(system: System) -> AsyncIterator[Sender]:
    """Small POSTs, many of them corrupt, until the last test of this file."""
    sender = Sender(
        system.services.endpoint,
        Bodies("killed", corrupt_share=0.3, duplicates=0.02),
        repeat(EVENTS),
        every_seconds=EVERY_SECONDS,
        on_answer=system.remember,
    )
    sending = asyncio.create_task(sender.run())
    await goes_on(system, sender)
    yield sender
    sender.stop()
    await sending


async def goes_on(system: System, load: Sender) -> None:
    """New events are accepted, and new events are stored by every collector."""
    accepted = load.tally.answered[202]
    before = await read_ledger(system.client, system.connection)

    async def more() -> bool:
        now = await read_ledger(system.client, system.connection)
        stored = all(now.streams[name].stored > before.streams[name].stored for name in now.streams)
        return stored and load.tally.answered[202] > accepted

    await eventually(more, what="events are accepted and stored again", seconds=WELL_AGAIN_SECONDS)


@pytest.mark.parametrize("how", ENDS, ids=lambda how: how.name)
@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_that_ends_comes_back(system: System, load: Sender, service: str, how: signal.Signals) -> None:
    """Told to end or killed, it is started again and everything goes on. Told to end, it drains first: exit code 0."""
    ended = system.supervisor.kill(service, how)
    await system.supervisor.wait_ready(service, after=ended)
    await goes_on(system, load)
    (death,) = [death for death in system.deaths if death.why.startswith(f"pid {ended},")]
    assert death.name == service
    assert death.why.endswith("exit code 0" if how == signal.SIGTERM else "ended by SIGKILL")


async def test_a_killed_worker_of_the_gateway_comes_back(system: System, load: Sender) -> None:
    """Its parent starts another one, and the gateway itself stays."""
    parent, victim, *others = system.supervisor.pids("gateway")
    os.kill(victim, signal.SIGKILL)

    async def replaced() -> bool:
        pids = system.supervisor.pids("gateway")
        return victim not in pids and len(pids) == 2 + len(others)

    await eventually(replaced, what="another worker is started")
    assert {parent, *others} <= set(system.supervisor.pids("gateway"))
    await goes_on(system, load)


async def test_nothing_is_accepted_that_jetstream_has_not_confirmed(system: System, load: Sender) -> None:
    """While JetStream says nothing, requests wait and none is answered 202; when it is back, they are."""
    system.supervisor.kill("nats", signal.SIGSTOP)
    try:
        # All that JetStream confirmed before is answered by the time that so many wait.
        await eventually(lambda: in_flight(load, 10), what="requests wait")
        accepted = load.tally.answered[202]
        await eventually(lambda: in_flight(load, 25), what="more requests wait")
        assert load.tally.answered[202] == accepted
    finally:
        system.supervisor.kill("nats", signal.SIGCONT)
    await goes_on(system, load)


async def in_flight(load: Sender, least: int) -> bool:
    return load.tally.in_flight >= least


async def test_nothing_was_lost_and_nothing_doubled(system: System, load: Sender) -> None:
    """After all that: every event that was answered 202 stands in its table once and unchanged, every refused one is
    kept, rollups equal the rows, the ledger balances, and fresh events go through."""
    load.stop()
    await eventually(lambda: nothing_in_flight(load), what="the last answers")
    assert load.tally.answered[202] > 100
    assert load.tally.refused > 10
    await system.judge()
    assert {death.name for death in system.deaths} == set(SERVICES)


async def nothing_in_flight(load: Sender) -> bool:
    return load.tally.in_flight == 0
