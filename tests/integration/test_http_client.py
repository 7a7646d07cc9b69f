"""A proxy in the environment is not for our own addresses: nothing of ours asks it for them."""

from __future__ import annotations

import ast
import json
import os
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import Iterator

import pytest

from core import health_server
from core.health import Readiness
from core.probe import probe
from ops.doctor.checks import service
from ops.exporter import NatsMetrics
from ops.local import ready
from tests.support.processes import ROOT
from tests.support.stack import FreshNats

NOWHERE = "http://127.0.0.1:1"
PROXIES = {name: NOWHERE for kind in ("http", "https", "all") for name in (f"{kind}_proxy", f"{kind.upper()}_PROXY")}
CLIENTS = {"http.client", "urllib.request", "httpx", "requests", "aiohttp"}


@pytest.fixture
def port() -> Iterator[int]:
    """A service that is ready."""
    port, stop = health_server.serve("127.0.0.1", 0, Readiness())
    yield port
    stop()


async def run(*arguments: str, **settings: str) -> tuple[int | None, str, str]:
    """A program of ours where every proxy is set; its exit code and what it said."""
    process = await create_subprocess_exec(
        *(sys.executable, "-m", *arguments),
        cwd=ROOT, env={"PATH": os.environ["PATH"], **PROXIES, **settings}, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    said, errors = await process.communicate()
    return process.returncode, said.decode(), errors.decode()


async def test_a_health_check_asks_the_service_itself(port: int) -> None:
    """`python -m core.probe`, as in a container that the engine gave a proxy."""
    code, said, _ = await run("core.probe", f"http://127.0.0.1:{port}")
    assert (code, json.loads(said)["status"]) == (0, "ready")


async def test_the_doctor_asks_the_services_themselves(port: int) -> None:
    """`python -m ops doctor`: gateway and reporter are ready, whatever proxy there is."""
    url = f"http://127.0.0.1:{port}"
    servers = {
        "NATS_URL": "nats://127.0.0.1:1",
        "NATS_MONITOR_URL": NOWHERE,
        "SLUICE_MIGRATE_DSN": "postgresql://127.0.0.1:1/x",
    }
    _, said, _ = await run("ops", "doctor", "--format", "json", GATEWAY_URL=url, REPORTER_URL=url, **servers)
    states = {check["check"]: check["state"] for check in json.loads(said)["checks"]}
    assert (states["gateway"], states["reporter"]) == ("ok", "ok")


async def test_a_report_in_a_terminal_asks_the_reporter_itself(port: int) -> None:
    """`python -m ops report`: the answer is that of the address (which has no reports here), not a proxy's."""
    code, _, errors = await run("ops", "report", "events", REPORTER_URL=f"http://127.0.0.1:{port}")
    assert (code, "answered 404" in errors) == (2, True), errors


async def test_whatever_asks_in_this_process(port: int, fresh_nats: FreshNats, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readiness of the local stack, checks, and the exporter's questions to NATS."""
    for name, value in PROXIES.items():
        monkeypatch.setenv(name, value)
    assert probe(f"http://127.0.0.1:{port}")[0]
    assert await ready.answers_ok(port, "/health/ready")
    assert (await service("gateway", f"http://127.0.0.1:{port}", "")).state == "ok"
    assert list(NatsMetrics(fresh_nats.monitor_url).collect())


def test_there_is_one_way_to_ask() -> None:
    """No other module of the product brings an HTTP client that would go by the environment."""
    asking = {
        str(path.relative_to(ROOT))
        for package in ("core", "gateway", "collector", "reporter", "ops")
        for path in (ROOT / package).rglob("*.py")
        if CLIENTS & _imported(ast.parse(path.read_text()))
    }
    assert asking == {"core/http_client.py"}


def _imported(module: ast.Module) -> set[str]:
    plain = {name.name for node in ast.walk(module) if isinstance(node, ast.Import) for name in node.names}
    return plain | {node.module or "" for node in ast.walk(module) if isinstance(node, ast.ImportFrom)}
