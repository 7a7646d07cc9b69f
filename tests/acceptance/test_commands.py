"""The operator's commands, as a person runs them: what they say, their exit codes, and that nothing is left behind."""

import asyncio
import json
import os
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil

from core import jetstream, postgres
from ops.ledger import Ledger, read_ledger
from ops.local import Servers
from ops.local.ports import free_port, is_free
from tests.support.events import NOON, facebook, rfc3339
from tests.support.operator import assert_shape
from tests.support.processes import ROOT

ADDRESS = re.compile(r"127\.0\.0\.1:(\d+)")
FLOW = re.compile(r"accepted +([\d,]+)/s .* stored +([\d,]+)/s +total +([\d,]+) ")
PROGRAMS = {"postgres", "nats", "reporter", "fb-collector", "ttk-collector", "rejected-collector", "gateway"}
FIGURES = {
    "sent", "accepted", "rejected", "stored", "repeated", "dead", "pending", "lost", "seconds", "stored_per_second",
    "freshness_p50_seconds", "freshness_p99_seconds", "rss_bytes",
}  # fmt: skip
# A body of the default load holds 1,000 events or more, of 425 bytes on average: none is that small.
TOO_SMALL_BYTES = 300_000


class Command:
    """One `python -m ops …` in a folder, and the lines that it has printed so far."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def until(self, pattern: str, seconds: float = 60) -> re.Match[str]:
        """Read on to the first line that matches. Fails where the command ends before or takes longer."""
        assert self.process.stdout
        async with asyncio.timeout(seconds):
            while line := (await self.process.stdout.readline()).decode():
                self.lines.append(line)
                if found := re.search(pattern, line):
                    return found
        raise AssertionError(f"no line matches {pattern}:\n{self.text}")

    async def end(self, seconds: float = 120) -> int:
        """Read to the end; the exit code."""
        assert self.process.stdout
        async with asyncio.timeout(seconds):
            self.lines += (await self.process.stdout.read()).decode().splitlines(keepends=True)
            return await self.process.wait()

    @property
    def text(self) -> str:
        return "".join(self.lines)

    @property
    def ports(self) -> set[int]:
        """Every port that it has reported."""
        return {int(port) for port in ADDRESS.findall(self.text)}


@asynccontextmanager
async def ops(folder: Path, *arguments: str, **environment: str) -> AsyncIterator[Command]:
    """Run a command in `folder`, where its data goes to. Whatever is left of it at the end is killed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ops", *arguments),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=PIPE,
        stderr=STDOUT,
    )
    try:
        yield Command(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def left_behind(folder: Path) -> list[str]:
    """Processes that work in the folder: all programs of a stack do."""
    found = []
    for process in psutil.process_iter(["cwd", "cmdline"]):
        if Path(process.info["cwd"] or "/").is_relative_to(folder):
            found.append(f"{process.pid} {process.info['cmdline']}")
    return found


async def test_demo_shows_that_nothing_is_lost(folder: Path) -> None:
    """Exit code 0 under the publisher's load; demo.json holds every figure, and they fit together; nothing is left.

    With --format json the result is the one document on stdout, and has the shape that the help shows."""
    async with ops(folder, "demo", "--seconds", "4", "--format", "json") as demo:
        assert await demo.end() == 0, demo.text
    document = json.loads(demo.text[demo.text.rindex("\n{\n") :])
    assert_shape(["demo"], document)
    assert document["ok"]
    assert "no event lost, the ledger balances" in demo.text
    figures = json.loads((folder / ".sluice" / "demo.json").read_text())
    assert figures.keys() >= FIGURES
    assert figures["sent"] == figures["accepted"] + figures["rejected"] > 4_000
    assert figures["stored"] == figures["accepted"]
    assert [figures[name] for name in ("repeated", "dead", "pending", "lost")] == [0, 0, 0, 0]
    assert figures["seconds"] >= 4
    assert (
        abs(figures["stored_per_second"] - figures["stored"] / figures["seconds"]) < figures["stored_per_second"] / 20
    )
    assert 0 < figures["freshness_p50_seconds"] <= figures["freshness_p99_seconds"]
    assert figures["rss_bytes"].keys() == PROGRAMS
    assert all(size > 10_000_000 for size in figures["rss_bytes"].values())
    assert not left_behind(folder)
    assert demo.ports
    assert all(map(is_free, demo.ports))


async def test_demo_fails_where_something_is_wrong(folder: Path) -> None:
    """Bodies that the gateway is reported not to take are lost to a publisher that never retries: exit code 1, and
    why."""
    async with ops(folder, "demo", "--seconds", "1", GATEWAY_MAX_BODY_BYTES=str(TOO_SMALL_BYTES)) as demo:
        assert await demo.end() == 1, demo.text
    assert re.search(r"problem: not every POST got 202: \{.*'413': \d", demo.text)
    assert "demo failed" in demo.text
    assert (folder / ".sluice" / "demo.json").exists()
    assert not left_behind(folder)


async def test_demo_says_why_it_cannot_start(folder: Path) -> None:
    """A port that is taken is named with its variable; exit code 1, and what had been started is ended."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        async with ops(folder, "demo", GATEWAY_PORT=port) as demo:
            assert await demo.end() == 1
    assert f"sluice: GATEWAY_PORT={port}: 127.0.0.1:{port} is in use" in demo.text
    assert not left_behind(folder)


async def test_up_runs_until_ctrl_c(folder: Path) -> None:
    """It reports the addresses and then a line a second; what is posted is in the reports; Ctrl-C drains, exit code
    0."""
    gateway, reporter = free_port(), free_port()
    async with ops(folder, "up", PUBLISHER="0", GATEWAY_PORT=str(gateway), REPORTER_PORT=str(reporter)) as up:
        await up.until(FLOW.pattern)
        assert f"http://127.0.0.1:{gateway}/events" in up.text
        assert f"http://127.0.0.1:{reporter}" in up.text
        assert PROGRAMS - {"postgres", "nats"} <= set(up.text.split())
        async with httpx.AsyncClient() as http:
            assert (await http.post(f"http://127.0.0.1:{gateway}/events", json=[facebook()])).status_code == 202
            await up.until(r" total +1 ")
            report = await http.get(
                f"http://127.0.0.1:{reporter}/reports/events",
                params={"from": rfc3339(NOON), "to": f"{NOON.date()}T13:00Z"},
            )
        assert report.json()["totals"]["events"] == 1
        async with ops(folder, "up", PUBLISHER="0") as second:
            assert await second.end() == 1
        assert f"in use by another stack (pid {up.process.pid})" in second.text
        assert "stop that stack, or set SLUICE_FOLDER to another folder" in second.text
        await up.until(FLOW.pattern)  # the first one goes on
        up.process.send_signal(signal.SIGINT)
        assert await up.end() == 0, up.text
    assert up.lines[-1] == "stopped\n"
    assert not left_behind(folder)
    assert len(up.ports) >= len(PROGRAMS)
    assert all(map(is_free, up.ports))


async def test_ctrl_c_while_services_start(folder: Path) -> None:
    """A stop that comes before all is ready ends what was started, exit code 130. Settings come from .env, and the
    data folder is the one that SLUICE_FOLDER names."""
    reporter = free_port()
    (folder / ".env").write_text(f"REPORTER_PORT={reporter}\nGATEWAY_PORT={free_port()}\nSLUICE_FOLDER=elsewhere\n")
    async with ops(folder, "up", PUBLISHER="0") as up:
        await up.until("starting the services")
        up.process.terminate()
        assert await up.end() == 130, up.text
    assert not left_behind(folder)
    assert (folder / "elsewhere" / "postgres").is_dir()
    assert not (folder / ".sluice").exists()
    async with ops(folder, "up", PUBLISHER="0") as again:
        await again.until(FLOW.pattern)
        assert f"http://127.0.0.1:{reporter}" in again.text
        assert "SLUICE_FOLDER=elsewhere" in again.text
        again.process.terminate()
        assert await again.end() == 0, again.text
    async with ops(folder, "reset-data") as reset:
        assert await reset.end() == 0, reset.text
    assert "deleted from elsewhere: postgres, postgres-secret, nats" in reset.text
    assert not (folder / "elsewhere").exists()


async def test_up_under_load_ends_without_a_loss(folder: Path) -> None:
    """With the publisher at work, SIGTERM drains and ends with 0; the ledger then balances on disk."""
    ports = {"GATEWAY_PORT": str(free_port()), "REPORTER_PORT": str(free_port())}
    async with ops(folder, "up", **ports) as up:
        while int((await up.until(FLOW.pattern))[3].replace(",", "")) < 20_000:
            pass
        up.process.terminate()
        assert await up.end() == 0, up.text
    assert not left_behind(folder)
    async with Servers(folder / ".sluice", environ={}) as servers:
        ledger = await ledger_of(servers)
    assert not ledger.problems()
    assert ledger.events("stored") >= 20_000
    assert ledger.events("repeated") == ledger.events("dead") == 0


async def ledger_of(servers: Servers) -> Ledger:
    client = await jetstream.connect(servers.nats_url, name="tests")
    connection = await postgres.connect(servers.reporter_dsn, name="tests")
    try:
        return await read_ledger(client, connection)
    finally:
        await connection.close()
        await client.close()


async def test_commands_explain_themselves(folder: Path) -> None:
    """--help lists the commands; an unknown one is a mistake of the caller's: exit code 2."""
    async with ops(folder, "--help") as requested:
        assert await requested.end() == 0
    assert {"up", "demo"} <= set(requested.text.split())
    async with ops(folder, "dance") as unknown:
        assert await unknown.end() == 2
    assert "invalid choice: 'dance'" in unknown.text
    assert not (folder / ".sluice").exists()
