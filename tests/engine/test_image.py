"""The services' image: what it holds, what it does not hold, and how it is built from any checkout."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine import sbom
from tests.engine.conftest import Figures
from tests.engine.project import CommandFailed, build, docker, inspect
from tests.support.compose import ROOT

IMAGE = "sluice:dev"
OWN_LAYERS_MAX_MIB = 180  # the dependencies and the code: what is added to the base image
DECOY = "decoy-7c1f"
# Where secrets, data and caches have been seen, relative to the checkout.
DECOYS = (
    *(
        "secrets/owner_dsn",
        "ops/secrets/owner_dsn",
        "ops/secrets/key.py",
        "core/.env",
        ".env",
        "gateway/.env.production",
    ),
    *(".sluice/postgres/data", "core/.sluice/env", "ops/.sluice/nats/x.sql", "reporter/tls.key", "gateway/tls.pem"),
    *("ops/nats/users.conf.bak", "collector/notes.txt", "sql/dump.gz", "core/owner_dsn", "ops/backup/dump"),
    *("bench/results/x.py", "bench/dump.json", "core/__pycache__/x.pyc", "core/_native.abi3.so", ".git/config"),
)
OFFLINE = ("--network", "none")


def in_image(*command: str, image: str = IMAGE) -> str:
    """Run a command in a container as production runs it; return its output."""
    rights = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true", "--tmpfs", "/tmp")
    return docker("run", "--rm", *OFFLINE, *rights, image, *command)


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A copy of what git knows of this checkout."""
    listed = subprocess.check_output(("git", "ls-files", "-z"), cwd=ROOT, text=True).split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / "checkout" / name)
    yield tmp_path / "checkout"
    docker("image", "rm", "--force", "sluice:test", "sluice:test-load")


def test_no_secret_of_the_checkout_is_in_an_image(checkout: Path) -> None:
    """Built from a tree full of decoys, neither image holds one of them."""
    for name in DECOYS:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(DECOY)
    build("sluice:test", folder=checkout)
    build("sluice:test-load", target="stand-in", folder=checkout)
    for image in ("sluice:test", "sluice:test-load"):
        found = in_image(
            "sh", "-c", f"grep -rl --binary-files=text {DECOY} /app /opt /build /tmp 2>/dev/null; true", image=image
        )
        assert found == ""
        assert "/app/core/native/__init__.py" in in_image("find", "/app", image=image).splitlines()


def test_a_checkout_for_its_owner_only_gives_an_image_that_starts(checkout: Path) -> None:
    """Modes are set in the build: a umask of 077 does not matter.

    The inputs of pip and cargo keep their modes: their layers come from the cache, for there may be no network here.
    """
    for path in checkout.rglob("*"):
        if path.name != "requirements.lock" and "native" not in path.relative_to(checkout).parts:
            path.chmod(0o700 if path.is_dir() else 0o600)
    checkout.chmod(0o700)
    build("sluice:test", folder=checkout)
    assert in_image("python", "-c", "import gateway.app, collector, reporter, ops", image="sluice:test") == ""


def test_two_versions_share_their_layers(checkout: Path) -> None:
    """A release adds no layer if nothing but its number changed, and only the code's if the code changed."""
    build("sluice:test", folder=checkout)
    layers = inspect("sluice:test")["RootFS"]["Layers"]
    build("sluice:test", "--build-arg", "VERSION=2.0.0", folder=checkout)
    assert inspect("sluice:test")["Config"]["Labels"]["org.opencontainers.image.version"] == "2.0.0"
    assert inspect("sluice:test")["RootFS"]["Layers"] == layers
    (checkout / "core" / "version_test.py").write_text("VERSION = 1\n")
    build("sluice:test", folder=checkout)
    changed = inspect("sluice:test")["RootFS"]["Layers"]
    assert sum(one != other for one, other in zip(layers, changed, strict=True)) == 1


def test_the_image_holds_what_services_need_and_nothing_else(figures: Figures) -> None:
    """No sources of the native module, no package manager's cache, no compiler, no tests; and its size is bounded."""
    files = in_image("find", "/app", "/opt/sluice", "-type", "f").splitlines()
    assert not [
        name
        for name in files
        if name.endswith((".rs", ".toml", ".lock", ".sh", ".yml", ".md", ".conf")) and name.startswith("/app")
    ]
    assert not [name for name in files if "/tests/" in name and name.startswith("/app")]
    assert (
        in_image(
            "sh", "-c", "find /root /home /var/cache/apt/archives /build -type f 2>/dev/null; command -v cargo; true"
        )
        == ""
    )
    history = [
        json.loads(line) for line in docker("history", "--no-trunc", "--format", "{{json .}}", IMAGE).splitlines()
    ]
    commands = " ".join(layer["CreatedBy"] for layer in history)
    assert not [word for word in ("password", "secret", "token", "--mount=type=secret") if word in commands.lower()]
    base = next(index for index, layer in enumerate(history) if "useradd" in layer["CreatedBy"])
    mib = sum(_mib(layer["Size"]) for layer in history[: base + 1])
    figures.add(
        f"image: {mib:.0f} MiB above its base, {inspect(IMAGE)['Size'] / 2**20:.0f} MiB with the base of this machine"
    )
    assert mib < OWN_LAYERS_MAX_MIB


def _mib(size: str) -> float:
    units = {"GB": 1000**3, "MB": 1000**2, "kB": 1000, "B": 1}
    unit = next(name for name in units if size.endswith(name))
    return float(size.removesuffix(unit)) * units[unit] / 2**20


def test_it_runs_as_a_user_without_rights() -> None:
    """Neither root nor a capability; nothing is written outside of /tmp; the native module is loaded."""
    assert inspect(IMAGE)["Config"]["User"] == "10001:10001"
    assert in_image("id", "-u").strip() == "10001"
    status = in_image("grep", "Cap", "/proc/self/status")
    assert {line.split()[1] for line in status.splitlines() if not line.startswith("CapInh")} == {"0" * 16}
    with pytest.raises(CommandFailed, match="Read-only file system"):
        in_image("touch", "/app/x")
    assert in_image("python", "-c", "from core.native import NOT_BUILT; print(NOT_BUILT)").strip() == "None"


def test_a_health_check_costs_little() -> None:
    """It starts Python without `site`, and imports a socket, but no HTTP client and nothing of ours."""
    (check,) = [inspect(IMAGE)["Config"]["Healthcheck"]["Test"][1:]]
    assert check[:3] == ["python", "-I", "-S"]
    listed = in_image("sh", "-c", '"$@"; true', "sh", "python", "-X", "importtime", *check[1:])
    imported = {line.rpartition("|")[2].strip() for line in listed.splitlines() if line.startswith("import time:")}
    assert "socket" in imported
    assert not imported & {"site", "urllib.request", "http.client", "email", "core", "ssl"}


@pytest.mark.parametrize(
    "module", ["gateway.app", "collector.__main__", "reporter.__main__", "core.migrate", "ops.snapshot"]
)
def test_every_command_finds_what_it_imports(module: str) -> None:
    """With the locked packages and the copied code alone."""
    assert in_image("python", "-c", f"import {module}") == ""


def test_every_distribution_in_the_image_is_locked(figures: Figures) -> None:
    """Nothing is installed but what requirements.lock pins, in those versions; the SBOM names all of it."""
    lock = (ROOT / "requirements.lock").read_text()
    locked = dict(re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", lock, re.MULTILINE))
    installed = sbom.python_distributions(IMAGE)
    assert {name: locked.get(name) for name in installed} == installed
    figures.add(f"SBOM: {sbom.write(IMAGE)} components in .sluice/sbom.json")
