"""What a deployment needs of each source by hand, as docs/add-a-source.md lists it: nothing is forgotten silently."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from core.sources import SOURCES
from core.sources.declaration import Source

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "add-a-source.md"

sources = pytest.mark.parametrize("source", SOURCES.values(), ids=list(SOURCES))


@sources
def test_compose_runs_its_collector(source: Source) -> None:
    """A service that collects it, and the gateway's two settings of it."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert compose["services"][source.collector]["command"][-1] == source.name
    environment = compose["services"]["gateway"]["environment"]
    assert f"GATEWAY_{source.name.upper()}_SCHEME" in environment
    assert f"GATEWAY_{source.name.upper()}_SECRETS_FILE" in environment


@sources
def test_kubernetes_runs_its_collector(source: Source) -> None:
    """A folder of its own, which the base names."""
    base = ROOT / "ops" / "k8s" / "base"
    assert source.collector in yaml.safe_load((base / "kustomization.yaml").read_text())["resources"]
    assert (base / source.collector / "kustomization.yaml").exists()


@sources
def test_prometheus_finds_its_collector(source: Source) -> None:
    """The job of collectors asks for its name."""
    jobs = yaml.safe_load((ROOT / "ops" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    (collectors,) = (job for job in jobs if job["job_name"] == "collector")
    assert source.collector in collectors["dns_sd_configs"][0]["names"]


@sources
def test_its_secrets_have_a_file(source: Source) -> None:
    """The script makes the file that compose names."""
    assert f"{source.name}_secrets" in (ROOT / "ops" / "secrets.sh").read_text()


@sources
def test_its_settings_are_listed(source: Source) -> None:
    """.env.example has both."""
    lines = (ROOT / ".env.example").read_text()
    assert f"GATEWAY_{source.name.upper()}_SCHEME=" in lines
    assert f"GATEWAY_{source.name.upper()}_SECRETS=" in lines


def test_the_page_names_these_tests() -> None:
    """docs/add-a-source.md says what fails where a part is forgotten."""
    assert f"tests/contract/{Path(__file__).name}" in PAGE.read_text()
