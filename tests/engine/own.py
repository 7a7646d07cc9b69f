"""A container engine for a Debian machine that has none: the check brings it and takes it away. Needs root.

    folder     packages, base images and the engine's data: the cache of the next run, and the only folder written to
    engine     dockerd in a mount, PID and, to run, network namespace of its own: they end with it, and so do all
               containers, mounts, bridges and firewall rules, also when this process is killed
    packages   downloaded by the machine's apt and unpacked into the folder; nothing is installed
    bases      images of Debian packages under the names that the Dockerfile and the compose files use

Debian 12's compose is version 1, so the compose plugin comes from Debian testing, like the servers of the base images.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from tests.support.compose import base_images, images

TESTING: Final = "forky"
ENGINE: Final = ("docker.io", "iptables", "mmdebstrap")
ROOTS: Final = {
    "bookworm": ("ca-certificates", "netbase", "tzdata", "python3", "python3-pip", "python3-venv", "gcc", "libc6-dev"),
    TESTING: (
        *("nginx", "gettext-base", "busybox", "postgresql-18", "nats-server", "prometheus", "prometheus-alertmanager"),
        *("prometheus-node-exporter", "prometheus-postgres-exporter"),
    ),
}
KEPT_SECONDS: Final = 30 * 86400  # older base images are built again, with Debian's updates
BASES: Final = Path(__file__).with_name("bases")
CLUSTERS: Final = "etc/postgresql-common/createcluster.conf"
NO_CLUSTER: Final = "create_main_cluster = false"
CGROUP: Final = "sluice-engine"
START_SECONDS: Final = 60
STOP_SECONDS: Final = 60
# Bash is the first process of the engine's namespaces. Docker 20.10 fails on a hybrid hierarchy of cgroups.
SETUP: Final = """
umount -l /sys/fs/cgroup/unified 2>/dev/null
mount --make-rshared / && { ip link set lo up || true; } && exec nice "$@"
"""


class EngineUnavailable(Exception):
    """No engine can run here; the message says why."""


class OwnEngine:
    """An engine of its own in `folder`, for one process at a time. Raises EngineUnavailable where none can run."""

    def __init__(self, folder: Path) -> None:
        if os.geteuid() != 0:
            raise EngineUnavailable("no engine runs here, and only root can start one")
        for program in ("apt-get", "dpkg", "unshare", "nsenter", "setpriv", "ip"):
            if shutil.which(program) is None:
                raise EngineUnavailable(f"no engine runs here, and this machine has no {program} to start one with")
        self.folder = folder
        self._root = folder / "root"
        self._pid: int | None = None
        self._environment = {
            **os.environ,
            "PATH": f"{self._root}/usr/sbin:{self._root}/usr/bin:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": f"{self._root}/usr/lib/{sysconfig.get_config_var('MULTIARCH')}",
            "XTABLES_LIBDIR": f"{self._root}/usr/lib/{sysconfig.get_config_var('MULTIARCH')}/xtables",
        }

    @property
    def client(self) -> dict[str, str]:
        """The environment of a docker client of this engine."""
        return {
            **self._environment,
            "DOCKER_HOST": f"unix://{self.folder}/docker.sock",
            "DOCKER_CONFIG": str(self.folder / "config"),
            "DOCKER_BUILDKIT": "1",
            "BUILD_FLAGS": "--network=host",
        }

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Lock the folder; remove what a killed run left in it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o711)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._clear()
            try:
                yield
            finally:
                self._clear()

    def _clear(self) -> None:
        for name in ("exec", "docker.sock", "docker.pid", "context", "temporary"):
            path = self.folder / name
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        for group in (*Path("/sys/fs/cgroup").glob(CGROUP), *Path("/sys/fs/cgroup").glob(f"*/{CGROUP}")):
            for left, _, _ in os.walk(group, topdown=False):
                with suppress(OSError):
                    Path(left).rmdir()

    # --- packages

    def fetch(self) -> None:
        """Download and unpack the engine and the compose plugin."""
        if (self.folder / "fetched").exists():
            return
        archives = self.folder / "archives"
        (archives / "partial").mkdir(parents=True, exist_ok=True)
        missing = [name for name in ENGINE if not _installed(name)]
        if missing:
            _run("apt-get", "update", "-qq")
            options = ("-o", f"Dir::Cache::archives={archives}", "-qq", "-y", "--no-install-recommends")
            _run("apt-get", *options, "--download-only", "install", *missing)
        for package in archives.glob("*.deb"):
            _run("dpkg", "-x", package, self._root)
        for name in ("iptables", "ip6tables"):  # links that the package makes when it is configured
            link = self._root / "usr/sbin" / name
            if "iptables" in missing and not link.is_symlink():
                link.symlink_to("xtables-nft-multi")
        self._fetch_compose()
        shutil.rmtree(archives)
        (self.folder / "fetched").touch()

    def _fetch_compose(self) -> None:
        apt = self.folder / "apt"
        for name in ("lists/partial", "cache/archives/partial"):
            (apt / name).mkdir(parents=True, exist_ok=True)
        signed = "signed-by=/usr/share/keyrings/debian-archive-keyring.gpg check-valid-until=no"
        (apt / "sources").write_text(f"deb [{signed}] {_mirror()} {TESTING} main\n")
        options = [
            *("-o", f"Dir::State={apt}", "-o", "Dir::State::status=/dev/null", "-o", f"Dir::Cache={apt / 'cache'}"),
            *("-o", f"Dir::Etc::sourcelist={apt / 'sources'}", "-o", "Dir::Etc::sourceparts=/dev/null"),
        ]
        _run("apt-get", *options, "update", "-qq")
        _run("apt-get", *options, "download", "-qq", "docker-compose", folder=apt)
        (package,) = apt.glob("docker-compose_*.deb")
        _run("dpkg", "-x", package, apt / "unpacked")
        plugins = self.folder / "config" / "cli-plugins"
        plugins.mkdir(parents=True, exist_ok=True)
        shutil.copy(apt / "unpacked/usr/libexec/docker/cli-plugins/docker-compose", plugins)
        shutil.rmtree(apt)

    # --- the engine

    @contextmanager
    def running(self, *, alone: bool) -> Iterator[None]:
        """Run the engine; in a network namespace of its own, or (to build) with the machine's network and no bridge."""
        plain = ("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false")
        command = [
            *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "--pid", "--fork"),
            *("--kill-child", "--mount-proc", *(("--net",) if alone else ()), "sh", "-c", SETUP, "sh"),
            *("dockerd", "--data-root", self.folder / "data", "--exec-root", self.folder / "exec"),
            *("--pidfile", self.folder / "docker.pid", "--host", f"unix://{self.folder}/docker.sock"),
            *("--cgroup-parent", f"/{CGROUP}", "--exec-opt", "native.cgroupdriver=cgroupfs"),
            *(() if alone else plain),
        ]
        with (self.folder / "engine.log").open("w") as log:
            process = subprocess.Popen(
                command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            try:
                self._await_start(process)
                yield
            finally:
                self._stop(process)

    def _await_start(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < until:
            answer = subprocess.run(("docker", "info"), env=self.client, capture_output=True, check=False)
            if answer.returncode == 0:
                self._pid = _child_of(process.pid)
                return
            time.sleep(0.2)  # a rate, not a wait
        last = (self.folder / "engine.log").read_text(errors="replace").strip().splitlines()[-3:]
        raise EngineUnavailable("the engine did not start: " + " | ".join(last))

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        if self._pid is not None and process.poll() is None:
            os.kill(self._pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        self._pid = None
        process.kill()  # a no-op on a process that has ended; the namespaces end with it
        process.wait()

    def inside(self, *command: str | Path) -> list[str | Path]:
        """The command, in the engine's network namespace: published ports are on its loopback address."""
        return ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net=/proc/{self._pid}/ns/net", *command]

    # --- the base images

    def make_bases(self) -> None:
        """Build images of Debian packages under the names of the Dockerfile's and the compose files' images."""
        due = [(suite, self._made(suite)) for suite in ROOTS]
        due = [(suite, made) for suite, made in due if time.time() - _changed(made) > KEPT_SECONDS]
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._bootstrap, [suite for suite, _ in due]))
        for suite, made in due:
            tar = self.folder / f"{suite}.tar"
            with tar.open("rb") as content:
                _run("docker", "import", "-", f"base:{suite}", environment=self.client, stdin=content)
            tar.unlink()
            made.touch()
        self._build_bases()

    def _made(self, suite: str) -> Path:
        """The file whose time says when the base image of these packages was made."""
        return self.folder / f"{suite}.{hashlib.sha256(' '.join(ROOTS[suite]).encode()).hexdigest()[:12]}"

    def _bootstrap(self, suite: str) -> None:
        (self.folder / "temporary").mkdir(exist_ok=True)
        paths = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale")]
        command: list[str | Path] = [
            *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", *paths),
            *('--aptopt=Acquire::Check-Valid-Until "false"', '--aptopt=APT::Install-Recommends "false"'),
            f'--essential-hook=mkdir -p "$1/etc/postgresql-common"; echo "{NO_CLUSTER}" > "$1/{CLUSTERS}"',
            *(f"--include={','.join(ROOTS[suite])}", '--customize-hook=rm -rf "$1"/var/lib/apt/lists/*'),
            *('--customize-hook=rm -rf "$1"/var/cache/apt/*', suite, self.folder / f"{suite}.tar", _mirror()),
        ]
        _run("nice", *command, environment={**self._environment, "TMPDIR": str(self.folder / "temporary")})

    def _build_bases(self) -> None:
        context = self.folder / "context"
        shutil.copytree(BASES, context)
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", context)
        self._copy_rust(context / "rust")
        targets = re.findall(r"^FROM \S+ AS (\S+)$", (BASES / "Dockerfile").read_text(), re.MULTILINE)
        for image in sorted({*base_images().values(), *images()}):
            name = image.partition(":")[0].rpartition("/")[2]
            if name in targets:
                build = ("docker", "build", "--quiet", "--network=host", "--target", name, "--tag", image)
                _run(*build, context, environment=self.client)
        shutil.rmtree(context)

    def _copy_rust(self, folder: Path) -> None:
        """Copy this machine's compiler, without its documentation and other tools."""
        if shutil.which("rustc") is None:
            raise EngineUnavailable("the base image for Rust is made of this machine's toolchain, and there is none")
        toolchain = Path(_run("rustc", "--print", "sysroot").strip())
        (folder / "bin").mkdir(parents=True)
        (folder / "lib/rustlib").mkdir(parents=True)
        for program in ("cargo", "rustc"):
            shutil.copy2(toolchain / "bin" / program, folder / "bin")
        for library in (toolchain / "lib").glob("*.so*"):
            shutil.copy2(library, folder / "lib")
        for target in (toolchain / "lib/rustlib").glob("*-unknown-linux-gnu"):
            if target.is_dir():
                shutil.copytree(target, folder / "lib/rustlib" / target.name)

    def size_mib(self) -> int:
        """What the folder holds on the disk."""
        return int(_run("du", "-sm", self.folder).split()[0])


def _installed(package: str) -> bool:
    ran = subprocess.run(("dpkg-query", "-W", "-f", "${Status}", package), capture_output=True, text=True, check=False)
    return ran.stdout == "install ok installed"


def _mirror() -> str:
    """The Debian mirror of this machine's apt."""
    return _run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").splitlines()[0]


def _child_of(pid: int) -> int:
    """The one child of `unshare`: the engine, the first process of its namespaces."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def _changed(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0


def _run(
    *command: str | Path,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    stdin: BinaryIO | int = subprocess.DEVNULL,
) -> str:
    """Run a command that ends with this process; return its output. Raises RuntimeError with what it wrote."""
    ran = subprocess.run(
        ("setpriv", "--pdeathsig", "KILL", *command),
        env=environment,
        cwd=folder,
        stdin=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command[:4]))} … ended with {ran.returncode}:\n{ran.stderr[-2000:]}")
    return ran.stdout
