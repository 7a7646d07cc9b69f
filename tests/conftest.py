"""The servers that tests share. They start when a test first asks for them, and are real."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from ops.local import Servers
from tests.support import tally as tallying
from tests.support import tools
from tests.support.gateway import Gateway, start_gateway
from tests.support.stack import Database, FreshNats, fresh_database, make_template, reachable_folder, start_nats
from tests.support.tally import Tally

# How long an example takes says something about the machine, not about what is tested.
settings.register_profile("sluice", deadline=None)
settings.load_profile("sluice")

# Tests under a container engine: `make compose-check` runs them.
collect_ignore = [] if "SLUICE_ENGINE" in os.environ else ["engine"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder that PostgreSQL's user can get to, too."""
    with reachable_folder() as path:
        yield path


@pytest.fixture(scope="session")
async def servers() -> AsyncIterator[Servers]:
    """One PostgreSQL and one NATS for the whole run. Do not stop them; for that, start Servers of your own."""
    with reachable_folder() as path:
        async with Servers(path / "stack", environ={}) as servers:
            yield servers


@pytest.fixture(scope="session")
async def template(servers: Servers) -> None:
    """The migrated database that tests get copies of."""
    await make_template(servers)


@pytest.fixture
async def database(servers: Servers, template: None) -> AsyncIterator[Database]:
    """A migrated, empty database for this test alone."""
    async with fresh_database(servers) as database:
        yield database


@pytest.fixture
async def fresh_nats(tmp_path: Path) -> AsyncIterator[FreshNats]:
    """A NATS server for this test alone."""
    async with start_nats(tmp_path) as nats:
        yield nats


@pytest.fixture(scope="module")
def gateway_settings() -> dict[str, Any]:
    """Settings of the gateway that a file's tests share; a file that needs others has a fixture of this name."""
    return {}


@pytest.fixture(scope="module")
async def shared_gateway(
    gateway_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    """One gateway on a NATS of its own, for the tests of a file."""
    folder = tmp_path_factory.mktemp("gateway")
    async with start_nats(folder) as nats, start_gateway(nats, **gateway_settings) as gateway:
        yield gateway


@pytest.fixture
async def gateway(shared_gateway: Gateway) -> Gateway:
    """The file's gateway, with empty streams."""
    await shared_gateway.empty()
    return shared_gateway


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Counts what this test tries and finds, for the summary of faults: see tests/support/tally.py."""
    return Tally(request.node.user_properties)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end what faults were tried, and what could not be tested here."""
    tallying.summarize(terminalreporter)
    if lines := tools.report():
        terminalreporter.section("not tested on this machine")
        for line in lines:
            terminalreporter.write_line(line)
