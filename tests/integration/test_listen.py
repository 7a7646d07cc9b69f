"""One rule for every listener: addresses of both families, names, and :: for all of them."""

from __future__ import annotations

import os
import socket
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from core import listen
from ops.local import Program, Servers, Supervisor
from ops.local.errors import PortTaken
from ops.local.ports import choose, free_port
from ops.local.ready import answers_ok
from ops.local.services import Services
from tests.support.processes import ROOT
from tests.support.stack import Database
from tests.support.tools import require
from tests.support.waiting import in_time

IPV4, IPV6 = "127.0.0.1", "::1"
# What may be configured, and at which loopback addresses it answers.
FORMS = {"127.0.0.1": {IPV4}, "::1": {IPV6}, "[::1]": {IPV6}, "::": {IPV4, IPV6}, "localhost": {IPV4}, "": {IPV4}}
LISTENERS = {
    "GATEWAY": ["gateway"],
    "COLLECTOR": ["collector", "--source", "facebook"],
    "REPORTER": ["reporter"],
}


@pytest.fixture(autouse=True)
def _ipv6() -> None:
    try:
        socket.create_server((IPV6, 0), family=socket.AF_INET6).close()
    except OSError:
        require(False, "IPv6")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", LISTENERS)
async def test_each_listener_takes_each_form(
    name: str, form: str, servers: Servers, database: Database, supervisor: Supervisor
) -> None:
    """An IPv4 or IPv6 address, both families, a name, and an empty value, which is the default."""
    port = free_port(IPV6)
    settings = {
        f"{name}_HOST": form, f"{name}_PORT": str(port), "GATEWAY_WORKERS": "1", "NATS_URL": servers.nats_url,
        "COLLECTOR_DSN": database.collector_dsn, "REPORTER_DSN": database.reporter_dsn,
    }  # fmt: skip
    ask = partial(answers_ok, port, "/health/live")
    await supervisor.start(
        Program(
            name=name.lower(),
            argv=[sys.executable, "-m", *LISTENERS[name]],
            env=settings,
            is_ready=partial(ask, min(FORMS[form])),
        )
    )
    assert {host for host in (IPV4, IPV6) if await ask(host)} == FORMS[form]


@pytest.fixture
async def supervisor(folder: Path) -> AsyncIterator[Supervisor]:
    async with Supervisor(folder) as supervisor:
        yield supervisor


@pytest.mark.parametrize("name", LISTENERS)
@pytest.mark.parametrize("form", ["no-such-name.invalid", "127.0.0.1:80", "fe80::1%lo", "a b"])
async def test_what_is_no_address_ends_the_start(name: str, form: str) -> None:
    """Exit code 2 with the variable, what may be given, and not what was given."""
    process = await create_subprocess_exec(
        *(sys.executable, "-m", *LISTENERS[name]),
        cwd=ROOT, env={"PATH": os.environ["PATH"], f"{name}_HOST": form}, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    _, errors = await in_time(process.communicate())
    assert process.returncode == 2
    assert errors.startswith(f"sluice: {name}_HOST: ".encode())
    assert b"an IP address, a name such as localhost, or ::" in errors
    assert form.encode() not in errors


def test_addresses_that_are_printed_can_be_requested() -> None:
    """A URL has an IPv6 address in brackets, and names the loopback address where the listener is everywhere."""
    requested = listen.reachable(listen.resolve("REPORTER_HOST", "::"))
    assert Services({"reporter": 8081}, {"reporter": requested}).reports == "http://[::1]:8081"
    assert Services({"gateway": 8080}).endpoint == "http://127.0.0.1:8080/events"


def test_a_port_is_looked_for_where_it_is_needed() -> None:
    """A port that is taken on ::1 is taken for a listener there, and free for one on 127.0.0.1."""
    with socket.create_server((IPV6, 0), family=socket.AF_INET6) as server:
        taken = {"REPORTER_PORT": str(server.getsockname()[1])}
        assert choose("REPORTER_PORT", taken) == server.getsockname()[1]
        with pytest.raises(PortTaken, match=r"REPORTER_PORT=.*: \[::1\]:.* is in use"):
            choose("REPORTER_PORT", taken, IPV6)
    with pytest.raises(PortTaken, match=r"cannot listen on 192\.0\.2\.1:8080"):
        choose("GATEWAY_PORT", {"GATEWAY_PORT": "8080"}, "192.0.2.1")
