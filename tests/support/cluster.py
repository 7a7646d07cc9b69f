"""Sluice on several hosts: a NATS cluster, a primary with a synchronous standby, and services with all their hosts.

    n1 n2 n3   NATS, streams with three copies      p1 p2   PostgreSQL: primary, synchronous standby
    g1 g2      gateways                             c1 c2   collectors          r1   reporter

A host is a network namespace (tests/support/network.py). Nothing fails over by itself here: a test promotes the standby
as an operator or Patroni does. What is killed stays down until it is started again.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx

from core import http_client, jetstream, postgres
from core.events.subjects import stream_of
from core.postgres import Connection
from core.sources import SourceName
from ops.ledger import read_ledger, until_stored
from ops.local import Program, Supervisor, child
from ops.local import nats as local_nats
from ops.local.ports import free_port
from ops.local.postgres import SETTINGS, Postgres, Role, find_binaries
from ops.local.ready import answers_ok
from tests.support.events import MAKERS, Event, encoded, rfc3339
from tests.support.freshness import Watched, watching
from tests.support.network import Network
from tests.support.oracle import Oracle
from tests.support.tally import Tally
from tests.support.waiting import eventually

HOSTS: Final = ("n1", "n2", "n3", "p1", "p2", "g1", "g2", "c1", "c2", "r1")
NATS_HOSTS: Final = ("n1", "n2", "n3")
DATABASE_HOSTS: Final = ("p1", "p2")
WELL_AGAIN_SECONDS: Final = 30.0
"""What is promised once a quorum exists again."""
NATS_PORT, MONITOR_PORT, ROUTE_PORT = 4222, 8222, 6222
POSTGRES_PORT, SERVICE_PORT = 5432, 8080
PAUSE_SECONDS: Final = 0.05  # of the load: a rate, not a wait
SERVERS_USER: Final = child.OVERFLOW_ID
SMALL_STREAMS: Final = {"STREAM_MAX_BYTES": str(1 << 30), "REJECTED_STREAM_MAX_BYTES": str(1 << 28)}


class Cluster:
    """All hosts with what runs on them. `oracle` knows everything that `post` sent."""

    def __init__(self, folder: Path, network: Network, supervisor: Supervisor) -> None:
        self.network = network
        self.supervisor = supervisor
        self.oracle = Oracle()
        self.primary = "p1"
        self.folder = folder
        self._database = Postgres(folder / "p1", free_port())  # its passwords; it listens there while it is made
        self._ports: dict[str, tuple[str, int]] = {}
        self._next_port = SERVICE_PORT
        self._judged = 0
        self._http: httpx.AsyncClient

    # --- servers

    def nats_url(self, hosts: Sequence[str] = NATS_HOSTS) -> str:
        """The cluster's servers, in this order."""
        return ",".join(f"nats://sluice:lab@{self.network.address(host)}:{NATS_PORT}" for host in hosts)

    def dsn(self, role: Role, hosts: Sequence[str] = DATABASE_HOSTS, attributes: str = "read-write") -> str:
        """The database on these hosts, in this order."""
        local = f"@127.0.0.1:{self._database.port}/"
        named = ",".join(f"{self.network.address(host)}:{POSTGRES_PORT}" for host in hosts)
        return self._database.dsn(role).replace(local, f"@{named}/") + f"?target_session_attrs={attributes}"

    async def start_servers(self) -> None:
        """Start all servers; return when streams can be made and the standby confirms commits."""
        await asyncio.gather(self._start_databases(), *map(self._start_nats, NATS_HOSTS))

    async def _start_nats(self, host: str) -> None:
        address, private = self.network.address(host), self.network.address(host, "private")
        routes = ",".join(f"nats://{self.network.address(other, 'private')}:{ROUTE_PORT}" for other in NATS_HOSTS)
        store = self.folder / host
        store.mkdir(mode=0o700)
        argv: list[str | Path] = [
            *self.network.on(host), local_nats.find_binary(),
            *("--config", local_nats.SETTINGS, "--store_dir", store, "--server_name", host),
            *("--addr", address, "--port", str(NATS_PORT), "--http_port", str(MONITOR_PORT)),
            *("--cluster_name", "sluice", "--cluster", f"nats://{private}:{ROUTE_PORT}", "--routes", routes),
        ]  # fmt: skip
        env = {"NATS_PASSWORD": "lab", "NATS_SYNC_INTERVAL": "always", "NATS_MAX_FILE_STORE": str(40 << 30)}
        ready = partial(answers_ok, MONITOR_PORT, "/healthz", address)
        await self.supervisor.start(Program(name=host, argv=argv, env=env, is_ready=ready))

    async def _start_databases(self) -> None:
        self._data("p1").parent.mkdir(mode=0o711)
        await self._database.start(self.supervisor)
        await postgres.migrate(self._database.dsn("sluice_owner"))
        await self.supervisor.stop("postgres")
        del self.supervisor._watches["postgres"]
        first = self._data("p1")
        with (first / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 10.0.0.0/8 scram-sha-256\nhost replication all 10.0.0.0/8 trust\n")
        second = self._data("p2")
        second.parent.mkdir(mode=0o711)
        shutil.copytree(first, second)
        (second / "standby.signal").touch()
        for data in (first, second):
            child.hand_over(data, (SERVERS_USER, SERVERS_USER))
        await self.start_database("p1", synchronous_standby_names="FIRST 1 (p2)")
        await self.start_database("p2", following="p1")

    def _data(self, host: str) -> Path:
        return self.folder / host / "postgres"

    async def start_database(self, host: str, *, following: str | None = None, **settings: str) -> None:
        """Start the server of a host, as a standby of another one or by itself."""
        if host in self.supervisor.names:
            del self.supervisor._watches[host]
        settings |= {
            "listen_addresses": "*", "port": str(POSTGRES_PORT), "config_file": str(SETTINGS),
            "shared_buffers": "64MB", "wal_log_hints": "on", "cluster_name": host,
        }  # fmt: skip
        if following:
            source = f"host={self.network.address(following, 'private')} port={POSTGRES_PORT} user=postgres"
            settings["primary_conninfo"] = f"{source} application_name={host}"
        lock_file = self._data(host) / "postmaster.pid"

        async def clear_remains() -> None:
            lock_file.unlink(missing_ok=True)

        async def ready() -> bool:
            return lock_file.exists() and lock_file.read_text().split("\n")[7:8] == ["ready   "]

        argv: list[str | Path] = [
            *self.network.on(host), "setpriv", f"--reuid={SERVERS_USER}", f"--regid={SERVERS_USER}", "--clear-groups",
            *("--pdeathsig", "QUIT"), find_binaries() / "postgres", "-D", self._data(host),
        ]  # fmt: skip
        for name, value in settings.items():
            argv += ["-c", f"{name}={value}"]
        signals = (signal.SIGQUIT,)
        program = Program(name=host, argv=argv, prepare=clear_remains, is_ready=ready, stop_signals=signals)
        await self.supervisor.start(program)

    async def promote(self, host: str) -> None:
        """Make the standby the primary, as an operator does."""
        connection = await asyncpg.connect(self.dsn("postgres", [host], "any"))
        try:
            assert await connection.fetchval("SELECT pg_promote(true, 30)")
        finally:
            connection.terminate()
        self.primary = host

    async def kill(self, host: str) -> None:
        """End the server of a host at once, sessions too, and leave it down."""
        pids = self.supervisor.pids(host)
        await self.supervisor.stop(host, signal.SIGKILL)
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def send(self, host: str, number: signal.Signals) -> None:
        """Send a signal to all processes of a server: SIGSTOP and SIGCONT freeze and thaw it."""
        for pid in self.supervisor.pids(host):
            os.kill(pid, number)

    async def monitor(self, host: str, path: str) -> Any:
        """A page of a NATS server's monitor."""
        url = f"http://{self.network.address(host)}:{MONITOR_PORT}{path}"
        return json.loads((await asyncio.to_thread(http_client.get, url, seconds=2.0))[1])

    async def leader(self, source: str, hosts: Sequence[str] = NATS_HOSTS) -> str | None:
        """The host that leads a source's stream, as these servers say."""
        for host in hosts:
            page = await self.monitor(host, "/jsz?streams=true")
            for account in page.get("account_details") or ():
                for stream in account.get("stream_detail") or ():
                    if stream["name"] == stream_of(source) and stream.get("cluster", {}).get("leader"):
                        return str(stream["cluster"]["leader"])
        return None

    # --- services

    async def start_service(self, name: str, host: str, module: str, *arguments: str, **settings: str) -> None:
        """Start a service on a host; return when it is ready."""
        self._next_port += 1
        self._ports[name] = self.network.address(host), self._next_port
        env = {
            **SMALL_STREAMS,
            "NATS_URL": self.nats_url(),
            "STREAM_REPLICAS": "3",
            "COLLECTOR_DSN": self.dsn("sluice_collector"),
            "REPORTER_DSN": self.dsn("sluice_reporter", attributes="primary"),
            "GATEWAY_WORKERS": "1",
            f"{module.upper()}_HOST": self.network.address(host),
            f"{module.upper()}_PORT": str(self._next_port),
            **settings,
        }
        address, port = self._ports[name]
        argv = [*self.network.on(host), sys.executable, "-m", module, *arguments]
        ready = partial(answers_ok, port, "/health/ready", address)
        program = Program(name=name, argv=argv, env=env, is_ready=ready, ready_seconds=60, drain_seconds=25)
        await self.supervisor.start(program)

    async def start_services(self) -> None:
        """Start the usual services."""
        await asyncio.gather(
            self.start_service("reporter", "r1", "reporter"),
            self.start_service("gateway-1", "g1", "gateway"),
            self.start_service("gateway-2", "g2", "gateway"),
            self.start_service("facebook-1", "c1", "collector", "--source", "facebook"),
            self.start_service("facebook-2", "c2", "collector", "--source", "facebook"),
            self.start_service("tiktok-1", "c1", "collector", "--source", "tiktok"),
        )
        self._http = httpx.AsyncClient(timeout=40)

    async def end_service(self, name: str, *signals: signal.Signals) -> None:
        """End a service for good."""
        await self.supervisor.stop(name, *signals)
        del self.supervisor._watches[name]

    def url(self, service: str) -> str:
        """The root of a service."""
        address, port = self._ports[service]
        return f"http://{address}:{port}"

    async def post(self, events: Sequence[Event | bytes], gateway: str = "gateway-1") -> int | None:
        """POST these events as one array; the status, or None without an answer. The oracle learns of it."""
        raws = [encoded(event) for event in events]
        try:
            answer = await self._http.post(
                f"{self.url(gateway)}/events",
                content=b"[" + b",".join(raws) + b"]",
                headers={"Content-Type": "application/json"},
            )
        except httpx.TransportError:
            self.oracle.answered(raws, None)
            return None
        except BaseException:
            self.oracle.answered(raws, None)
            raise
        self.oracle.answered(raws, answer.status_code, answer.content)
        return answer.status_code

    async def report(self, **query: str) -> Mapping[str, Any] | None:
        """The report of events; None if there is no answer with 200."""
        try:
            answer = await self._http.get(f"{self.url('reporter')}/reports/events", params=query)
        except httpx.TransportError:
            return None
        found: Mapping[str, Any] = answer.json()
        return found if answer.status_code == 200 else None

    # --- what the database holds

    @asynccontextmanager
    async def database(self, host: str | None = None, role: Role = "postgres") -> AsyncIterator[Connection]:
        """A connection to the server of one host, the primary unless another one is named."""
        connection = await postgres.connect(self.dsn(role, [host or self.primary], "any"), name="tests")
        try:
            yield connection
        finally:
            connection.terminate()

    async def judge(self, tally: Tally) -> None:
        """Fail unless everything accepted is stored once, rollups equal the rows and the ledger balances."""
        client = await jetstream.connect(self.nats_url(), name="tests")
        try:
            waiting = await until_stored(client, WELL_AGAIN_SECONDS * 2)
            assert not waiting, f"{waiting} messages are not stored"
            async with self.database() as connection:
                judgement = await self.oracle.judge(connection)
                tally.count(events=len(self.oracle) - self._judged)
                tally.count(
                    **{name: len(getattr(judgement, name)) for name in ("lost", "doubled", "altered", "unknown")}
                )
                self._judged = len(self.oracle)
                assert judgement.wrong() == []

                async def balances() -> bool:  # between two reads of it, a marker may be stored
                    return (await read_ledger(client, connection)).problems() == []

                await eventually(balances, what="the ledger balances", every=0.1)
        finally:
            await client.close()

    async def close(self) -> None:
        """Let go of the connections to gateways and reporter, thaw what is frozen and plug in every cable."""
        await self._http.aclose()
        for host in HOSTS:
            self.network.come_back(host)
            if host in self.supervisor.names:
                self.send(host, signal.SIGCONT)

    async def until_ready(self, *services: str, seconds: float = WELL_AGAIN_SECONDS) -> None:
        """Wait until these services are ready."""
        for service in services:
            address, port = self._ports[service]
            await eventually(
                partial(answers_ok, port, "/health/ready", address), what=f"{service} is ready", seconds=seconds
            )


@asynccontextmanager
async def running(folder: Path, network: Network) -> AsyncIterator[Cluster]:
    """A cluster with its usual services."""
    async with AsyncExitStack() as opened:
        supervisor = await opened.enter_async_context(Supervisor(folder))
        cluster = Cluster(folder, network, supervisor)
        await cluster.start_servers()
        await cluster.start_services()
        opened.push_async_callback(cluster.close)
        yield cluster


async def fresh_until(cluster: Cluster, source: str) -> datetime | None:
    """Up to which instant reports claim to be complete, if one is answered."""
    now = datetime.now(UTC)
    report = await cluster.report(
        **{"from": rfc3339(now - timedelta(days=1)), "to": rfc3339(now + timedelta(days=1)), "source": source}
    )
    until = report["freshness"][source]["storedUntil"] if report else None
    return datetime.fromisoformat(until) if until else None


async def goes_on(cluster: Cluster, tally: Tally, *, seconds: float = WELL_AGAIN_SECONDS) -> None:
    """Events of both sources are accepted, and reports are complete past them."""
    began = time.monotonic()

    async def accepted() -> bool:
        return await cluster.post([make() for make in MAKERS.values()]) == 202

    await eventually(accepted, what="events are accepted", seconds=seconds)
    instant = datetime.now(UTC)

    async def fresh() -> bool:
        untils = [await fresh_until(cluster, source) for source in MAKERS]
        return all(until is not None and until > instant for until in untils)

    left = seconds - (time.monotonic() - began)
    await eventually(fresh, what="reports are complete past what was accepted", seconds=left, every=0.1)
    tally.most(recovery_seconds_max=time.monotonic() - began)


async def waiting_in(cluster: Cluster, source: str, hosts: tuple[str, ...] = NATS_HOSTS) -> int:
    """Messages in a source's stream, as its leader says."""
    leader = await cluster.leader(source, hosts)
    page = await cluster.monitor(leader or hosts[0], "/jsz?streams=true")
    (stream,) = [one for one in page["account_details"][0]["stream_detail"] if one["name"] == stream_of(source)]
    return int(stream["state"]["messages"])


@asynccontextmanager
async def load(cluster: Cluster) -> AsyncIterator[Watched]:
    """Post events of each source to both gateways, and ask for reports, until the end. No report may claim too much."""
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)
    query = {"from": rfc3339(at), "to": rfc3339(at + timedelta(seconds=1))}

    async def post(watched: Watched, source: SourceName) -> None:
        gateways = cycle(("gateway-1", "gateway-2"))
        while True:
            if await cluster.post([MAKERS[source](at=at) for _ in range(10)], next(gateways)) == 202:
                watched.answered[source] += [datetime.now(UTC)] * 10
            await asyncio.sleep(PAUSE_SECONDS)  # a rate, not a wait

    async def ask(watched: Watched, source: SourceName) -> None:
        while True:
            if report := await cluster.report(**query, source=source):
                watched.check(source, dict(report))
            await asyncio.sleep(PAUSE_SECONDS)  # a rate, not a wait

    async with watching(post, ask, more_reports_than=10) as watched:
        yield watched
