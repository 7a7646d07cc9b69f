"""Every line that a service writes is one JSON object, also what Rust, a library or the interpreter has to say."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from urllib.parse import urlsplit

from tests.support.events import facebook
from tests.support.processes import ROOT
from tests.support.system import running
from tests.support.waiting import eventually

SERVICES = ("gateway", "fb-collector", "ttk-collector", "rejected-collector", "reporter")
CHUNKED = b"POST /events HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_every_line_is_json() -> None:
    """A worker that panics, servers that are killed under requests, and a clean stop: each line of each service's log
    is JSON, with service, level and instant, the panic among them; a clean stop is no error."""
    async with running(GATEWAY_WORKERS="1") as system:
        url = urlsplit(system.gateway)
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(CHUNKED + b"zz\r\n")
        await reader.read()
        writer.close()

        async def panicked() -> bool:
            return any("panicked at" in line.get("text", "") for line in system.log_lines("gateway"))

        await eventually(panicked, what="the panic is in the log")
        for server in ("postgres", "nats"):
            pid = system.supervisor.kill(server, signal.SIGKILL)
            await asyncio.gather(
                *(system.get("/reports/events", **{"from": "2026-11-21", "to": "2026-11-22"}) for _ in range(4)),
                *(system.get("/pipeline") for _ in range(4)),
            )
            await system.supervisor.wait_ready(server, after=pid, seconds=60)

        async def accepted() -> bool:
            return (await system.post([facebook()])).status_code == 202

        await eventually(accepted, what="an event is accepted again", seconds=60)
        await system.until_stored()
        await system.stop()
        lines = {name: (system.folder / "logs" / f"{name}.log").read_text().splitlines() for name in SERVICES}
    for name, written in lines.items():
        for line in written:
            assert json.loads(line).keys() >= {"service", "level", "timestamp", "event"}, (name, line)
    draining = [json.loads(line) for line in lines["gateway"]]
    stop = next(number for number, line in enumerate(draining) if line["event"] == "worker draining")
    assert not [line for line in draining[stop:] if line["level"] in ("error", "critical")]


UNCAUGHT = """
import gc, logging, sys, threading, warnings
from core import logs
logs.configure("tests", "info")
class Falls:
    def __del__(self):
        raise ValueError("in passing")
threading.Thread(target=lambda: 1 / 0).start()
Falls()
warnings.warn("a warning\\nof two lines")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("asyncio").exception("of a library")
raise KeyError("at the end")
"""


async def test_what_nothing_caught_is_json() -> None:
    """Errors in threads and destructors, warnings, lines of libraries with their tracebacks, and the error that ends
    the process: a line each."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", UNCAUGHT), cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    lines = [json.loads(line) for line in said.splitlines()]
    assert process.returncode == 1
    wanted = ("ZeroDivisionError", "in passing", "of two lines", "of a library", "at the end")
    assert len(lines) == len(wanted)
    for part in wanted:
        assert any(part in json.dumps(line) for line in lines), part
