"""The reporter as its users and operators meet it: a process of its own, asked over HTTP."""

import asyncio
import os
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from ops.local import Servers
from ops.local.ports import LOOPBACK, free_port
from reporter.formats import FORMATS
from reporter.reports import AnyReport
from reporter.reports.demographics import DEMOGRAPHICS
from reporter.reports.demographics_answer import DemographicsAnswer
from reporter.reports.events import EVENTS
from reporter.reports.events_answer import EventsAnswer
from reporter.reports.funnel import FUNNEL
from reporter.reports.funnel_answer import FunnelAnswer
from reporter.reports.revenue import REVENUE
from reporter.reports.revenue_answer import RevenueAnswer
from tests.support.events import NOON, facebook, tiktok
from tests.support.processes import ROOT
from tests.support.report_rows import collecting, connected
from tests.support.stack import Database
from tests.support.waiting import eventually, in_time

REPORTS: dict[str, tuple[AnyReport, Any]] = {
    "events": (EVENTS, EventsAnswer),
    "revenue": (REVENUE, RevenueAnswer),
    "funnel": (FUNNEL, FunnelAnswer),
    "demographics": (DEMOGRAPHICS, DemographicsAnswer),
}
SVG_NAMESPACE = "http://www.w3.org/2000/svg"  # a name: it is not loaded
DAY = {"from": NOON.date().isoformat(), "to": f"{NOON.date()}T18:00:00Z"}


@asynccontextmanager
async def process(reporter_dsn: str, **environment: str) -> AsyncIterator[tuple[Process, httpx.AsyncClient]]:
    """A reporter that is ready, and its client. Whatever is left of it at the end is killed."""
    port = free_port()
    settings = {"REPORTER_DSN": reporter_dsn, "REPORTER_PORT": str(port), **environment}
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "reporter", cwd=ROOT, env=os.environ | settings, stdout=PIPE, stderr=None
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}", timeout=30) as client:
            await eventually(lambda: is_ready(client), what="the reporter is ready")
            yield running, client
    finally:
        if running.returncode is None:
            running.kill()
        await running.communicate()


async def is_ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/health/ready")).status_code == 200
    except httpx.TransportError:
        return False


async def test_reports_in_both_formats(database: Database) -> None:
    """JSON by default and CSV where asked for, of the type that the contract gives, under the request's own ID."""
    async with collecting(database.collector_dsn) as collected:
        await collected.store([make(stage, at=NOON) for make in (facebook, tiktok) for stage in ("top", "bottom")])
    async with process(database.reporter_dsn) as (_, client):
        for name, (_, kind) in REPORTS.items():
            answer = await client.get(f"/reports/{name}", params=DAY, headers={"X-Correlation-Id": "mine-1"})
            assert answer.status_code == 200
            assert answer.headers["Content-Type"] == "application/json"
            assert answer.headers["X-Correlation-Id"] == "mine-1"
            decoded: Any = msgspec.json.decode(answer.content, type=kind)
            if name in ("events", "demographics"):
                assert decoded.totals.events == 4
        revenue = await client.get(
            "/reports/revenue", params=DAY | {"groupBy": "source"}, headers={"Accept": "text/csv"}
        )
        assert revenue.headers["Content-Type"].startswith("text/csv")
        start, end = (f"{NOON.date()}T{hour}:00:00Z" for hour in ("00", "18"))
        assert revenue.text.splitlines() == [
            "start,localStart,end,complete,source,revenue,purchases",
            f"{start},{NOON.date()} 00:00:00,{end},false,facebook,203.95,1",
            f"{start},{NOON.date()} 00:00:00,{end},false,tiktok,12.50,1",
        ]


async def test_every_error_is_a_problem_document(database: Database) -> None:
    """Wrong parameters, pages, methods and formats are reported as RFC 9457 says, with the request's ID."""
    async with process(database.reporter_dsn) as (_, client):
        for status, answer in (
            (400, await client.get("/reports/events", params=DAY | {"color": "red"})),
            (404, await client.get("/reports/nothing")),
            (405, await client.post("/reports/events")),
            (406, await client.get("/reports/events", params=DAY, headers={"Accept": "image/png"})),
        ):
            assert answer.status_code == status
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.json()["status"] == status
            assert answer.json()["correlationId"] == answer.headers["X-Correlation-Id"]
        scraped = (await client.get("/metrics")).text
        assert 'reporter_reports_total{report="events",status="400"} 1.0' in scraped
        assert 'reporter_report_duration_seconds_count{report="events"} 2.0' in scraped
        assert "sluice_build_info{" in scraped


async def test_head_is_answered_as_get_without_its_body(database: Database) -> None:
    """What may be asked for may be looked at first: the same status and headers, and the connection goes on."""
    async with process(database.reporter_dsn) as (_, client):
        for path in ("/", "/docs", "/openapi.json", "/health/live", "/reports/events?from=2026-11-22&to=2026-11-23"):
            head, got = await client.head(path), await client.get(path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["Content-Length"] == got.headers["Content-Length"] == str(got.num_bytes_downloaded)
            assert head.headers["Content-Type"] == got.headers["Content-Type"]
        assert (await client.head("/nothing")).status_code == 404


async def test_the_pages_need_no_other_host(database: Database) -> None:
    """Dashboard and documentation load their own files alone, and their policy forbids all else; the OpenAPI document
    is whole."""
    async with process(database.reporter_dsn) as (_, client):
        for path in ("/", "/docs"):
            page = await client.get(path)
            assert page.headers["Content-Type"].startswith("text/html")
            policy = page.headers["Content-Security-Policy"]
            assert {"default-src 'none'", "script-src 'self'", "style-src 'self'"} <= set(policy.split("; "))
            assert "http" not in policy
            assert "unsafe" not in policy
            loaded = re.findall(r'(?:src|href)="([^"#][^"]*)"', page.text)
            assert loaded
            for address in loaded:
                assert address.startswith(("/", "data:"))
                if address.startswith("/"):
                    file = await client.get(address)
                    assert file.status_code == 200
                    assert "://" not in file.text.replace(SVG_NAMESPACE, "")
        document = (await client.get("/openapi.json")).json()
        assert document["openapi"].startswith("3.1")
        for name, (report, _) in REPORTS.items():
            operation = document["paths"][f"/v1/reports/{name}"]["get"]
            assert [parameter["name"] for parameter in operation["parameters"]] == [p.name for p in report.parameters]
            assert set(operation["responses"]) == {"200", "400", "401", "403", "406", "503", "504"}
            assert set(operation["responses"]["200"]["content"]) == set(FORMATS)
        schemas = document["components"]["schemas"]
        for reference in re.findall(r"#/components/schemas/(\w+)", msgspec.json.encode(document).decode()):
            assert reference in schemas


async def test_sigterm_lets_reports_finish(database: Database) -> None:
    """What was asked before the signal is answered, nothing new is taken, and the exit code is 0."""
    async with process(database.reporter_dsn) as (running, client), connected(database.owner_dsn) as owner:
        waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'facebook_events'::regclass AND NOT granted"
        async with owner.transaction():
            await owner.execute("LOCK TABLE facebook_events IN ACCESS EXCLUSIVE MODE")
            ragged = DAY | {"to": f"{NOON.date()}T18:00:01Z"}  # the last second is counted from the rows
            requested = asyncio.create_task(client.get("/reports/events", params=ragged))
            await eventually(lambda: owner.fetchval(waiting), what="the report waits for the lock")
            running.send_signal(signal.SIGTERM)
            async with httpx.AsyncClient(base_url=client.base_url) as another:
                await eventually(lambda: _rejected(another), what="the listener is shut")
        assert (await requested).status_code == 200
        assert await in_time(running.wait()) == 0


async def test_the_database_may_be_away(folder: Path) -> None:
    """While it is away reports are 503 and readiness names it; when it is back they are answered again."""
    async with (
        Servers(folder / "stack", environ={}) as servers,
        process(servers.reporter_dsn, SLUICE_MIGRATE_DSN=servers.owner_dsn) as (running, client),
    ):
        assert (await client.get("/reports/events", params=DAY)).status_code == 200
        await servers.supervisor.stop("postgres")
        answer = await client.get("/reports/events", params=DAY)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        readiness = await client.get("/health/ready")
        assert readiness.status_code == 503
        assert "postgres" in readiness.json()["missing"]
        assert (await client.get("/health/live")).status_code == 200
        await servers.supervisor.start_again("postgres")
        await eventually(lambda: is_ready(client), what="the reporter is ready again")
        assert (await client.get("/reports/events", params=DAY)).status_code == 200
        running.send_signal(signal.SIGTERM)
        assert await in_time(running.wait()) == 0


async def test_the_schema_is_migrated_and_the_owner_leaves(servers: Servers) -> None:
    """On an empty database the reporter makes the schema, then no session of the owner is left."""
    name = "reporter_migrates"
    async with connected(servers.dsn("postgres", "postgres")) as superuser:
        await superuser.execute(f"CREATE DATABASE {name} OWNER sluice_owner")
        dsns = {role: servers.dsn(role, name) for role in ("sluice_owner", "sluice_reporter")}
        async with process(dsns["sluice_reporter"], SLUICE_MIGRATE_DSN=dsns["sluice_owner"]) as (_, client):
            assert (await client.get("/reports/events", params=DAY)).json()["totals"] == {"events": 0}
            sessions = "SELECT usename FROM pg_stat_activity WHERE datname = $1"
            assert {row["usename"] for row in await superuser.fetch(sessions, name)} == {"sluice_reporter"}
        await superuser.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_a_taken_port_is_reported(database: Database) -> None:
    """The reporter names the settings and exits with 2."""
    with socket.create_server((LOOPBACK, 0)) as taken:
        settings = {"REPORTER_DSN": database.reporter_dsn, "REPORTER_PORT": str(taken.getsockname()[1])}
        running = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "reporter", cwd=ROOT, env=os.environ | settings, stdout=PIPE, stderr=PIPE
        )
        _, errors = await in_time(running.communicate())
    assert running.returncode == 2
    assert "REPORTER_PORT" in errors.decode()


async def test_idle_connections_do_not_keep_a_health_check_out(database: Database) -> None:
    """The reporter answers while 200 clients are connected and send nothing, and cuts them off by itself.

    An HTTP/2 preface is no way around its deadline.
    """
    async with process(database.reporter_dsn) as (_, client):
        with ExitStack() as opened:
            idle = [
                opened.enter_context(socket.create_connection((LOOPBACK, client.base_url.port))) for _ in range(200)
            ]
            idle[0].sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            async with httpx.AsyncClient(base_url=client.base_url, timeout=30) as another:
                assert (await another.get("/health/live")).status_code == 200
            for number, each in enumerate(idle[1:], 1):
                each.setblocking(False)
                with pytest.raises(BlockingIOError):
                    assert each.recv(1), f"the answer came after connection {number} was cut off"
            for each in (idle[0], idle[-1]):
                each.setblocking(True)
                each.settimeout(30)
                assert await asyncio.to_thread(_until_its_end, each)


def _until_its_end(connection: socket.socket) -> bool:
    while connection.recv(4096):
        pass
    return True


async def _rejected(client: httpx.AsyncClient) -> bool:
    try:
        await client.get("/health/live")
    except httpx.TransportError:
        return True
    return False
