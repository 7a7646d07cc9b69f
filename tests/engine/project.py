"""A project of the real compose files, run by the engine.

    with project("production", folder) as running:
        running.up()
        await running.judge(oracle)

Its name, its secrets and its ports are its own: a project of the machine's user is not touched. Commands of the engine
run in threads (`running.background`), so that a load goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from core import jetstream, postgres
from ops.ledger import read_ledger, until_stored
from ops.local.ports import free_port
from tests.support.compose import BASE, ROOT
from tests.support.oracle import Oracle

PORTS: Final = (
    "EDGE_PORT",
    "REPORTS_PORT",
    "GRAFANA_PORT",
    "PROMETHEUS_PORT",
    "NATS_PORT",
    "NATS_MONITOR_PORT",
    "POSTGRES_PORT",
)
NAME: Final = "sluice-check"
COMMAND_TIMEOUT_SECONDS: Final = 600


class CommandFailed(Exception):
    """A command of the engine failed; the message holds what it wrote."""


def docker(*words: str | Path, environment: Mapping[str, str] | None = None, folder: Path = ROOT) -> str:
    """Run a docker command; return its output. Raises CommandFailed."""
    return run("docker", *words, environment=environment, folder=folder)


def run(*words: str | Path, environment: Mapping[str, str] | None = None, folder: Path = ROOT) -> str:
    """Run a command; return its output. Raises CommandFailed."""
    ran = subprocess.run(
        words,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_TIMEOUT_SECONDS,
    )
    if ran.returncode != 0:
        raise CommandFailed(
            f"{' '.join(map(str, words))} ended with {ran.returncode}:\n{ran.stdout}\n{ran.stderr}"[-6000:]
        )
    return ran.stdout + ran.stderr


def build(tag: str, *words: str, target: str = "services", folder: Path = ROOT) -> None:
    """Build an image of a checkout with the flags of `make images`, so that equal layers are not built again."""
    flags = os.environ.get("BUILD_FLAGS", "").split()
    docker("build", "--quiet", *flags, *words, "--target", target, "--tag", tag, ".", folder=folder)


def inspect(name: str) -> dict[str, Any]:
    """What the engine knows about a container, an image or a network."""
    (found,) = json.loads(subprocess.check_output(("docker", "inspect", name)))
    answer: dict[str, Any] = found
    return answer


class Project:
    """One environment's files under the engine."""

    def __init__(self, environment: str, folder: Path, settings: Mapping[str, str]) -> None:
        self.environment = environment
        self.folder = folder
        self.secrets = folder / "secrets"
        ports = {name: str(free_port()) for name in PORTS}
        self.variables = {
            **{name: value for name, value in os.environ.items() if name.isupper()},
            **ports,
            "COMPOSE_FILE": f"{BASE}:docker-compose.{environment}.yml",
            "COMPOSE_PROJECT_NAME": NAME,
            "COMPOSE_DISABLE_ENV_FILE": "1",
            "COMPOSE_ANSI": "never",
            "COMPOSE_PROGRESS": "quiet",
            "SECRETS_FOLDER": str(self.secrets),
            "SLUICE_IMAGE": "sluice:dev",
            **settings,
        }
        scheme = "https" if environment == "production" else "http"
        self.events = f"{scheme}://127.0.0.1:{ports['EDGE_PORT']}/events"
        self.reports = f"http://127.0.0.1:{ports['REPORTS_PORT']}"
        run("sh", "ops/secrets.sh", self.secrets)

    @property
    def reader(self) -> tuple[str, str]:
        """Name and token of a reader of reports."""
        return "operator", (self.secrets / "reporter_token").read_text().strip()

    def compose(self, *words: str) -> str:
        """Run a command of docker compose; return its output. Raises CommandFailed."""
        return docker("compose", *words, environment=self.variables)

    def config(self) -> dict[str, Any]:
        """The project as compose resolves it."""
        resolved: dict[str, Any] = json.loads(self.compose("config", "--format", "json"))
        return resolved

    async def background(self, *words: str, **variables: str) -> str:
        """Run a command with the project's variables in a thread. Raises CommandFailed."""
        return await asyncio.to_thread(run, *words, environment={**self.variables, **variables})

    def up(self, *words: str) -> None:
        """Start everything but the stand-in's endless load, and wait until all is healthy."""
        load = ("--scale", "stand-in=0") if self.environment != "production" else ()
        try:
            self.compose("up", "--detach", "--wait", "--no-build", *load, *words)
        except CommandFailed:
            print(self.compose("ps", "--all"), self.compose("logs", "--tail", "20"))
            raise

    def containers(self, service: str) -> list[dict[str, Any]]:
        """The running containers of a service."""
        return [inspect(name) for name in self.compose("ps", "--quiet", service).split()]

    def address(self, service: str, network: str) -> str:
        """Where the host reaches a service's only container."""
        (container,) = self.containers(service)
        address: str = container["NetworkSettings"]["Networks"][f"{NAME}_{network}"]["IPAddress"]
        return address

    def operate(self, *words: str) -> str:
        """Run an operators' command in its container. Raises CommandFailed."""
        return self.compose("run", "--rm", "--no-deps", "operator", "sluice", *words)

    def settle(self) -> None:
        """Wait until everything accepted is stored. Raises CommandFailed where it is not in time."""
        self.operate("drain", "--timeout", "120")

    async def judge(self, oracle: Oracle) -> None:
        """Assert that everything accepted is stored once and unchanged, and that the ledger balances."""
        nats, database = self.address("nats", "collect"), self.address("postgres", "storage")
        url = (self.secrets / "nats_url").read_text().strip().replace("@nats:", f"@{nats}:")
        dsn = (self.secrets / "reporter_dsn").read_text().strip().replace("@postgres:", f"@{database}:")
        client = await jetstream.connect(url, name="tests")
        connection = await postgres.connect(dsn, name="tests")
        try:
            assert await until_stored(client, 120) == 0
            judgement = await oracle.judge(connection)
            ledger = await read_ledger(client, connection)
        finally:
            await connection.close()
            await client.close()
        assert not judgement.wrong(), judgement.wrong()
        assert not ledger.problems(), ledger.problems()


@contextmanager
def project(environment: str, folder: Path, **settings: str) -> Iterator[Project]:
    """A project, removed at the end with its volumes."""
    made = Project(environment, folder, settings)
    try:
        yield made
    finally:
        made.compose("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "10")
