"""Select the system that an operator's command uses, and connect to it.

    a connection variable is set in the environment  --> the environment, as for a service
    otherwise, if a local stack runs in .sluice      --> .sluice/env, which `sluice up` writes while it runs
                                                         (SLUICE_FOLDER names another folder than .sluice)
    otherwise                                        --> the defaults of the settings

Invariant: the two sources are never mixed. If a variable is missing, a command that moves events must not read the
database of one system and write to the stream of another one.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import asyncpg
import nats.errors
import nats.js.errors
from nats.aio.client import Client

from core import jetstream, postgres, settings
from core.errors import Misconfigured, SluiceError
from core.pg_errors import is_transient
from core.postgres import Connection
from ops.settings import OperatorSettings

# If one of these is set, directly or as *_FILE, the environment names the system.
CONNECTIONS: Final = ("NATS_URL", "SLUICE_MIGRATE_DSN", "GATEWAY_URL", "REPORTER_URL", "NATS_MONITOR_URL")
FOLDER_VARIABLE: Final = "SLUICE_FOLDER"
CONNECT_TIMEOUT_SECONDS: Final = 3.0
COMMAND_TIMEOUT_SECONDS: Final = 600.0
CONNECTION_ERRORS: Final = (
    *(OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError),
    *(asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError, asyncpg.AdminShutdownError),
)


class Unreachable(SluiceError):
    """A server does not answer. `reason` is the message without the advice."""

    def __init__(self, server: str, url: str, variable: str, error: BaseException) -> None:
        self.reason = f"{where(url)} does not answer ({_short(error)})"
        super().__init__(
            f"{server} at {self.reason}. Start it, or correct {variable}; `sluice doctor` checks the whole system"
        )


def local_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the data folder of the local stack: SLUICE_FOLDER, or .sluice if that is not set."""
    return Path(environ.get(FOLDER_VARIABLE) or ".sluice")


def operator_settings(environ: Mapping[str, str] = os.environ, folder: Path | None = None) -> OperatorSettings:
    """Return the settings of the selected system. Raises Misconfigured."""
    return settings.load(OperatorSettings, {**environ, **(local_system(environ, folder) or {})})


def require_system(environ: Mapping[str, str] = os.environ) -> None:
    """Raise Misconfigured if the environment names no system and no local stack runs."""
    if not _names_system(environ) and local_system(environ) is None:
        raise Misconfigured(
            f"no system is named: no local stack runs in {local_folder(environ)}, and none of {', '.join(CONNECTIONS)} "
            "is set. Start a local stack with `sluice up`, or set these variables (.env.example describes them)"
        )


def _names_system(environ: Mapping[str, str]) -> bool:
    return any(environ.get(name) or environ.get(f"{name}_FILE") for name in CONNECTIONS)


def local_system(environ: Mapping[str, str] = os.environ, folder: Path | None = None) -> dict[str, str] | None:
    """Return the variables of the local stack; None if the environment names a system or no stack runs."""
    return None if _names_system(environ) else read_local(folder or local_folder(environ))


@contextmanager
def published_locally(folder: Path, variables: Mapping[str, str]) -> Iterator[None]:
    """Write the variables of a local stack to its folder while the context is open.

    The file holds passwords, so that only its owner can read it.
    """
    path, new = folder / "env", folder / "env.new"
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"{name}={value}\n" for name, value in variables.items())
    new.rename(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def read_local(folder: Path) -> dict[str, str] | None:
    """Return the variables of the stack that runs in this folder; None if no stack runs there."""
    try:
        if not _held(folder / "lock"):
            return None  # The stack was killed. Other programs may use its ports now.
        lines = (folder / "env").read_text().splitlines()
    except FileNotFoundError:
        return None
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _held(lock: Path) -> bool:
    """Return whether a running stack holds the lock. Raises FileNotFoundError."""
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def where(url: str) -> str:
    """Return host and port of a URL or DSN, without its secrets."""
    return ", ".join(re.split("[/?#]", one.rpartition("://")[2].rpartition("@")[2])[0] for one in url.split(","))


@asynccontextmanager
async def connected(settings: OperatorSettings) -> AsyncIterator[tuple[Client, Connection]]:
    """Connect to JetStream, and to the database as its owner. Raises Unreachable, also if a connection is lost."""
    async with to_nats(settings) as client, to_database(settings) as connection:
        yield client, connection


@asynccontextmanager
async def to_nats(settings: OperatorSettings) -> AsyncIterator[Client]:
    """Connect to JetStream. Raises Unreachable."""
    connecting = asyncio.create_task(jetstream.connect(settings, name="sluice-operator"))
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            client = await connecting
    except (OSError, TimeoutError, nats.errors.Error) as error:
        raise Unreachable("NATS", settings.nats_url, "NATS_URL", error) from error
    try:
        yield client
    except nats.js.errors.APIError as error:
        raise SluiceError(f"JetStream rejected the request: {error.description}") from error
    except (jetstream.StreamMissing, nats.errors.Error) as error:
        raise Unreachable("NATS", settings.nats_url, "NATS_URL", error) from error
    finally:
        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
            await client.close()


@asynccontextmanager
async def to_database(settings: OperatorSettings) -> AsyncIterator[Connection]:
    """Connect to the database as its owner. Raises Unreachable, or Misconfigured if there is no DSN or no access."""
    if not (dsn := settings.sluice_migrate_dsn):
        raise Misconfigured(
            f"SLUICE_MIGRATE_DSN is not set, and no local stack runs in {local_folder()}. Set it to the DSN of the "
            "database's owner, or start a local stack with `sluice up`"
        )
    try:
        connection = await postgres.connect(
            dsn,
            name="sluice-operator",
            patience_seconds=CONNECT_TIMEOUT_SECONDS,
            command_seconds=COMMAND_TIMEOUT_SECONDS,
        )
    except Exception as error:
        if not is_transient(error):
            raise
        raise Unreachable("PostgreSQL", dsn, "SLUICE_MIGRATE_DSN", error) from error
    try:
        yield connection
    except asyncpg.UndefinedTableError as error:
        raise SluiceError(f"a table is missing in the database ({error}): run `sluice migrate`") from error
    except CONNECTION_ERRORS as error:
        raise Unreachable("PostgreSQL", dsn, "SLUICE_MIGRATE_DSN", error) from error
    finally:
        connection.terminate()


def _short(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "time-out: the server is frozen or overloaded, or a firewall drops packets"
    text = " ".join(str(error).split())
    return text if text and len(text) < 120 else type(error).__name__
