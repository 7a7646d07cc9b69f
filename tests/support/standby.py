"""A hot standby: a second PostgreSQL server that replays what the first one does, and answers queries."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ops.local import Servers, Supervisor, child
from ops.local.ports import free_port
from ops.local.postgres import Postgres, find_binaries
from tests.support.tools import require


class Standby(Postgres):
    """A standby of a server, which gives its queries no time: what is replayed cancels them at once."""

    async def start(self, supervisor: Supervisor, primary: Postgres | None = None) -> None:
        """Copy the primary server and follow it."""
        assert primary is not None
        self.data.parent.mkdir(mode=0o711)
        binaries, identity = find_binaries(), child.unprivileged()
        require((binaries / "pg_basebackup").is_file(), "the program pg_basebackup")
        copying = await asyncio.create_subprocess_exec(
            *(binaries / "pg_basebackup", "--dbname", primary.dsn("postgres", "postgres"), "--pgdata", self.data),
            *("--checkpoint", "fast", "--wal-method", "stream", "--write-recovery-conf"),
        )
        assert await copying.wait() == 0
        with (self.data / "postgresql.auto.conf").open("a") as settings:
            settings.write("max_standby_streaming_delay = 0\n")
        shutil.copy(primary.data.with_name("postgres-secret"), self.data.with_name("postgres-secret"))
        child.hand_over(self.data, identity.owner)
        await supervisor.start(self._program(binaries, identity))


@asynccontextmanager
async def standby_of(servers: Servers, folder: Path) -> AsyncIterator[Standby]:
    """A standby of these servers in an empty folder that PostgreSQL's user can get to."""
    async with Supervisor(folder.parent) as supervisor:
        standby = Standby(folder, free_port())
        await standby.start(supervisor, servers.postgres)
        yield standby
