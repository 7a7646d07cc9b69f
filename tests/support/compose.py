"""docker-compose.yml as `docker compose config` sees it, without an engine (ops/tools/compose)."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.tools import require

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "ops" / "tools" / "bin"
BASE = "docker-compose.yml"
ENVIRONMENTS = ("override", "staging", "production")

Service = dict[str, Any]
SECONDS = {"s": 1.0, "m": 60.0}


def built(name: str) -> Path:
    """A program of ops/tools, or the test's end where it is not built."""
    path = TOOLS / name
    require(path.exists(), f"{name}, which make setup builds where there is a Go toolchain")
    return path


def resolve(*files: str, env: Mapping[str, str] | None = None, profiles: tuple[str, ...] = ()) -> dict[str, Any]:
    """The project that these files make, as JSON. Fails with the loader's own words where they make none.

    Only `env` is given to it: neither this process's settings nor a .env of the folder's owner count.
    """
    command = [str(built("compose")), *(w for p in profiles for w in ("--profile", p))]
    ran = subprocess.run(
        [*command, *files],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "COMPOSE_DISABLE_ENV_FILE": "1", **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    project: dict[str, Any] = json.loads(ran.stdout)
    return project


def images() -> set[str]:
    """The images that the compose files name, without our own."""
    environments = (
        resolve(BASE, f"docker-compose.{name}.yml", env={"SLUICE_IMAGE": "sluice:1"}) for name in ENVIRONMENTS
    )
    named = {service["image"] for project in environments for service in project["services"].values()}
    return {image for image in named if not image.startswith("sluice")}


def base_images() -> dict[str, str]:
    """The Dockerfile's base images, by their argument."""
    return dict(re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))


def seconds(duration: str) -> float:
    """Return a duration of compose's in seconds: 1m30s is 90."""
    return sum(float(number) * SECONDS[unit] for number, unit in re.findall(r"([\d.]+)([sm])", duration))
