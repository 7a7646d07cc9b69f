"""Containers without an engine: what docker would make of a compose service, as far as Linux itself can. Needs root.

    network namespace    an address on a bridge for each of its networks; names of services stand in /etc/hosts
    mount namespace      this machine's own root as the image, under an overlay; read-only, tmpfs, volumes and secrets
                         where the file says so
    process              the file's user, without capabilities where it drops them, with the file's command and
                         environment and nothing else; ready when the file's health check says so

Servers that come as images elsewhere are the ones of this machine: nginx of Debian, PostgreSQL and NATS of the wheels.
Nothing of the machine is changed: what a container writes goes to its overlay, and that ends with it.
"""

import asyncio
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import Signals
from typing import Any

from ops.local import Program, Supervisor
from ops.local.nats import find_binary
from ops.local.postgres import find_binaries
from tests.support.bridges import Bridges
from tests.support.compose import ROOT, Service

CHECK_SECONDS = 0.25  # between two health checks of a container that is not ready: a fixed interval would only wait
ENTRYPOINT = Path(__file__).with_name("postgres-entrypoint.sh")
SECONDS = {"s": 1.0, "m": 60.0}


@dataclass
class Container:
    """One replica of a service."""

    name: str
    service: str
    spec: Service
    addresses: dict[str, str] = field(default_factory=dict)  # by network
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where the test reaches it."""
        return self.addresses.get("inside") or next(iter(self.addresses.values()))


def seconds(duration: str) -> float:
    """Of compose's durations: 1m30s."""
    return sum(float(number) * SECONDS[unit] for number, unit in re.findall(r"([\d.]+)([sm])", duration))


class Engine:
    """Runs containers under a supervisor, in a folder of the test's own that is not below /tmp or /run."""

    def __init__(self, project: Mapping[str, Any], folder: Path, scale: Mapping[str, int]) -> None:
        self._project = project
        self._folder = folder
        self._scale = scale
        self._bridges = Bridges(project["networks"])
        self.containers: dict[str, Container] = {}
        (folder / "logs").mkdir()
        self.supervisor = Supervisor(folder / "logs")

    # --- before and after

    def prepare(self, services: Mapping[str, Service]) -> None:
        """Networks, and an address for every replica: names are known to all before the first one starts."""
        self._bridges.open()
        for service, spec in services.items():
            for replica in range(1, self._scale.get(service, 1) + 1):
                container = Container(f"{service}-{replica}", service, spec)
                container.addresses = self._bridges.connect(container.name, spec.get("networks", {}))
                environment = {key: value for key, value in spec.get("environment", {}).items() if value is not None}
                container.environment = {"PATH": self._path(), "PYTHONDONTWRITEBYTECODE": "1", **environment}
                self.containers[container.name] = container

    async def close(self) -> None:
        """Stop all containers, the last one first, as the file says; take the networks down."""
        await self.supervisor.close()
        self._bridges.close()

    def replicas(self, service: str) -> list[Container]:
        """The containers of a service."""
        return [container for container in self.containers.values() if container.service == service]

    # --- running

    async def up(self, services: Mapping[str, Service]) -> None:
        """Start services as `docker compose up` does: each as soon as what it depends on is as far as it asks for."""
        far_enough = {service: asyncio.Event() for service in services}
        needs = [need for spec in services.values() for need in spec.get("depends_on", {}).items()]
        to_end = {needed for needed, how in needs if how["condition"] == "service_completed_successfully"}

        async def start(service: str, spec: Service) -> None:
            for needed in spec.get("depends_on", {}):
                await far_enough[needed].wait()
            replicas = self.replicas(service)
            if service in to_end:
                await asyncio.gather(*(self.run(container, spec["command"]) for container in replicas))
            else:
                await asyncio.gather(*(self.supervisor.start(self._program(container)) for container in replicas))
            far_enough[service].set()

        async with asyncio.TaskGroup() as starting:
            for service, spec in services.items():
                starting.create_task(start(service, spec))

    async def run(self, container: Container, command: Sequence[str]) -> str:
        """Run a container to its end, with this command; what it said. Its exit code has to be 0."""
        log = self._log(container)
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *self._argv(container, command), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            try:
                async with asyncio.timeout(120):
                    code = await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
        said = log.read_text()
        assert code == 0, f"{container.name} ended with {code}:\n{said[-2000:]}"
        return said

    async def ask(self, container: Container, command: Sequence[str]) -> int:
        """The exit code of a command inside a running container, as `docker exec` runs it."""
        pid = self.supervisor.pid(container.name)
        process = await asyncio.create_subprocess_exec(
            *("nsenter", "--target", str(pid), "--net", "--mount", "--root"),
            *("env", "-i", "--chdir", str(ROOT), *self._variables(container), *self._local(command)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return await process.wait()

    def said(self, container: Container) -> str:
        """A container's log."""
        return self._log(container).read_text()

    def written(self, container: Container) -> str:
        """All that was filled in for a container before its start."""
        return "\n".join(self._filled_in(container).values())

    def _program(self, container: Container) -> Program:
        spec = container.spec
        check = spec.get("healthcheck", {}).get("test", ["NONE"])

        async def is_ready() -> bool:
            if check[0] == "NONE":
                return True
            if await self.ask(container, check[1:]) == 0:
                return True
            await asyncio.sleep(CHECK_SECONDS)  # a rate, not a wait
            return False

        self._log(container)
        return Program(
            name=container.name,
            argv=self._argv(container, spec["command"]),
            is_ready=is_ready,
            ready_seconds=seconds(spec.get("healthcheck", {}).get("start_period", "60s")) + 30,
            drain_seconds=seconds(spec.get("stop_grace_period", "10s")),
            stop_signals=(
                Signals[spec.get("stop_signal", "SIGINT" if container.service == "postgres" else "SIGTERM")],
            ),
        )

    def _log(self, container: Container) -> Path:
        path = self._folder / "logs" / f"{container.name}.log"
        path.touch()
        path.chmod(0o666)  # nginx opens /dev/stdout anew, as its own user
        return path

    # --- what a container is

    def _argv(self, container: Container, command: Sequence[str]) -> list[str]:
        spec = container.spec
        stage = self._folder / "stages" / container.name
        stage.mkdir(parents=True, exist_ok=True)
        rights = ["setpriv", "--pdeathsig", "KILL"]
        if "user" in spec:
            user, group = spec["user"].split(":")
            rights += ["--reuid", user, "--regid", group, "--clear-groups"]
        if "no-new-privileges:true" in spec.get("security_opt", []):
            rights += ["--no-new-privs"] if container.service != "postgres" else []
        if "ALL" in spec.get("cap_drop", []):
            rights += ["--bounding-set", "-all", "--inh-caps", "-all"]
        inner = ["env", "-i", "--chdir", str(ROOT), *self._variables(container), *self._local(command)]
        if container.service == "postgres":
            inner = ["env", "-i", *self._variables(container), "sh", str(ENTRYPOINT), *command]
        script = "\n".join(("set -eu", *self._mounts(container, stage), 'exec chroot "$root" "$@"'))
        return [
            *("nsenter", f"--net=/run/netns/{self._bridges.namespace(container.name)}"),
            *("unshare", "--mount", "sh", "-c", script, "sh", *rights, *inner),
        ]

    def _mounts(self, container: Container, stage: Path) -> list[str]:
        """The lines of a shell that make $root."""
        spec, q = container.spec, shlex.quote
        hosts = stage.with_suffix(".hosts")
        hosts.write_text(self._hosts(container))
        lines = [
            f"stage={q(str(stage))}; root=$stage/root",
            'mount -t tmpfs tmpfs "$stage"; mkdir "$stage/upper" "$stage/work" "$root"',
            'mount -t overlay overlay -o "lowerdir=/,upperdir=$stage/upper,workdir=$stage/work" "$root"',
            'for each in proc dev sys; do mount --rbind "/$each" "$root/$each"; done',
            'mount -t tmpfs tmpfs "$root/run"; mkdir "$root/run/secrets"',
        ]
        # The interpreter and the code may lie below a folder that is closed to others: an image's do not.
        programs = (Path(sys.base_prefix), Path(sys.prefix), ROOT, find_binaries())
        for path in programs:
            lines += [f'chmod o+x "$root"{q(str(parent))}' for parent in path.parents if not parent.stat().st_mode & 1]

        def bind(source: str | Path, target: str, *, read_only: bool) -> None:
            make = "mkdir -p" if Path(source).is_dir() else "touch"
            inside = f'"$root"{q(target)}'
            lines.append(f'mkdir -p "$(dirname {inside})"; {make} {inside}; mount --bind {q(str(source))} {inside}')
            if read_only:
                lines.append(f"mount -o remount,ro,bind {inside}")

        bind(hosts, "/etc/hosts", read_only=True)
        for volume in spec.get("volumes", []):
            source = Path(volume["source"])
            if volume["type"] == "volume":
                source = self._folder / "volumes" / volume["source"]
                source.mkdir(parents=True, exist_ok=True)
            bind(source, volume["target"], read_only=volume.get("read_only", False))
        for secret in spec.get("secrets", []):
            name = secret["source"]
            bind(self._project["secrets"][name]["file"], secret.get("target") or f"/run/secrets/{name}", read_only=True)
        for mount in spec.get("tmpfs", []):
            target, _, options = mount.partition(":")
            lines.append(f'mount -t tmpfs -o {q(options or "mode=1777")} tmpfs "$root"{q(target)}')
            for path in programs:
                if path.is_relative_to(target):  # nor do they lie where an empty folder goes
                    bind(path, str(path), read_only=True)
        for number, (target, content) in enumerate(self._filled_in(container).items()):
            written = stage.with_suffix(f".{number}")
            written.write_text(content)
            lines.append(f'mkdir -p "$(dirname "$root"{q(target)})"; cat {q(str(written))} > "$root"{q(target)}')
        if spec.get("read_only"):
            lines.append('mount -o remount,ro "$root"')
        return lines

    def _filled_in(self, container: Container) -> dict[str, str]:
        """What the nginx image makes of its templates before it starts: it fills in what its filter names."""
        if "nginx" not in container.spec["image"]:
            return {}
        environment = container.environment
        allowed = "|".join(name for name in environment if re.search(environment["NGINX_ENVSUBST_FILTER"], name))
        variable = re.compile(rf"\$\{{({allowed})\}}|\$({allowed})\b")
        found = {}
        for volume in container.spec["volumes"]:
            name = volume["target"].removeprefix("/etc/nginx/templates/")
            if name == volume["target"] or not name.endswith(".template"):
                continue
            text = variable.sub(lambda named: environment[named[1] or named[2]], Path(volume["source"]).read_text())
            found[f"{environment['NGINX_ENVSUBST_OUTPUT_DIR']}/{name.removesuffix('.template')}"] = text
        return found

    def _hosts(self, container: Container) -> str:
        lines = ["127.0.0.1 localhost", f"{container.address} {container.name}"]
        for other in self.containers.values():
            if shared := set(other.addresses) & set(container.addresses):
                lines.append(f"{other.addresses[min(shared)]} {other.service}")
        return "\n".join(lines) + "\n"

    def _variables(self, container: Container) -> list[str]:
        return [f"{name}={value}" for name, value in container.environment.items()]

    def _local(self, command: Sequence[str]) -> list[str]:
        """The command with this machine's programs: those that a PATH would not find are named in full."""
        programs = {"python": sys.executable, "nats-server": str(find_binary())}
        return [programs.get(command[0], command[0]), *command[1:]]

    def _path(self) -> str:
        return f"{find_binaries()}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
