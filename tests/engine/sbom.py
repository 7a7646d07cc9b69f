"""What is in the services' image, as a CycloneDX document: `.sluice/sbom.json` after `make compose-check`.

Python distributions come from the image itself, crates of the native module from its lock file, Debian packages from
the package database of the image. Any scanner reads the document (Grype, Trivy, OSV-Scanner, Dependency-Track).
"""

from __future__ import annotations

import json
import tomllib
from typing import Any

from tests.engine.project import docker
from tests.support.compose import ROOT

LIST_PYTHON = (
    "import importlib.metadata as m; print(*sorted(f'{d.name}=={d.version}' for d in m.distributions()), sep='\\n')"
)


def python_distributions(image: str) -> dict[str, str]:
    """Versions by normalized name."""
    listed = docker("run", "--rm", "--network", "none", image, "/opt/sluice/bin/python", "-c", LIST_PYTHON).split()
    pairs = (line.split("==") for line in listed)
    return {name.lower().replace("_", "-").replace(".", "-"): version for name, version in pairs}


def debian_packages(image: str) -> dict[str, str]:
    """Versions by package, of the base image."""
    listed = docker("run", "--rm", "--network", "none", image, "dpkg-query", "-W", "-f", "${Package} ${Version}\\n")
    return dict(line.split(" ", 1) for line in listed.splitlines() if line)


def crates() -> dict[str, str]:
    """Versions of what the native module is built from."""
    locked = tomllib.loads((ROOT / "core/native/Cargo.lock").read_text())["package"]
    return {package["name"]: package["version"] for package in locked if "source" in package}


def document(image: str) -> dict[str, Any]:
    """The CycloneDX document of an image."""
    components = [
        {"type": "library", "name": name, "version": version, "purl": f"pkg:{kind}/{name}@{version}"}
        for kind, found in (
            ("pypi", python_distributions(image)),
            ("cargo", crates()),
            ("deb/debian", debian_packages(image)),
        )
        for name, version in sorted(found.items())
    ]
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": components}


def write(image: str) -> int:
    """Write the document; return the number of components."""
    made = document(image)
    (ROOT / ".sluice").mkdir(exist_ok=True)
    (ROOT / ".sluice" / "sbom.json").write_text(json.dumps(made, indent=1) + "\n")
    return len(made["components"])
