"""docker-compose.yml works: the very file, run as containers without an engine (tests/support/containers.py).

`docker compose up --scale gateway=3 --scale fb-collector=2`, with a copy of .env.example, the secrets that
ops/secrets.sh makes, the edge's own configuration, and the publisher's load through the edge. Left out is who only
watches (prometheus, alertmanager, grafana and the exporters): this machine has no programs for their images.
"""

import asyncio
import json
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from core import jetstream, postgres
from ops.ledger import read_ledger, until_stored
from tests.support.compose import BASE, ENVIRONMENTS, ROOT, Service, resolve, start_order
from tests.support.containers import Container, Engine
from tests.support.tools import require, require_tool

SCALE = {"gateway": 3, "fb-collector": 2}
WANTED = ("fb-collector", "ttk-collector", "rejected-collector", "reporter", "stand-in", "operator")
ASKED = {"stand-in", "operator"}  # run when they are asked
SETTINGS = {
    "GATEWAY_WORKERS": "1",
    "STREAM_MAX_BYTES": str(1 << 30),
    "REJECTED_STREAM_MAX_BYTES": str(1 << 28),
    "NATS_MAX_FILE_STORE": "4GB",
}
EXAMPLE = ROOT / ".env.example"
POSTS = 6
LOAD = ("--posts", str(POSTS), "--max-events", "20000", "--corrupt-share", "0.5", "--seed", "parity")
OURS = ("gateway", "fb-collector", "ttk-collector", "rejected-collector", "reporter")


@dataclass
class Running:
    """The project's containers, and what the stand-in said of its load."""

    engine: Engine
    secrets: Path
    sent: dict[str, Any]

    def dsn(self, role: str) -> str:
        """A role's DSN, for this side of the bridge."""
        (database,) = self.engine.replicas("postgres")
        return (self.secrets / f"{role}_dsn").read_text().strip().replace("@postgres:", f"@{database.address}:")


def needs_namespaces() -> None:
    """End the test where no containers can be made."""
    require(os.geteuid() == 0, "root, for network namespaces")
    for tool in ("ip", "nsenter", "unshare", "setpriv", "nginx", "wget"):
        require_tool(tool)


def fit_to_debian(edge: Service) -> None:
    """nginx looks names up anew since 1.27.3; Debian's takes all addresses of a name once, at its start."""
    environment = edge["environment"]
    for name in ("EDGE_GATEWAYS", "EDGE_GATEWAYS_SMALL", "EDGE_GATEWAYS_LARGE"):
        environment[name] = environment[name].replace(" resolve", "")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """An empty folder but for the secrets. Not below /tmp: a container's own /tmp would hide it."""
    with tempfile.TemporaryDirectory(prefix="sluice-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o711)
        subprocess.run(["sh", "ops/secrets.sh", folder / "secrets"], cwd=ROOT, check=True, capture_output=True)
        yield folder


@pytest.fixture(scope="module")
async def running(folder: Path) -> AsyncIterator[Running]:
    """The whole project, healthy, after the publisher's load."""
    needs_namespaces()
    secrets = folder / "secrets"
    copied = dict(line.split("=", 1) for line in EXAMPLE.read_text().splitlines() if "=" in line and line[0] != "#")
    project = resolve(BASE, env={**copied, **SETTINGS, "SECRETS_FOLDER": str(secrets)}, profiles=("operator",))
    services = dict(start_order(project, WANTED))
    fit_to_debian(services["edge"])
    engine = Engine(project, folder, SCALE)
    try:
        engine.prepare(services)
        await engine.up({name: spec for name, spec in services.items() if name not in ASKED})
        (stand_in,) = engine.replicas("stand-in")
        said = await engine.run(stand_in, [*stand_in.spec["command"], *LOAD])
        yield Running(engine, secrets, json.loads(said[said.index("{") :]))
    finally:
        await engine.close()


async def scraped(container: Container) -> dict[str, float]:
    """A container's counters, summed over their labels."""
    (port,) = (int(number) for number in container.spec["expose"])
    async with httpx.AsyncClient(timeout=30) as http:
        text = (await http.get(f"http://{container.address}:{port}/metrics")).text
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


async def test_the_load_goes_through_the_edge_and_nothing_is_lost(running: Running) -> None:
    """Every POST is answered 202, and the ledger finds each accepted event stored once and each rejected one kept."""
    sent = running.sent
    assert sent["answered"] == {"202": POSTS}, sent
    (nats,) = running.engine.replicas("nats")
    url = (running.secrets / "nats_url").read_text().strip().replace("@nats:", f"@{nats.address}:")
    client = await jetstream.connect(url, name="tests")
    connection = await postgres.connect(running.dsn("reporter"), name="tests")
    try:
        assert await until_stored(client, 60) == 0
        ledger = await read_ledger(client, connection)
    finally:
        await connection.close()
        await client.close()
    assert not ledger.problems(), ledger.problems()
    assert ledger.events("stored") == sent["accepted"]
    assert ledger.streams["REJECTED"].stored == sent["rejected"]
    assert sent["accepted"] + sent["rejected"] == sent["events_sent"]


async def test_operators_commands_run_in_their_container(running: Running) -> None:
    """What an operator starts beside the rest has the addresses and secrets to look at everything: all is well."""
    (operator,) = running.engine.replicas("operator")
    said = await running.engine.run(operator, ["python", "-m", "ops", "doctor", "--format", "json"])
    checked = json.loads(said[said.index("{") :])
    assert checked["ok"], checked
    assert {"NATS fsync", "gateway", "reporter", "ledger", "partitions"} <= {one["check"] for one in checked["checks"]}


async def test_the_reports_count_the_same(running: Running) -> None:
    """The reporter's container answers what the publisher counted, to a client that has a token of the secrets."""
    (reporter,) = running.engine.replicas("reporter")
    now = datetime.now(UTC)
    query = {"from": (now - timedelta(hours=2)).isoformat(), "to": (now + timedelta(hours=2)).isoformat()}
    async with httpx.AsyncClient(timeout=30) as http:
        url = f"http://{reporter.address}:8081/reports/events"
        assert (await http.get(url, params=query)).status_code == 401
        token = (running.secrets / "reporter_token").read_text().strip()
        answer = await http.get(url, params=query, auth=("operator", token))
    assert answer.status_code == 200, answer.text
    assert sum(row["events"] for row in answer.json()["rows"]) == running.sent["accepted"]


async def test_the_edge_shares_the_load_out(running: Running) -> None:
    """Each of the three gateways took its part, and together they took all."""
    taken = [(await scraped(gateway))["gateway_requests_total"] for gateway in running.engine.replicas("gateway")]
    assert len(taken) == SCALE["gateway"]
    assert min(taken) >= 1
    assert sum(taken) == POSTS


async def test_scaled_collectors_share_one_stream(running: Running) -> None:
    """Both collectors of a source serve, and what they stored together is all that there is."""
    collectors = running.engine.replicas("fb-collector")
    assert len(collectors) == SCALE["fb-collector"]
    stored = [await scraped(collector) for collector in collectors]
    connection = await postgres.connect(running.dsn("reporter"), name="tests")
    try:
        rows = await connection.fetchval("SELECT count(*) FROM facebook_events")
    finally:
        await connection.close()
    assert sum(metrics["collector_events_processed_total"] for metrics in stored) == rows


def told_by_the_kernel(pid: int) -> tuple[dict[str, str], dict[str, str]]:
    """A process's status, and the options of its mounts by their place."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    mounts = (line.split() for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines())
    found = (line.split(":", 1) for line in status)
    return {name: value.strip() for name, value in found}, {mount[4]: mount[5] for mount in mounts}


async def test_our_containers_have_no_rights_and_write_nowhere(running: Running) -> None:
    """Not root, no capability, none to be gained; the root file system is read-only, /tmp is not."""
    for container in (c for service in OURS for c in running.engine.replicas(service)):
        status, mounts = told_by_the_kernel(running.engine.supervisor.pid(container.name))
        assert status["Uid"].split() == ["10001"] * 4, container.name
        assert {int(status[kind], 16) for kind in ("CapPrm", "CapEff", "CapBnd")} == {0}, container.name
        assert status["NoNewPrivs"] == "1", container.name
        assert mounts["/"].split(",")[0] == "ro", container.name
        assert mounts["/tmp"].split(",")[0] == "rw", container.name


async def test_a_container_has_what_the_file_gives_it_and_no_more(running: Running) -> None:
    """Its own secret alone; nowhere to write; and without its tmpfs not even there: such a fault would be seen."""
    (reporter,) = running.engine.replicas("reporter")
    bare = replace(reporter, spec={**reporter.spec, "tmpfs": []})
    listed = "import os; assert {*os.listdir('/run/secrets')} == {'reporter_dsn', 'reporter_tokens'}"
    await running.engine.run(reporter, ["python", "-c", listed])
    with pytest.raises(AssertionError, match=r"Read-only file system|Permission denied"):
        await running.engine.run(reporter, ["python", "-c", "open('/var/left-behind', 'w')"])
    with pytest.raises(AssertionError, match="No usable temporary directory"):
        await running.engine.run(bare, ["python", "-c", "import tempfile; tempfile.gettempdir()"])


async def test_who_only_sends_gets_no_further_than_the_edge(running: Running) -> None:
    """From the publisher's network the edge answers, and no server behind it can be reached."""
    (stand_in,) = running.engine.replicas("stand-in")
    (edge,) = running.engine.replicas("edge")
    reach = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"
    await running.engine.run(stand_in, ["python", "-c", reach, "edge", "8080"])
    for service, port in (("nats", 4222), ("postgres", 5432), ("gateway", 8080)):
        (behind, *_) = running.engine.replicas(service)
        with pytest.raises(AssertionError, match="Network is unreachable"):
            await running.engine.run(stand_in, ["python", "-c", reach, behind.address, str(port)])
    assert await running.engine.ask(edge, ["python", "-c", reach, "gateway", "8080"]) == 0


async def test_a_stopped_gateway_is_not_missed(running: Running) -> None:
    """It drains and ends well within its grace period; while it is down, the others answer for it."""
    gateway = running.engine.replicas("gateway")[1]
    (edge,) = running.engine.replicas("edge")
    await running.engine.supervisor.stop(gateway.name)
    last = json.loads(running.engine.said(gateway).splitlines()[-1])
    assert (last["event"], last["clean"]) == ("gateway stopped", True)
    async with httpx.AsyncClient(timeout=60) as http:
        posts = (http.post(f"http://{edge.address}:8080/events", json=[{"source": "facebook"}]) for _ in range(6))
        answers = await asyncio.gather(*posts)
    assert [answer.status_code for answer in answers] == [422] * 6


@pytest.mark.parametrize("environment", ENVIRONMENTS)
async def test_nginx_takes_the_edge_of_each_environment(environment: str, folder: Path) -> None:
    """With reports in development and TLS in production: the files that compose mounts, where it mounts them."""
    needs_namespaces()
    alone = folder / environment
    alone.mkdir()
    certificate, key = folder / "secrets" / "edge_certificate", folder / "secrets" / "edge_certificate_key"
    make = [require_tool("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    make += ["-nodes", "-subj", "/CN=edge", "-keyout", str(key), "-out", str(certificate)]
    assert await (await asyncio.create_subprocess_exec(*make, stderr=subprocess.DEVNULL)).wait() == 0
    key.chmod(0o444)
    project = resolve(
        BASE,
        f"docker-compose.{environment}.yml",
        env={"SLUICE_IMAGE": "sluice:1.0.0", "SECRETS_FOLDER": str(folder / "secrets")},
    )
    services = {name: project["services"][name] for name in ("edge", "gateway")}
    fit_to_debian(services["edge"])
    engine = Engine(project, alone, {})
    try:
        engine.prepare(services)
        (edge,) = engine.replicas("edge")
        await engine.run(edge, [*edge.spec["command"], "-t"])
        written = engine.written(edge)
    finally:
        await engine.close()
    assert ("location /reports/" in written) == (environment == "override")
    assert ("ssl_certificate " in written) == ("listen 8443 ssl" in written) == (environment == "production")
