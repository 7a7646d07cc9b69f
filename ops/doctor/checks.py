"""What a check of `doctor` is, and those that need no connection: services, NATS's monitoring port, disks, clocks."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple

import orjson

from core import ask
from ops.settings import OperatorSettings

State = Literal["ok", "wrong", "unknown"]
ANSWER_SECONDS: Final = 3.0
MOST_SKEW_SECONDS: Final = 2.0
# What a service is missing -> the check of the server that it lacks.
SERVERS: Final = {"nats": "NATS", "streams": "NATS", "postgres": "PostgreSQL", "schema": "schema"}
LEAST_FREE: Final = 0.05
LEAST_FREE_BYTES: Final = 1 << 30
GIBIBYTE: Final = 1 << 30


class Check(NamedTuple):
    """One thing that was looked at. mend is a command, or what to do where no command does it.

    needs: other checks; if one of them is not ok, this one follows from it, and `cause` names it. programs: those whose
    logs say more. log and runbook are files.
    """

    check: str
    state: State
    found: str
    mend: str = ""
    needs: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    cause: str = ""
    log: str = ""
    runbook: str = ""


def judged(check: str, wrong: Sequence[str], mend: str, ok: str) -> Check:
    """Wrong where there is something to say, else ok."""
    return Check(check, "wrong", "; ".join(wrong), mend) if wrong else Check(check, "ok", ok)


async def get(url: str) -> tuple[int, bytes]:
    """GET a URL of ours. Raises OSError where no answer comes."""
    return await asyncio.to_thread(ask.get, url, seconds=ANSWER_SECONDS)


async def service(name: str, url: str, mend: str) -> Check:
    """Whether a service is ready."""
    try:
        status, body = await get(f"{url.rstrip('/')}/health/ready")
    except OSError as error:
        return Check(name, "wrong", f"{url} does not answer ({error})", mend)
    if status == 200:
        return Check(name, "ok", f"{url} is ready")
    try:
        missing = dict(orjson.loads(body)["missing"])
    except (ValueError, LookupError, TypeError):
        return Check(name, "wrong", f"{url} answered {status}", mend)
    found = "not ready: " + "; ".join(f"{what}: {why}" for what, why in missing.items())
    needs = [SERVERS[what] for what in missing if what in SERVERS]
    return Check(name, "wrong", found, mend, tuple(needs) if len(needs) == len(missing) else ())


async def nats_fsync(settings: OperatorSettings) -> tuple[Check, Path | None]:
    """Whether JetStream has everything on disk before it confirms; and the folder that it tells."""
    name, url = "NATS fsync", f"{settings.nats_monitor_url.rstrip('/')}/varz"
    try:
        told = orjson.loads((await get(url))[1])
        config = told["jetstream"]["config"]
        always, store = bool(config.get("sync_always")), Path(config["store_dir"])
    except (OSError, ValueError, LookupError, TypeError):
        mend = "set NATS_MONITOR_URL to NATS's monitoring port (its option http_port)"
        return Check(name, "unknown", f"{url} does not tell", mend), None
    wrong = [] if always else ["a message is confirmed before it is on disk"]
    mend = "set sync_interval: always in nats.conf and restart NATS"
    return judged(name, wrong, mend, f"sync_interval is always, NATS {told['version']}"), store


async def nats_health(settings: OperatorSettings) -> Check:
    """Whether JetStream can write. A stream whose disk was full once takes nothing until NATS is restarted."""
    name, url = "NATS health", f"{settings.nats_monitor_url.rstrip('/')}/healthz"
    try:
        told = orjson.loads((await get(url))[1])
        wrong = [] if told["status"] == "ok" else [str(told.get("error") or told["status"])]
    except (OSError, ValueError, LookupError, TypeError):
        mend = "set NATS_MONITOR_URL to NATS's monitoring port (its option http_port)"
        return Check(name, "unknown", f"{url} does not tell", mend)
    return judged(name, wrong, "after a write error: make room on its disk, then restart NATS", "all streams are well")


def disks(paths: Sequence[Path]) -> list[Check]:
    """Whether the file systems of these folders have room, each once."""
    devices = {os.stat(path).st_dev if path.exists() else path: path for path in reversed(paths)}  # noqa: PTH116
    return [disk(path) for path in reversed(devices.values())]


def disk(path: Path) -> Check:
    """Whether a file system has room."""
    try:
        usage = shutil.disk_usage(path)
    except OSError as error:
        return Check("disk", "unknown", f"{path}: {error.strerror}", "give a folder that is there")
    least = max(min(LEAST_FREE_BYTES, usage.total / 2), usage.total * LEAST_FREE)
    free = f"{path}: {usage.free / GIBIBYTE:.1f} of {usage.total / GIBIBYTE:.1f} GiB are free"
    mend = "make room, or drop old days: python -m ops partitions drop --older-than DAYS"
    return judged("disk", [free] if usage.free < least else [], mend, free)


def clock(ours: datetime, told: dict[str, datetime]) -> Check:
    """Whether the servers' clocks agree with ours, each told at about the same moment."""
    wrong = [
        f"{name} is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} this machine"
        for name, theirs in told.items()
        if abs(seconds := (theirs - ours).total_seconds()) > MOST_SKEW_SECONDS
    ]
    agree = f"this machine, {' and '.join(told)} agree"
    return judged("clock", wrong, "keep time by NTP on each machine: timedatectl set-ntp true", agree)
