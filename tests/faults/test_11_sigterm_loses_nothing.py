"""Promise 11: SIGTERM loses nothing and ends in time: what is in flight is finished, and the exit code is 0."""

import signal

import pytest

from ops.local.services import COLLECTORS
from tests.support.faulty import FaultySystem, goes_on, load, rounds
from tests.support.tally import Tally

SERVICES = ("gateway", *COLLECTORS, "reporter")


async def test_sigterm_under_load(system: FaultySystem, tally: Tally) -> None:
    """Each service reported to end under load drains and ends with 0; it is started again and everything goes on."""
    async with load(system) as sender:
        for name in rounds(1, 5) * SERVICES:
            ended = system.supervisor.kill(name, signal.SIGTERM)
            await system.supervisor.wait_ready(name, after=ended)
            await goes_on(system, sender, tally)
            (death,) = [death for death in system.deaths if death.why.startswith(f"pid {ended},")]
            assert (death.name, death.why) == (name, f"pid {ended}, exit code 0")


async def test_sigterm_of_all_services_at_once(system: FaultySystem, tally: Tally) -> None:
    """As at the end of a deployment: all drain side by side, all end with 0, and what waits is stored afterwards."""
    async with load(system) as sender:
        reported = {name: system.supervisor.kill(name, signal.SIGTERM) for name in SERVICES}
        for name, pid in reported.items():
            await system.supervisor.wait_ready(name, after=pid)
        await goes_on(system, sender, tally)
    ends = {
        death.name: death.why for death in system.deaths if any(f"pid {pid}," in death.why for pid in reported.values())
    }
    assert set(ends) == set(SERVICES)
    assert all(why.endswith("exit code 0") for why in ends.values()), ends


@pytest.mark.parametrize("away", ["nats", "postgres"])
async def test_sigterm_while_a_server_is_away(system: FaultySystem, tally: Tally, away: str) -> None:
    """A server stands still: services end all the same, and nothing that was answered 202 is lost."""
    async with load(system) as sender:
        async with system.frozen(away):
            reported = {name: system.supervisor.kill(name, signal.SIGTERM) for name in COLLECTORS}
        for name, pid in reported.items():
            await system.supervisor.wait_ready(name, after=pid)
        await goes_on(system, sender, tally)
