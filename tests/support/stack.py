"""Real servers for tests: a database of its own for each test, copied from a template that is migrated once."""

import itertools
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from core import postgres
from ops.local import Servers, Supervisor
from ops.local.nats import Nats
from ops.local.ports import free_port

TEMPLATE = "sluice_template"
_numbers = itertools.count(1)


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """An empty folder for a stack: pytest's own are closed to PostgreSQL where it has to run as another user."""
    with tempfile.TemporaryDirectory(prefix="sluice-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@dataclass(frozen=True)
class Database:
    """A migrated, empty database, as each role sees it."""

    name: str
    owner_dsn: str
    collector_dsn: str
    reporter_dsn: str
    bi_dsn: str


async def make_template(servers: Servers) -> None:
    """Make and migrate the database that all others are copied from."""
    await _as_superuser(servers, f"CREATE DATABASE {TEMPLATE} OWNER sluice_owner")
    await postgres.migrate(servers.dsn("sluice_owner", TEMPLATE))
    # A database that somebody is connected to cannot be copied.
    await _as_superuser(servers, f"ALTER DATABASE {TEMPLATE} ALLOW_CONNECTIONS false")


@asynccontextmanager
async def fresh_database(servers: Servers) -> AsyncIterator[Database]:
    """A copy of the template, dropped at the end anyone who is still connected. Needs `make_template` once before."""
    name = f"t_{next(_numbers)}"
    await _as_superuser(servers, f"CREATE DATABASE {name} OWNER sluice_owner TEMPLATE {TEMPLATE}")
    try:
        yield Database(
            name=name,
            owner_dsn=servers.dsn("sluice_owner", name),
            collector_dsn=servers.dsn("sluice_collector", name),
            reporter_dsn=servers.dsn("sluice_reporter", name),
            bi_dsn=servers.dsn("sluice_bi", name),
        )
    finally:
        await _as_superuser(servers, f"DROP DATABASE {name} WITH (FORCE)")


async def _as_superuser(servers: Servers, statement: str) -> None:
    # Not one connection for all: a test may have restarted the server.
    connection = await postgres.connect(servers.dsn("postgres", "postgres"), name="tests")
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@dataclass(frozen=True)
class FreshNats:
    """A NATS server of the test's own, empty; killed and restarted as "nats" on `supervisor`.

    What the supervisor runs logs into `folder`.
    """

    server: Nats
    supervisor: Supervisor
    folder: Path

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def monitor_url(self) -> str:
        return self.server.monitor_url


@asynccontextmanager
async def start_nats(folder: Path, *, sync_always: bool = True) -> AsyncIterator[FreshNats]:
    """A NATS server in `folder`, with the settings that we run it with unless reported otherwise."""
    async with Supervisor(folder) as supervisor:
        server = Nats(folder, free_port(), free_port(), sync_always=sync_always)
        await supervisor.start(server.program())
        yield FreshNats(server, supervisor, folder)
