"""How the gateway lives: it starts without NATS, outlives its workers and NATS, and ends without losing anything.

Judged by what senders were reported: an event that was answered 202 is in the stream, once; one that was answered 503,
or not at all, is there once or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from core import listen
from ops.local.ports import LOOPBACK, free_port
from tests.support.events import Event, encoded, facebook, tiktok
from tests.support.gateway import Gateway, gateway_process, start_gateway, unsupervised_gateway
from tests.support.processes import ROOT, ended, standing_still
from tests.support.stack import FreshNats
from tests.support.waiting import eventually, in_time

SENDERS = 8


@dataclass
class Sent:
    """What senders were reported, by event ID."""

    accepted: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)
    statuses: Counter[int | None] = field(default_factory=Counter)

    def judge(self, stored: list[bytes]) -> None:
        """Nothing accepted is lost, nothing is doubled, nothing is there that was never sent."""
        counted = Counter(json.loads(line)["eventId"] for line in stored)
        assert not self.accepted - counted.keys(), "accepted events are lost"
        assert set(counted.values()) <= {1}, "events are doubled"
        assert not counted.keys() - self.accepted - self.unsure, "events that no one sent"


@contextlib.asynccontextmanager
async def senders(gateway: Gateway, batch: int = 20) -> AsyncIterator[Sent]:
    """Senders that post all the time, small bodies and large ones, and remember what they were reported."""
    sent = Sent()
    stopping = asyncio.Event()

    async def send(number: int) -> None:
        async with httpx.AsyncClient(timeout=60) as http:
            while not stopping.is_set():
                events: list[Event] = [
                    facebook() if number % 2 else tiktok() for _ in range(batch * (1 + 50 * (number < 2)))
                ]
                body = b"[" + b",".join(map(encoded, events)) + b"]"
                ids = {event["eventId"] for event in events}
                try:
                    status: int | None = (await http.post(f"{gateway.url}/events", content=body)).status_code
                except httpx.TransportError:
                    status = None
                    await asyncio.sleep(0.02)  # a rate, not a wait
                sent.statuses[status] += 1
                (sent.accepted if status == 202 else sent.unsure).update(ids)

    async with asyncio.TaskGroup() as group:
        for number in range(SENDERS):
            group.create_task(send(number))
        yield sent
        stopping.set()


async def answered(sent: Sent, more: int) -> None:
    """Wait until so many more requests were answered 202."""
    wanted = sent.statuses[202] + more

    async def enough() -> bool:
        return sent.statuses[202] >= wanted

    await eventually(enough, what=f"{more} more requests are answered 202", seconds=60)


async def stored(gateway: Gateway) -> list[bytes]:
    return [*await gateway.lines("facebook"), *await gateway.lines("tiktok")]


async def test_it_starts_without_nats_and_becomes_ready_by_itself(fresh_nats: FreshNats) -> None:
    """While NATS is not there the gateway lives, is not ready and answers 503; it is ready soon after NATS came."""
    await fresh_nats.supervisor.stop("nats")
    async with start_gateway(fresh_nats, wait_ready=False, GATEWAY_PUBLISH_TIMEOUT_SECONDS="0.5") as gateway:
        ready = await gateway.http.get(f"{gateway.url}/health/ready")
        assert (ready.status_code, set(ready.json()["missing"])) == (503, {"nats", "streams"})
        answer = await gateway.post([facebook()])
        assert answer.status_code == 503
        assert answer.json()["type"] == "urn:sluice:problem:not_serving"
        await fresh_nats.supervisor.start_again("nats")

        async def is_ready() -> bool:
            return (await gateway.http.get(f"{gateway.url}/health/ready")).status_code == 200

        await eventually(is_ready, what="the gateway is ready")
        assert (await gateway.post([facebook()])).status_code == 202


async def test_nats_is_killed_and_comes_back_under_load(fresh_nats: FreshNats) -> None:
    """kill -9 of NATS in the middle, twice: senders wait, and every event that was answered 202 is stored once."""
    async with start_gateway(fresh_nats, GATEWAY_WORKERS="2") as gateway:
        async with senders(gateway) as sent:
            for _ in range(2):
                await answered(sent, 100)
                pid = fresh_nats.supervisor.kill("nats")
                await fresh_nats.supervisor.wait_ready("nats", after=pid)
            await answered(sent, 100)
        sent.judge(await stored(gateway))
        assert sent.statuses[202] == sent.statuses.total(), "an outage shorter than the patience costs no request"
        assert await gateway.metric("gateway_publish_unexpected_duplicates_total") == 0


async def test_ready_says_that_nats_is_away(fresh_nats: FreshNats) -> None:
    """Readiness follows the connection: not ready, and why, while NATS is away; live all the time."""
    async with start_gateway(fresh_nats) as gateway:
        await fresh_nats.supervisor.stop("nats")

        async def says(status: int) -> bool:
            return (await gateway.http.get(f"{gateway.url}/health/ready")).status_code == status

        await eventually(lambda: says(503), what="not ready without NATS")
        missing = (await gateway.http.get(f"{gateway.url}/health/ready")).json()["missing"]
        assert missing == {"nats": "not connected"}
        assert (await gateway.http.get(f"{gateway.url}/health/live")).status_code == 200
        await fresh_nats.supervisor.start_again("nats")
        await eventually(lambda: says(200), what="ready again")


async def test_sigterm_under_load_loses_nothing(fresh_nats: FreshNats) -> None:
    """SIGTERM under load: what is in flight is finished, exit code 0 in time, and each 202 is in the stream."""
    async with unsupervised_gateway(fresh_nats, GATEWAY_WORKERS="2") as (process, gateway):
        workers = psutil.Process(process.pid).children()
        async with senders(gateway) as sent:
            await answered(sent, 100)
            process.terminate()
            assert await in_time(process.wait()) == 0, "1 if a worker has not ended by itself in time"
        await ended(*(worker.pid for worker in workers))
        sent.judge(await stored(gateway))
        assert set(sent.statuses) <= {202, 503, None}


async def _in_flight(gateway: Gateway, requests: int) -> None:
    """Wait until the metric says so: workers bring it up to date a few times a second."""

    async def so_many() -> bool:
        return await gateway.metric("gateway_requests_in_flight") == requests

    await eventually(so_many, what=f"{requests} requests are in flight")


async def test_a_drain_waits_for_pubacks(fresh_nats: FreshNats) -> None:
    """A request that waits for its PubAck when SIGTERM comes is answered 202 before the end; no new one is taken."""
    async with unsupervised_gateway(fresh_nats) as (process, gateway):
        async with standing_still(fresh_nats.supervisor.pid("nats")):
            request = asyncio.create_task(gateway.post([facebook()]))
            await _in_flight(gateway, 1)
            process.terminate()

            async def rejected() -> bool:
                return (await gateway.send(b"")).status_code == 503  # 400 while requests are taken

            await eventually(rejected, what="new requests are rejected")
            assert process.returncode is None
        assert (await request).status_code == 202
        assert await in_time(process.wait()) == 0
        assert len(await stored(gateway)) == 1


async def test_a_drain_ends_in_time(fresh_nats: FreshNats) -> None:
    """Where a PubAck never comes the gateway ends at GATEWAY_DRAIN_SECONDS all the same, and owns up to it: not sooner,
    and not when the request's own time is over, which would be answered and end with 0."""
    server = fresh_nats.supervisor.pid("nats")
    async with (
        unsupervised_gateway(fresh_nats, GATEWAY_DRAIN_SECONDS="2") as (process, gateway),
        standing_still(server),
    ):
        request = asyncio.create_task(gateway.post([facebook()]))
        await _in_flight(gateway, 1)
        process.terminate()
        began = time.monotonic()
        assert await in_time(process.wait()) == 1
        assert time.monotonic() - began > 1.5
        with pytest.raises(httpx.TransportError):
            await request


async def test_a_killed_worker_is_started_again_under_load(fresh_nats: FreshNats) -> None:
    """kill -9 of a worker costs its unanswered requests alone: another one serves within seconds, and is counted."""
    async with start_gateway(fresh_nats, GATEWAY_WORKERS="2") as gateway:
        async with senders(gateway) as sent:
            for _ in range(2):
                await answered(sent, 50)
                victim = gateway.workers()[0]
                victim.kill()
                await ended(victim.pid)

                async def replaced(pid: int = victim.pid) -> bool:
                    return len(gateway.workers()) == 2 and pid not in {worker.pid for worker in gateway.workers()}

                await eventually(replaced, what="there are two workers again")
            await answered(sent, 50)
        sent.judge(await stored(gateway))
        assert await gateway.metric("gateway_worker_restarts_total") == 2
        await _in_flight(gateway, 0)  # dead workers' gauges are gone


def metric_files(folder: Path, named: str) -> int:
    return len(list(folder.glob(f"{named}.db")))


async def test_metrics_outlive_workers_and_their_files_do_not(fresh_nats: FreshNats) -> None:
    """However often a worker is killed, no counter goes back, the start of the gateway stays, and no file is added."""
    async with start_gateway(fresh_nats) as gateway:
        (worker,) = gateway.workers()
        folder = Path(worker.environ()["PROMETHEUS_MULTIPROC_DIR"])
        started = await gateway.metric("sluice_start_time_seconds")
        assert started > time.time() - 120
        counts: set[int] = set()
        for kills in range(1, 5):
            assert (await gateway.post([facebook()])).status_code == 202

            async def counted(accepted: int = kills) -> bool:
                return await gateway.metric("gateway_events_accepted_total", source="facebook") == accepted

            await eventually(counted, what="each event is counted, once")
            (worker,) = gateway.workers()
            worker.kill()

            async def replaced(pid: int = worker.pid) -> bool:
                return [serving.pid for serving in gateway.workers()] not in ([], [pid])

            await eventually(replaced, what="another worker serves")

            async def spare_has_files() -> bool:
                parent = psutil.Process(gateway.supervisor.pid("gateway"))
                return all(metric_files(folder, f"gauge_livesum_{child.pid}") for child in parent.children())

            await eventually(spare_has_files, what="the next spare has imported everything")
            await gateway.until_ready()
            counts.add(metric_files(folder, "*"))
        assert len(counts) == 1
        assert await gateway.metric("sluice_start_time_seconds") == started


async def test_a_worker_whose_link_fails_ends() -> None:
    """A worker that lost what it needs says so and ends by itself, with 1: its parent starts another."""
    settings = {"GATEWAY_PORT": str(free_port()), "GATEWAY_DRAIN_SECONDS": "1", "NATS_URL": "nats://127.0.0.1:abc"}
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway.app"),
        cwd=ROOT,
        env={**os.environ, **settings},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert worker.stdin is not None
        worker.stdin.write(b"0\n")
        assert worker.stdout is not None
        said = [json.loads(line) for line in (await in_time(worker.stdout.read())).splitlines()]
        assert await worker.wait() == 1
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
    (failed,) = [line for line in said if line["event"] == "worker failed"]
    assert "NATS_URL: invalid connect url option" in failed["exception"]


async def test_workers_do_not_outlive_their_parent(fresh_nats: FreshNats) -> None:
    """kill -9 of the parent ends its workers: nothing keeps the port, and a new gateway starts on it at once."""
    async with unsupervised_gateway(fresh_nats, GATEWAY_WORKERS="2") as (process, gateway):
        workers = psutil.Process(process.pid).children()
        process.kill()
        await process.wait()
        await ended(*(worker.pid for worker in workers))
        async with unsupervised_gateway(fresh_nats, gateway.port, GATEWAY_WORKERS="2") as (_, after):
            assert (await after.post([facebook()])).status_code == 202


async def test_a_taken_port_is_reported(fresh_nats: FreshNats) -> None:
    """A port that another gateway serves is not shared without a word: the start fails and names the setting."""
    async with start_gateway(fresh_nats) as gateway:
        process = await gateway_process(NATS_URL=fresh_nats.url, GATEWAY_PORT=str(gateway.port))
        _, errors = await process.communicate()
        assert process.returncode == 2
        assert b"GATEWAY_PORT" in errors
        assert str(gateway.port).encode() in errors


async def test_the_port_stays_reserved_while_no_worker_listens(fresh_nats: FreshNats) -> None:
    """Before the first worker and between two of them no other program can listen on the port: workers that start
    later would die of it, again and again."""
    async with start_gateway(fresh_nats) as gateway:
        parent = psutil.Process(gateway.supervisor.pid("gateway"))
        async with standing_still(parent.pid):
            workers = parent.children()
            for worker in workers:
                worker.kill()
            await ended(*(worker.pid for worker in workers))
            with pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
                listen.bind(LOOPBACK, gateway.port, socket.SO_REUSEADDR)
        await gateway.until_ready()
        assert (await gateway.post([facebook()])).status_code == 202


async def test_workers_listen_where_the_parent_does(fresh_nats: FreshNats, tmp_path: Path) -> None:
    """What the parent made of a name and a port, given as files too, is what its workers serve."""
    port = free_port()
    (tmp_path / "host").write_text("127.1")  # a name to Robyn, and to everybody's resolver 127.0.0.1
    (tmp_path / "port").write_text(str(port))
    host_file, port_file = str(tmp_path / "host"), str(tmp_path / "port")
    async with start_gateway(
        fresh_nats, port, GATEWAY_PORT="", GATEWAY_HOST_FILE=host_file, GATEWAY_PORT_FILE=port_file
    ) as gateway:
        assert (await gateway.post([facebook()])).status_code == 202


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_PORT", "eighty"),
        ("GATEWAY_WORKERS", "0"),
        ("LOG_LEVEL", "loud"),
        ("NATS_URL", "nats://127.0.0.1:abc"),
        ("NATS_URL", "nats://a,,b"),
    ],
)
async def test_a_wrong_setting_is_reported(name: str, value: str) -> None:
    """A setting that cannot be ends the start with exit code 2 and its name."""
    process = await gateway_process(**{name: value})
    _, errors = await process.communicate()
    assert process.returncode == 2
    assert name.encode() in errors
