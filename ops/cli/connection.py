"""Which running system an operator's command looks at, and the connections to it.

    a connection variable is set in the environment --> the environment, like a service
    else a local stack runs in .sluice              --> .sluice/env, which `ops up` writes while it runs (SLUICE_FOLDER
                                                        names another folder than .sluice)
    else                                            --> the defaults of the settings

Invariant: never a mixture. A command that moves events must not read one system's database and write to another's
stream because a variable was forgotten.
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

# Their owners say which system is meant; a *_FILE counts as well.
CONNECTIONS: Final = ("NATS_URL", "SLUICE_MIGRATE_DSN", "GATEWAY_URL", "REPORTER_URL", "NATS_MONITOR_URL")
FOLDER_VARIABLE: Final = "SLUICE_FOLDER"
PATIENCE_SECONDS: Final = 3.0
COMMAND_SECONDS: Final = 600.0
LOST: Final = (
    *(OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError),
    *(asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError, asyncpg.AdminShutdownError),
)


class Unreachable(SluiceError):
    """A server does not answer. The message says what to do, `what` only which one and why."""

    def __init__(self, server: str, url: str, variable: str, error: BaseException) -> None:
        self.what = f"{where(url)} does not answer ({_short(error)})"
        super().__init__(f"{server} at {self.what}: is it running, and is {variable} right? See python -m ops doctor")


def local_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The data folder of the local stack: SLUICE_FOLDER, else .sluice."""
    return Path(environ.get(FOLDER_VARIABLE) or ".sluice")


def operator_settings(environ: Mapping[str, str] = os.environ, folder: Path | None = None) -> OperatorSettings:
    """The settings of the system that is meant. Raises Misconfigured."""
    return settings.load(OperatorSettings, {**environ, **(meant_locally(environ, folder) or {})})


def meant_locally(environ: Mapping[str, str] = os.environ, folder: Path | None = None) -> dict[str, str] | None:
    """What the stack that runs in this folder has told; None where the environment means another one, or none runs."""
    named = any(environ.get(name) or environ.get(f"{name}_FILE") for name in CONNECTIONS)
    return None if named else read_local(folder or local_folder(environ))


@contextmanager
def told_locally(folder: Path, variables: Mapping[str, str]) -> Iterator[None]:
    """While open, commands of this folder's parent find the system of these variables. Holds passwords: ours alone."""
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
    """What the stack that runs in this folder has told; None where none runs."""
    try:
        if not _held(folder / "lock"):
            return None  # it was killed, and its ports may be anyone's
        lines = (folder / "env").read_text().splitlines()
    except FileNotFoundError:
        return None
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _held(lock: Path) -> bool:
    """Whether a stack holds its lock. Raises FileNotFoundError."""
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def where(url: str) -> str:
    """Host and port of a URL or DSN, without its secrets."""
    return ", ".join(re.split("[/?#]", one.rpartition("://")[2].rpartition("@")[2])[0] for one in url.split(","))


@asynccontextmanager
async def connected(settings: OperatorSettings) -> AsyncIterator[tuple[Client, Connection]]:
    """A client of JetStream and a connection of the owner's. Raises Unreachable, also for what breaks on the way."""
    async with to_nats(settings) as client, to_database(settings) as connection:
        yield client, connection


@asynccontextmanager
async def to_nats(settings: OperatorSettings) -> AsyncIterator[Client]:
    """A client of JetStream. Raises Unreachable."""
    connecting = asyncio.create_task(jetstream.connect(settings, name="sluice-operator"))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            client = await connecting
    except (OSError, TimeoutError, nats.errors.Error) as error:
        raise Unreachable("NATS", settings.nats_url, "NATS_URL", error) from error
    try:
        yield client
    except nats.js.errors.APIError as error:
        raise SluiceError(f"JetStream rejected: {error.description}") from error
    except (jetstream.StreamMissing, nats.errors.Error) as error:
        raise Unreachable("NATS", settings.nats_url, "NATS_URL", error) from error
    finally:
        with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
            await client.close()


@asynccontextmanager
async def to_database(settings: OperatorSettings) -> AsyncIterator[Connection]:
    """A connection as the owner. Raises Unreachable, or Misconfigured where there is no DSN or it is rejected."""
    if not (dsn := settings.sluice_migrate_dsn):
        raise Misconfigured(
            "SLUICE_MIGRATE_DSN is not set, and no local stack runs in .sluice: commands use the owner's connection"
        )
    try:
        connection = await postgres.connect(
            dsn, name="sluice-operator", patience_seconds=PATIENCE_SECONDS, command_seconds=COMMAND_SECONDS
        )
    except Exception as error:
        if not is_transient(error):
            raise
        raise Unreachable("PostgreSQL", dsn, "SLUICE_MIGRATE_DSN", error) from error
    try:
        yield connection
    except asyncpg.UndefinedTableError as error:
        raise SluiceError(f"the database lacks a table ({error}): run `python -m ops migrate`") from error
    except LOST as error:
        raise Unreachable("PostgreSQL", dsn, "SLUICE_MIGRATE_DSN", error) from error
    finally:
        connection.terminate()


def _short(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time: it is frozen or overloaded, or a firewall drops what is sent"
    text = " ".join(str(error).split())
    return text if text and len(text) < 120 else type(error).__name__
