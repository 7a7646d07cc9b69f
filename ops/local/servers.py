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
"""The write-ahead log of PostgreSQL may grow by 1 GiB within minutes under the publisher's load."""


class Servers:
    """PostgreSQL and NATS with persistent data in `folder`; an async context manager that is ready when entered.

    Ports are free ports, or SLUICE_POSTGRES_PORT, SLUICE_NATS_PORT, SLUICE_NATS_MONITOR_PORT from `environ`.
    Services may run on `supervisor`, too: they drain before the servers. Raises StackError (ops/local/errors.py).

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
        """URL for NATS clients, with user and password."""
        return self.nats.url

    @property
    def owner_dsn(self) -> str:
        """DSN of the owner of the database, for migrations."""
        return self.dsn("sluice_owner")

    @property
    def collector_dsn(self) -> str:
        """DSN for collectors."""
        return self.dsn("sluice_collector")

    @property
    def reporter_dsn(self) -> str:
        """DSN for the reporter."""
        return self.dsn("sluice_reporter")

    def dsn(self, role: Role, database: str = "sluice") -> str:
        """Return the DSN of a role for a database; "postgres" is the superuser."""
        return self.postgres.dsn(role, database)

    def _port(self, variable: str) -> int:
        return ports.choose(variable, self._environ)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Create `folder` if it does not exist, and lock it. Raises FolderInUse."""
    # Other users may enter but not list the folder: PostgreSQL may run as another user. Its contents are private.
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise FolderInUse(
                f"{folder} is in use by another stack (pid {file.read().strip() or 'unknown'}): "
                f"stop that stack, or set SLUICE_FOLDER to another folder"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def check_free(folder: Path, min_bytes: int = MIN_FREE_BYTES) -> None:
    """Raise DiskFull if the disk of the folder has too little free space for a stack."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if (free := shutil.disk_usage(existing).free) < min_bytes:
        raise DiskFull(
            f"{existing} has {free / 1024**3:.1f} GiB free, and a stack needs {min_bytes / 1024**3:,.0f}: "
            "free disk space, or set SLUICE_FOLDER to a folder on another disk"
        )
