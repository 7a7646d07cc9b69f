"""PgBouncer before a test's database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from ops.local import Supervisor, child
from ops.local.ports import LOOPBACK, free_port
from ops.local.program import Program
from tests.support.stack import Database, reachable_folder
from tests.support.tools import require_tool

SETTINGS = """
[databases]
{databases}
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = 5
"""


@asynccontextmanager
async def pooled(database: Database, mode: str) -> AsyncIterator[Database]:
    """The same database through PgBouncer in this pool mode: session, transaction or statement."""
    program = require_tool("pgbouncer")
    port = free_port()
    dsns = {"owner": database.owner_dsn, "collector": database.collector_dsn, "reporter": database.reporter_dsn}
    with reachable_folder() as folder:
        file = folder / "pgbouncer.ini"
        lines = (f"{role} = {_target(dsn)}" for role, dsn in dsns.items())
        file.write_text(SETTINGS.format(databases="\n".join(lines), host=LOOPBACK, port=port, mode=mode))
        async with Supervisor(folder) as supervisor:
            await supervisor.start(_bouncer(program, file, port))
            through = {f"{role}_dsn": f"postgresql://{role}@{LOOPBACK}:{port}/{role}" for role in dsns}
            yield replace(database, **through)


def _target(dsn: str) -> str:
    url = urlsplit(dsn)
    return f"host={url.hostname} port={url.port} dbname={url.path[1:]} user={url.username} password={url.password}"


def _bouncer(program: str, file: Path, port: int) -> Program:
    async def listens() -> bool:
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, port)
        except OSError:
            return False
        writer.close()
        return True

    return Program(name="pgbouncer", argv=[program, file], is_ready=listens, identity=child.unprivileged())
