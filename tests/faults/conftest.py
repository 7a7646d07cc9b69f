"""One system to break for all tests of this folder, judged after each of them.

A test may leave services killed, lines held and events on their way: all has to be well again by itself. After a test
that failed the next one gets a new system, so that one loss is reported once.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.support.faulty import LONG, FaultySystem
from tests.support.stack import reachable_folder
from tests.support.tally import Tally

# In the short form what a dead collector held comes again sooner than by default (10 s).
SETTINGS = {} if LONG else {"COLLECTOR_ACK_WAIT_SECONDS": "3"}

JUDGED = ("lost", "doubled", "altered", "unknown")
MOST_EVENTS = 40_000
"""With more, a system is let go after its test: the judge reads all of them each time."""


class Holder:
    """The system that is in use, made when it is first asked for."""

    def __init__(self) -> None:
        self._opened = AsyncExitStack()
        self._system: FaultySystem | None = None

    async def get(self) -> FaultySystem:
        """The system as it stands, or a new one."""
        if self._system is None:
            folder = self._opened.enter_context(reachable_folder())
            system = FaultySystem(folder / "stack", **SETTINGS)
            await system.start()
            self._opened.push_async_callback(system.stop)
            self._system = system
        return self._system

    async def discard(self) -> None:
        """Let the next one begin anew."""
        self._system = None
        await self._opened.aclose()


@pytest.fixture(scope="session")
async def holder() -> AsyncIterator[Holder]:
    """Holds the system between tests."""
    holder = Holder()
    yield holder
    await holder.discard()


@pytest.fixture
async def system(holder: Holder, tally: Tally, request: pytest.FixtureRequest) -> AsyncIterator[FaultySystem]:
    """A running system. After the test everything that was sent through it is where it belongs, the ledger balances,
    rollups equal the rows, and fresh events go through."""
    system = await holder.get()
    failed = request.session.testsfailed
    sent = len(system.oracle)
    try:
        yield system
        await system.only_the_usual()
        if sound := request.session.testsfailed == failed:
            await system.judge()
        if not sound or len(system.oracle) > MOST_EVENTS:
            await holder.discard()
    except BaseException:
        await holder.discard()
        raise
    finally:
        tally.count(events=len(system.oracle) - sent)
        if judgement := system.judgement:
            tally.count(**{name: len(getattr(judgement, name)) for name in JUDGED})
            system.judgement = None
