"""Production's compose files under an engine, with TLS: start, load, upgrade, kills, restarts, stop and start."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.engine.conftest import Figures
from tests.engine.load import Sent, load
from tests.engine.project import CommandFailed, Project, build, docker, inspect, project, run
from tests.support.oracle import Oracle
from tests.support.waiting import eventually

KILLED = 137
KILL = "import os; os.kill(-1, 9)"  # every process but the container's first one, which ends with its child
OURS = ("gateway", "fb-collector", "ttk-collector", "rejected-collector", "reporter")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder for secrets, as an operator has it."""
    with tempfile.TemporaryDirectory(prefix="sluice-check-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture(scope="module")
def production(folder: Path) -> Iterator[Project]:
    """The whole project, healthy."""
    with project("production", folder, TTK_COLLECTOR_REPLICAS="1") as running:
        key, certificate = running.secrets / "edge_certificate_key", running.secrets / "edge_certificate"
        make = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        run(*make, "-subj", "/CN=edge", "-keyout", key, "-out", certificate)
        yield running


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    """What it knows of everything that was sent to the project."""
    return Oracle()


@asynccontextmanager
async def under_load(running: Project, oracle: Oracle) -> AsyncIterator[Sent]:
    """A load that has begun, and goes on for a moment afterwards; then everything is judged."""
    async with load(running, oracle) as sent:

        async def more() -> None:
            wanted = sent.total + 20

            async def enough() -> bool:
                return sent.total >= wanted

            await eventually(enough, what="20 more answers", seconds=120)

        await more()
        yield sent
        await more()
    await running.judge(oracle)


def test_a_key_that_the_edge_cannot_read_fails_the_start(production: Project) -> None:
    """`up` fails and the log says what to do; `ops/secrets.sh` sets the mode that is needed."""
    key = production.secrets / "edge_certificate_key"
    assert key.stat().st_mode & 0o077 == 0  # as openssl writes it
    with pytest.raises(CommandFailed, match=r"cannot read /run/secrets/edge_certificate_key: run sh ops/secrets.sh"):
        production.compose("run", "--rm", "edge-check")
    run("sh", "ops/secrets.sh", production.secrets)
    production.compose("run", "--rm", "edge-check")


async def test_everything_is_healthy_and_the_load_is_stored(production: Project, oracle: Oracle) -> None:
    """On two cores: all containers become healthy, each POST is answered 202, and the doctor finds nothing."""
    production.up()
    async with under_load(production, oracle) as sent:
        pass
    assert sent.answers == {202: sent.total}, sent.failures
    production.operate("doctor")  # it fails if a check finds something


def test_no_server_logs_an_error(production: Project) -> None:
    """nginx asks for no more files than it may have, and Prometheus finds the folder that it watches."""
    edge = production.compose("logs", "--no-log-prefix", "edge")
    assert not [line for line in edge.splitlines() if "[alert]" in line or "[emerg]" in line or "[error]" in line]
    prometheus = production.compose("logs", "--no-log-prefix", "prometheus")
    assert not [line for line in prometheus.splitlines() if "level=ERROR" in line or "level=error" in line]


def test_our_containers_have_no_rights_and_write_nowhere(production: Project) -> None:
    """Not root, no capability and none to gain; a read-only root, no swap beside the memory, bounded processes."""
    for service in OURS:
        for container in production.containers(service):
            name = container["Name"]
            status = dict(
                line.split(":\t", 1)
                for line in docker("exec", name, "cat", "/proc/1/status").splitlines()
                if ":\t" in line
            )
            assert status["Uid"].split() == ["10001"] * 4, name
            assert {int(status[kind], 16) for kind in ("CapPrm", "CapEff", "CapBnd")} == {0}, name
            assert status["NoNewPrivs"] == "1", name
            limits = container["HostConfig"]
            assert limits["ReadonlyRootfs"], name
            assert limits["MemorySwap"] == limits["Memory"] > 0, name
            assert 0 < limits["PidsLimit"] <= 1024, name
            with pytest.raises(CommandFailed, match="Read-only file system"):
                docker("exec", name, "touch", "/app/left-behind")
            secrets = {secret["source"] for secret in production.config()["services"][service].get("secrets", ())}
            assert set(docker("exec", name, "ls", "/run/secrets").split()) == secrets, name


REACH = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"


def test_a_container_reaches_what_it_needs_and_no_more(production: Project) -> None:
    """A gateway reaches NATS, and neither PostgreSQL nor the reporter, by name or by address."""
    (gateway, *_) = production.containers("gateway")

    def reach(host: str, port: str) -> None:
        docker("exec", gateway["Name"], "python", "-c", REACH, host, port)

    reach("nats", "4222")
    for host, network, port in (("postgres", "storage", "5432"), ("reporter", "storage", "8081")):
        for target in (host, production.address(host, network)):
            with pytest.raises(CommandFailed):
                reach(target, port)


def test_the_edge_listens_on_ipv4(production: Project) -> None:
    """Over IPv6 the engine's proxy would be every sender's address."""
    (edge,) = production.containers("edge")
    published = {
        binding["HostIp"] for bindings in edge["NetworkSettings"]["Ports"].values() for binding in bindings or ()
    }
    assert published == {"0.0.0.0"}


# --- an upgrade


def image_of(production: Project, service: str) -> set[str]:
    return {container["Image"] for container in production.containers(service)}


def tried_again(production: Project) -> int:
    """How many requests the edge sent to the gateways once more, because their addresses had changed."""
    lines = production.compose("logs", "--no-log-prefix", "edge").splitlines()
    return sum(" : " in json.loads(line)["gateway"] for line in lines if line.startswith("{"))


async def test_an_upgrade_loses_nothing(production: Project, oracle: Oracle, figures: Figures) -> None:
    """`ops/upgrade.sh` replaces every container of ours one by one under load: each POST is answered 202."""
    build("sluice:next", "--build-arg", "VERSION=next")
    new = inspect("sluice:next")["Id"]
    assert image_of(production, "gateway") == {inspect("sluice:dev")["Id"]}
    production.variables["SLUICE_IMAGE"] = "sluice:next"
    async with under_load(production, oracle) as sent:
        await production.background("sh", "ops/upgrade.sh")
    figures.add(f"upgrade of everything of ours: {sent}; nginx tried {tried_again(production)} of them again")
    for service in OURS:
        assert image_of(production, service) == {new}, service
    assert [len(production.containers(service)) for service in OURS] == [3, 2, 1, 1, 1]
    assert sent.answers == {202: sent.total}, sent.failures


async def test_a_second_upgrade_replaces_nothing(production: Project) -> None:
    """What runs the wanted image and settings stays, and so does the number of replicas at the next `up`."""
    before = {service: production.compose("ps", "--quiet", service) for service in OURS}
    await production.background("sh", "ops/upgrade.sh", "gateway", "fb-collector")
    production.up()
    production.compose("run", "--rm", "operator", "sluice", "doctor")
    assert {service: production.compose("ps", "--quiet", service) for service in OURS} == before


async def test_new_settings_replace_each_gateway(production: Project, oracle: Oracle, figures: Figures) -> None:
    """Each gateway in turn is stopped and removed, and nginx looks the name up again: each POST is answered 202."""
    async with under_load(production, oracle) as sent:
        await production.background("sh", "ops/upgrade.sh", "gateway", LOG_LEVEL="debug")
    figures.add(f"three gateways replaced: {sent}")
    assert sent.answers == {202: sent.total}, sent.failures


# --- kills and restarts


async def test_any_container_of_ours_may_be_killed(production: Project, oracle: Oracle, figures: Figures) -> None:
    """The engine starts it again; what a collector held is stored once; gateways answer for each other."""
    async with under_load(production, oracle) as sent:
        for service in ("gateway", "fb-collector", "ttk-collector"):
            (victim, *_) = production.containers(service)
            with suppress(CommandFailed):  # the command dies with the container
                await production.background("docker", "exec", victim["Name"], "python", "-c", KILL)

            async def again(name: str = victim["Name"]) -> bool:
                state = inspect(name)
                return bool(state["RestartCount"] == 1 and state["State"]["Health"]["Status"] == "healthy")

            await eventually(again, what=f"{service} is healthy again", seconds=90, every=0.5)
    figures.add(f"a gateway and two collectors killed: {sent}")
    assert sent.answers == {202: sent.total}, sent.failures


@pytest.mark.parametrize("service", ["nats", "postgres", "edge"])
async def test_a_server_restarts_under_load(
    production: Project, oracle: Oracle, figures: Figures, service: str
) -> None:
    """As for a new minor version: nothing answered 202 is lost, and POSTs are accepted again."""
    async with under_load(production, oracle) as sent:
        await production.background(
            "docker", "compose", "up", "--detach", "--wait", "--no-deps", "--force-recreate", service
        )
    figures.add(f"{service} replaced: no POST accepted for {sent.outage_seconds():.1f} s; {sent}")
    if service == "postgres":
        assert sent.answers == {202: sent.total}, sent.failures


async def test_the_data_survives_a_stop_and_a_start(production: Project, oracle: Oracle) -> None:
    """`stop` drains everything within its grace period; after `down` and `up` all events are there."""
    production.compose("stop")
    states = [inspect(name) for name in production.compose("ps", "--all", "--quiet").split()]
    codes = {(state["Config"]["Labels"]["com.docker.compose.service"], state["State"]["ExitCode"]) for state in states}
    assert {code for service, code in codes if service in {*OURS, "nats", "postgres", "edge"}} == {0}, codes
    assert KILLED not in {code for _, code in codes}, codes
    production.compose("down")
    production.up()
    async with under_load(production, oracle) as sent:
        pass
    assert sent.answers == {202: sent.total}, sent.failures
