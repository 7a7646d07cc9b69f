"""Promise 7: any process may be killed -9 at any instant, and all is well within 30 s without a hand.

Killed at each named step of gateway and collector, and the processes themselves, servers too, under load.
"""

import os
import signal

import pytest

from collector.faults import Point as CollectorPoint
from gateway.faults import Point as GatewayPoint
from ops.local.services import COLLECTORS
from tests.support.faulty import FaultySystem, goes_on, load, rounds
from tests.support.tally import Tally
from tests.support.waiting import eventually

AT_ONCE = 2
"""Kills in a row: the second one meets another worker, another collector, or the one that has just started."""
POINTS = (*GatewayPoint, *CollectorPoint)
PROCESSES = ("gateway", *COLLECTORS, "reporter", "nats", "postgres")


@pytest.mark.parametrize("service", ["gateway", "collector"])
async def test_killed_at_each_step(system: FaultySystem, tally: Tally, service: str) -> None:
    """kill -9 at each step, again and again: new events go through soon, and nothing is lost, doubled or altered."""
    async with load(system) as sender:
        for point in rounds(1, 8) * [point for point in POINTS if point.startswith(service)]:
            for _ in range(AT_ONCE):
                with system.armed(point, "kill") as fired:
                    await fired()
                tally.count(kills=1)
            await goes_on(system, sender, tally)


async def test_killed_wherever_it_is(system: FaultySystem, tally: Tally) -> None:
    """kill -9 of a service or a server as it comes: it is started again, and everything goes on."""
    async with load(system) as sender:
        for name in rounds(1, 5) * PROCESSES:
            killed = system.supervisor.kill(name)
            tally.count(kills=1)
            await goes_on(system, sender, tally)
            await system.supervisor.wait_ready(name, after=killed)
            death = next(death for death in system.deaths if death.why.startswith(f"pid {killed},"))
            assert death.name == name
            assert death.why.endswith("ended by SIGKILL")


async def test_all_killed_at_once(system: FaultySystem, tally: Tally) -> None:
    """Every service and both servers die in the same instant."""
    async with load(system) as sender:
        for _ in range(rounds(1, 5)):
            for name in PROCESSES:
                await system.supervisor.wait_ready(name)
            for name in PROCESSES:
                system.supervisor.kill(name)
                tally.count(kills=1)
            await goes_on(system, sender, tally)


async def test_a_killed_worker_of_the_gateway(system: FaultySystem, tally: Tally) -> None:
    """Its parent starts another one; the gateway itself and its other workers stay."""
    async with load(system) as sender:
        parent, victim, *others = system.supervisor.pids("gateway")
        os.kill(victim, signal.SIGKILL)
        tally.count(kills=1)

        async def replaced() -> bool:
            pids = system.supervisor.pids("gateway")
            return victim not in pids and len(pids) == 2 + len(others)

        await eventually(replaced, what="another worker is started", seconds=30)
        assert {parent, *others} <= set(system.supervisor.pids("gateway"))
        await goes_on(system, sender, tally)


async def test_stopped_at_a_step(system: FaultySystem, tally: Tally) -> None:
    """A process that stands still in the middle and then goes on has lost nothing, and doubles nothing."""
    async with load(system) as sender:
        for point in POINTS if rounds(0, 1) else ("gateway.published", "collector.merged"):
            with system.armed(point, "stop") as fired:
                pid = await fired()
            os.kill(pid, signal.SIGCONT)
            await goes_on(system, sender)


async def test_nothing_is_accepted_that_jetstream_has_not_confirmed(system: FaultySystem) -> None:
    """While JetStream says nothing, requests wait and none is answered 202; when it is back, they are."""
    async with load(system) as sender:

        async def wait(least: int) -> bool:
            return sender.tally.in_flight >= least

        async with system.frozen("nats"):
            # All that JetStream confirmed before is answered by the time that so many wait.
            await eventually(lambda: wait(10), what="requests wait", seconds=30)
            accepted = sender.tally.answered[202]
            await eventually(lambda: wait(25), what="more requests wait", seconds=30)
            assert sender.tally.answered[202] == accepted
        await goes_on(system, sender)
