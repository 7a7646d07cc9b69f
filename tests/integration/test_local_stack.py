"""The local stack: real servers from wheels, anyone who starts them, whatever kills them."""

import asyncio
import contextlib
import json
import os
import pwd
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import nats
import psutil
import pytest
from nats.aio.client import Client
from nats.js.api import StreamConfig

from ops.local import Program, Servers, Supervisor, child, ready
from ops.local.errors import FolderInUse, PortTaken, SetupFailed
from ops.local.nats import find_binary, jetstream_is_ready
from ops.local.ports import free_port
from ops.local.postgres import Role
from tests.support.processes import ended, python_running
from tests.support.stack import Database, FreshNats
from tests.support.tools import only_where

UNPRIVILEGED = "nobody"
ROLES: tuple[Role, ...] = ("postgres", "sluice_owner", "sluice_collector", "sluice_reporter")

# Starts a stack in the folder given, says who and where, and lives until it is killed or its input ends.
STACK = """
import asyncio, json, sys
from pathlib import Path
from ops.local import Servers

async def main():
    async with Servers(Path(sys.argv[1]), environ={}) as servers:
        pids = [pid for name in servers.supervisor.names for pid in servers.supervisor.pids(name)]
        print(json.dumps({"pids": pids, "dsn": servers.owner_dsn}), flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


@contextlib.asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Client]:
    client = await nats.connect(url)
    try:
        yield client
    finally:
        await client.close()


async def keep_something(servers: Servers) -> None:
    """Leave one row and one message."""
    async with connected(servers.owner_dsn) as connection:
        await connection.execute("CREATE TABLE kept (word text); INSERT INTO kept VALUES ('row')")
    async with client_of(servers.nats_url) as client:
        await client.jetstream().add_stream(StreamConfig(name="KEPT", subjects=["kept"]))
        await client.jetstream().publish("kept", b"message")


async def what_was_kept(servers: Servers) -> list[object]:
    async with connected(servers.owner_dsn) as connection:
        row = await connection.fetchval("SELECT word FROM kept")
    async with client_of(servers.nats_url) as client:
        message = await client.jetstream().get_msg("KEPT", seq=1)
    return [row, message.data]


def all_pids(servers: Servers) -> list[int]:
    return [pid for name in servers.supervisor.names for pid in servers.supervisor.pids(name)]


async def test_each_role_gets_in_with_its_own_password(servers: Servers) -> None:
    """The owner owns the database; collector and reporter can log in, and can make nothing."""
    async with connected(servers.owner_dsn) as owner:
        assert await owner.fetchval("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'sluice'") == (
            await owner.fetchval("SELECT current_user")
        )
    for dsn in (servers.collector_dsn, servers.reporter_dsn):
        async with connected(dsn) as connection:
            assert not await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("CREATE TABLE mine ()")
    assert len({servers.dsn(role).split("@")[0].split(":")[-1] for role in ROLES}) == len(ROLES)


async def test_no_one_gets_in_without_the_password(servers: Servers) -> None:
    """Being on the same machine is not enough."""
    dsn = f"postgresql://postgres:guess@127.0.0.1:{servers.postgres.port}/sluice"
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(dsn)


async def test_servers_listen_on_loopback_alone(servers: Servers) -> None:
    """Nothing of the stack can be reached from another machine."""
    listening = {
        connection.laddr
        for pid in all_pids(servers)
        for connection in psutil.Process(pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    ports = {servers.postgres.port, servers.nats.port, servers.nats.monitor_port}
    assert listening == {("127.0.0.1", port) for port in ports}


async def test_a_commit_is_on_disk(servers: Servers) -> None:
    """The settings that make a commit durable, and text and time the same on every machine."""
    wanted = {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "data_checksums": "on",
        "server_encoding": "UTF8",
        "TimeZone": "UTC",
        "shared_buffers": "512MB",
        "max_wal_size": "4GB",
    }
    async with connected(servers.reporter_dsn) as connection:
        found = {name: await connection.fetchval("SELECT current_setting($1)", name) for name in wanted}
        locale = await connection.fetchrow(
            "SELECT datlocprovider, datlocale FROM pg_database WHERE datname = current_database()"
        )
        assert connection.get_server_version().major >= 18
    assert found == wanted
    assert tuple(locale) == (b"b", "C.UTF-8")


async def test_jetstream_confirms_what_is_on_disk(fresh_nats: FreshNats) -> None:
    """JetStream syncs every message, and lets streams reserve 32 GB whatever the disk holds."""
    async with client_of(fresh_nats.url) as client:
        assert client.max_payload == 1 << 20
        for number in range(4):
            config = StreamConfig(name=f"BIG_{number}", subjects=[f"big.{number}"], max_bytes=8 << 30)
            await client.jetstream().add_stream(config)
    _, body = await ready.get(fresh_nats.server.monitor_port, "/jsz")
    assert json.loads(body)["config"]["sync_always"] is True


async def test_a_server_without_jetstream_is_not_ready(tmp_path: Path) -> None:
    """NATS's own health check calls such a server healthy; ours must not."""
    port, monitor_port = free_port(), free_port()
    where = ["--addr", "127.0.0.1", "--port", str(port), "--http_port", str(monitor_port)]

    async def is_healthy() -> bool:
        return await ready.answers_ok(monitor_port, "/healthz?js-enabled-only=true")

    async with Supervisor(tmp_path) as supervisor:
        await supervisor.start(Program(name="plain", argv=[find_binary(), *where], is_ready=is_healthy))
        assert not await jetstream_is_ready(monitor_port)


async def test_data_survives_a_restart_and_nothing_runs_between(folder: Path) -> None:
    """A row and a message are there when a second stack is started on the folder; the first left no process."""
    async with Servers(folder, environ={}) as servers:
        await keep_something(servers)
        pids = all_pids(servers)
    await ended(*pids, seconds=0)
    async with Servers(folder, environ={}) as servers:
        assert await what_was_kept(servers) == ["row", b"message"]


@pytest.mark.parametrize("name", ["postgres", "nats"])
async def test_a_killed_server_comes_back_with_its_data(folder: Path, name: str) -> None:
    """kill -9 of a server costs a restart on the same port, not a row or a message."""
    async with Servers(folder, environ={}) as servers:
        await keep_something(servers)
        killed = servers.supervisor.kill(name)
        await servers.supervisor.wait_ready(name, after=killed)
        assert servers.supervisor.restarts(name) == 1
        assert await what_was_kept(servers) == ["row", b"message"]


async def test_sessions_of_a_killed_server_do_not_hold_up_the_next(folder: Path) -> None:
    """A session that does not notice its server's death is ended, for it holds the shared memory."""
    async with Servers(folder, environ={}) as servers:
        dsn = servers.dsn("postgres")
        async with connected(dsn) as connection:
            session = await connection.fetchval("SELECT pg_backend_pid()")
            os.kill(session, signal.SIGSTOP)  # it cannot notice anything
            killed = servers.supervisor.kill("postgres")
            await servers.supervisor.wait_ready("postgres", after=killed)
            await ended(session)


async def test_a_stack_killed_at_once_leaves_nothing_and_starts_again(folder: Path) -> None:
    """kill -9 of the process that runs the stack ends the servers; the next stack has the data."""
    async with Servers(folder, environ={}) as servers:
        await keep_something(servers)
    with _stack_in_another_process(folder) as (process, reported):
        process.kill()
    await ended(*reported["pids"])
    async with Servers(folder, environ={}) as servers:
        assert await what_was_kept(servers) == ["row", b"message"]


async def test_a_lock_file_that_names_somebody_else_is_no_hindrance(folder: Path) -> None:
    """After a restart of the machine the number in a left lock file may be any process of ours."""
    async with Servers(folder, environ={}) as servers:
        lock_file = servers.postgres.data / "postmaster.pid"
        content = lock_file.read_text()
    _, *rest = content.splitlines()
    lock_file.write_text("\n".join([str(os.getppid()), *rest]) + "\n")
    async with Servers(folder, environ={}) as servers:
        assert lock_file.read_text().splitlines()[0] == str(servers.supervisor.pid("postgres"))


async def test_a_making_that_was_broken_off_is_begun_anew(folder: Path) -> None:
    """Half a data folder is never taken for a database."""
    (folder / "postgres.new").mkdir()
    (folder / "postgres.new" / "PG_VERSION").write_text("18\n")
    async with Servers(folder, environ={}) as servers, connected(servers.owner_dsn) as connection:
        assert await connection.fetchval("SELECT 1") == 1
    assert not (folder / "postgres.new").exists()


async def test_a_lost_secret_is_reported(folder: Path) -> None:
    """The error names the file, and what can be done; the folder is let go."""
    async with Servers(folder, environ={}):
        pass
    secret = (folder / "postgres-secret").rename(folder / "elsewhere")
    with pytest.raises(SetupFailed, match="postgres-secret is missing"):
        async with Servers(folder, environ={}):
            pass
    secret.rename(folder / "postgres-secret")
    async with Servers(folder, environ={}):
        pass


async def test_a_taken_port_is_reported(folder: Path) -> None:
    """The error names the variable, and nothing is left running or locked."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environ = {"SLUICE_POSTGRES_PORT": str(taken.getsockname()[1])}
        with pytest.raises(PortTaken, match=r"SLUICE_POSTGRES_PORT=.* is in use"):
            async with Servers(folder, environ=environ):
                pass
    async with Servers(folder, environ=environ) as servers:
        assert str(servers.postgres.port) == environ["SLUICE_POSTGRES_PORT"]


async def test_one_folder_has_one_stack(folder: Path) -> None:
    """A second stack on the folder is rejected, with the pid of the first, which goes on."""
    async with Servers(folder, environ={}) as servers:
        with pytest.raises(FolderInUse, match=rf"in use by another stack \(pid {os.getpid()}\)"):
            async with Servers(folder, environ={}):
                pass
        async with connected(servers.owner_dsn) as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def test_root_runs_postgres_without_roots_rights(folder: Path) -> None:
    """As root, PostgreSQL runs in a user namespace: not root inside, no capability, and the files stay ours."""
    only_where(os.geteuid() == 0 and child.namespaces_allowed(), "root and user namespaces")
    async with Servers(folder, environ={}) as servers:
        process = Path("/proc", str(servers.supervisor.pid("postgres")))
        assert (process / "uid_map").read_text().split() == ["65534", "0", "1"]
        assert "CapEff:\t0000000000000000" in (process / "status").read_text()
        assert {path.owner() for path in (folder, servers.postgres.data, servers.postgres.data / "base")} == {"root"}


async def test_a_loop_that_cannot_give_a_namespace_is_reported(folder: Path) -> None:
    """On uvloop root is reported why it does not go, before anything is made."""
    only_where(os.geteuid() == 0 and child.namespaces_allowed(), "root and user namespaces")
    script = STACK.replace("asyncio.run(", "__import__('uvloop').run(")
    with python_running(script, str(folder), stderr=subprocess.PIPE) as process:
        _, complaint = await asyncio.to_thread(process.communicate, timeout=30)
    assert "run this on the event loop of asyncio" in complaint
    assert not (folder / "postgres").exists()


async def test_root_without_namespaces_runs_postgres_as_no_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where user namespaces are forbidden the user no one gets the data; where they come back, it is ours again."""
    only_where(os.geteuid() == 0, "root")
    async with Servers(folder, environ={}) as servers:
        await keep_something(servers)
    with monkeypatch.context() as forbidden:
        forbidden.setattr(child, "namespaces_allowed", lambda: False)
        async with Servers(folder, environ={}) as servers:
            assert psutil.Process(servers.supervisor.pid("postgres")).username() == UNPRIVILEGED
            assert (servers.postgres.data / "base").owner() == UNPRIVILEGED
            assert await what_was_kept(servers) == ["row", b"message"]
    async with Servers(folder, environ={}) as servers:
        assert await what_was_kept(servers) == ["row", b"message"]


async def test_a_folder_that_postgres_cannot_reach_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of opening other people's folders, say which one is in the way."""
    only_where(os.geteuid() == 0, "root")
    monkeypatch.setattr(child, "namespaces_allowed", lambda: False)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(SetupFailed, match=f"through {closed.parent.parent}"):
        async with Servers(closed / "stack", environ={}):
            pass


async def test_not_as_root_postgres_runs_as_anyone_who_starts_it(folder: Path) -> None:
    """An ordinary user needs no namespace and no other user. (Here root is made one by a namespace.)"""
    only_where(os.geteuid() == 0 and child.namespaces_allowed(), "root and user namespaces")
    become = child.entering(child.Identity(owner=(0, 0), in_namespace=True), signal.SIGKILL)
    with _stack_in_another_process(folder, preexec_fn=become) as (process, reported):
        assert len({_user_namespace(pid) for pid in (process.pid, *reported["pids"])}) == 1
        await _works_and_ends(process, reported)


def _user_namespace(pid: int) -> Path:
    return Path(f"/proc/{pid}/ns/user").readlink()


async def test_another_user_runs_the_whole_stack(folder: Path) -> None:
    """PostgreSQL and NATS run as the user who starts them."""
    only_where(
        os.geteuid() == 0 and _can_run_python(UNPRIVILEGED), f"root and a Python that the user {UNPRIVILEGED} can run"
    )
    os.chown(folder, pwd.getpwnam(UNPRIVILEGED).pw_uid, -1)
    with _stack_in_another_process(folder, user=UNPRIVILEGED) as (process, reported):
        assert {psutil.Process(pid).username() for pid in reported["pids"]} == {UNPRIVILEGED}
        await _works_and_ends(process, reported)


async def _works_and_ends(process: subprocess.Popen[str], reported: dict[str, Any]) -> None:
    async with connected(reported["dsn"]) as connection:
        assert await connection.fetchval("SELECT current_user") == "sluice_owner"
    await asyncio.to_thread(process.communicate, timeout=30)  # closes its input
    assert process.returncode == 0
    await ended(*reported["pids"], seconds=0)


async def test_each_test_has_a_database_of_its_own(database: Database) -> None:
    """It is migrated, and the reporter may read it; what the owner makes here is in no other test's."""
    async with connected(database.reporter_dsn) as connection:
        assert await connection.fetchval("SELECT count(*) FROM facebook_events") == 0
    async with connected(database.owner_dsn) as connection:
        await connection.execute("CREATE TABLE only_here ()")


async def test_no_database_holds_what_another_test_made(database: Database) -> None:
    """The copy is of the template, not of a neighbour."""
    async with connected(database.owner_dsn) as connection:
        assert await connection.fetchval("SELECT to_regclass('only_here')") is None


@contextlib.contextmanager
def _stack_in_another_process(folder: Path, **how: Any) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A stack that another process runs: the process, and what it reported when the stack was ready."""
    with python_running(STACK, str(folder), **how) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the stack did not start"
        yield process, json.loads(line)


def _can_run_python(user: str) -> bool:
    try:
        with python_running("import ops.local", user=user) as process:
            return process.wait() == 0
    except OSError:
        return False
