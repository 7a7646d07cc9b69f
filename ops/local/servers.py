"""Both servers on one data folder: PostgreSQL and NATS, started, restarted when they die, and stopped.

Invariant: one data folder has one stack. The lock on it is the kernel's, so it goes with us, however we end.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Self

from ops.local import ports
from ops.local.errors import DiskFull, FolderInUse
from ops.local.nats import Nats
from ops.local.postgres import Postgres, Role
from ops.local.program import Death
from ops.local.supervisor import Supervisor, log_death

MIN_FREE_BYTES = 2 << 30
"""PostgreSQL's log alone may take 1 GiB within minutes under the publisher's load."""


class Servers:
    """PostgreSQL and NATS under `folder`, whose data outlives us; an async context manager, ready once entered.

    Ports are free ones, or SLUICE_POSTGRES_PORT, SLUICE_NATS_PORT, SLUICE_NATS_MONITOR_PORT from `environ`.
    Services may be started on `supervisor` too: they drain before the servers. Raises StackError (ops/local/errors.py).

    folder/  lock  postgres/  postgres-secret  nats/  nats-secret  logs/<program>.log
    """

    def __init__(
        self,
        folder: Path,
        *,
        environ: Mapping[str, str] = os.environ,
        sync_always: bool = True,
        on_death: Callable[[Death], None] = log_death,
    ) -> None:
        self.folder = folder.absolute()
        self.supervisor = Supervisor(self.folder / "logs", on_death)
        self._environ = environ
        self._sync_always = sync_always

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as opened:
            opened.enter_context(locked(self.folder))
            (self.folder / "logs").mkdir(mode=0o700, exist_ok=True)
            self.postgres = Postgres(self.folder, self._port("SLUICE_POSTGRES_PORT"))
            self.nats = Nats(
                self.folder,
                self._port("SLUICE_NATS_PORT"),
                self._port("SLUICE_NATS_MONITOR_PORT"),
                sync_always=self._sync_always,
            )
            await opened.enter_async_context(self.supervisor)
            await self.postgres.start(self.supervisor)
            await self.supervisor.start(self.nats.program())
            self._opened = opened.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened.aclose()

    @property
    def nats_url(self) -> str:
        """Where NATS clients connect, with user and password."""
        return self.nats.url

    @property
    def owner_dsn(self) -> str:
        """For migrations: owns the database and all in it."""
        return self.dsn("sluice_owner")

    @property
    def collector_dsn(self) -> str:
        """For collectors."""
        return self.dsn("sluice_collector")

    @property
    def reporter_dsn(self) -> str:
        """For the reporter."""
        return self.dsn("sluice_reporter")

    def dsn(self, role: Role, database: str = "sluice") -> str:
        """The DSN of a role ("postgres" is the superuser) for a database."""
        return self.postgres.dsn(role, database)

    def _port(self, variable: str) -> int:
        return ports.choose(variable, self._environ)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make `folder` if need be and hold it against other stacks. Raises FolderInUse."""
    # Others may pass through, not look in: PostgreSQL may have to run as another user. All in it is private.
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise FolderInUse(
                f"{folder} is in use by another stack (pid {file.read().strip() or 'unknown'}): "
                f"stop that one, or set SLUICE_FOLDER to another folder"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def check_free(folder: Path, least_bytes: int = MIN_FREE_BYTES) -> None:
    """Raises DiskFull if the disk that holds the folder, or will hold it, has too little room for a stack."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if (free := shutil.disk_usage(there).free) < least_bytes:
        raise DiskFull(
            f"{there} has {free / 1024**3:.1f} GiB free, and a stack needs {least_bytes / 1024**3:,.0f}: "
            "make room, or set SLUICE_FOLDER to a folder on another disk"
        )
