"""The result of a check, and the checks that need no connection to NATS or PostgreSQL.

They check services, the monitoring port of NATS, disks and clocks.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import orjson
from msgspec import Struct

from core import http_client
from ops.settings import OperatorSettings

State = Literal["ok", "wrong", "unknown"]
ANSWER_TIMEOUT_SECONDS: Final = 3.0
MAX_SKEW_SECONDS: Final = 2.0
# What a service is not ready for -> the check that finds the cause.
CAUSES: Final = {"nats": "NATS", "streams": "NATS", "postgres": "PostgreSQL", "schema": "schema"}
MIN_FREE_SHARE: Final = 0.05
MIN_FREE_BYTES: Final = 1 << 30
GIBIBYTE: Final = 1 << 30


class CheckResult(Struct, frozen=True):
    """The result of one check.

    fix       a command, or what to do if there is no command
    needs     other checks: if one of them is not ok, it is the cause of this one
    programs  those whose logs have details
    cause     the check in `needs` that is not ok; empty if there is none
    log       paths of log files
    runbook   path of the runbook
    """

    check: str
    state: State
    message: str
    fix: str = ""
    needs: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    cause: str = ""
    log: str = ""
    runbook: str = ""


class Report(Struct):
    """The document of `sluice doctor`: ok is true if all checks are ok."""

    ok: bool
    checks: list[CheckResult]


def check_result(check: str, problems: Sequence[str], fix: str, ok: str) -> CheckResult:
    """Return a result that is wrong if there are problems; `ok` is the message if there are none."""
    return CheckResult(check, "wrong", "; ".join(problems), fix) if problems else CheckResult(check, "ok", ok)


async def get(url: str) -> tuple[int, bytes]:
    """GET a URL of a service. Raises OSError if it does not answer."""
    return await asyncio.to_thread(http_client.get, url, seconds=ANSWER_TIMEOUT_SECONDS)


async def service(name: str, url: str, fix: str) -> CheckResult:
    """Check that a service is ready. `fix` is the advice if it does not answer."""
    try:
        status, body = await get(f"{url.rstrip('/')}/health/ready")
    except OSError as error:
        return CheckResult(name, "wrong", f"{url} does not answer ({error})", fix)
    if status == 200:
        return CheckResult(name, "ok", f"{url} is ready")
    try:
        missing = dict(orjson.loads(body)["missing"])
    except (ValueError, LookupError, TypeError):
        return CheckResult(name, "wrong", f"{url} answered with status {status}", fix)
    message = "not ready: " + "; ".join(f"{name}: {reason}" for name, reason in missing.items())
    needs = [CAUSES[name] for name in missing if name in CAUSES]
    return CheckResult(name, "wrong", message, fix, tuple(needs) if len(needs) == len(missing) else ())


async def nats_fsync(settings: OperatorSettings) -> tuple[CheckResult, Path | None]:
    """Check that JetStream syncs to disk before it confirms a message. Return the folder of its streams, too."""
    name, url = "NATS fsync", f"{settings.nats_monitor_url.rstrip('/')}/varz"
    try:
        answer = orjson.loads((await get(url))[1])
        config = answer["jetstream"]["config"]
        always, store = bool(config.get("sync_always")), Path(config["store_dir"])
    except (OSError, ValueError, LookupError, TypeError):
        fix = "set NATS_MONITOR_URL to NATS's monitoring port (its option http_port)"
        return CheckResult(name, "unknown", f"{url} does not answer as expected", fix), None
    problems = [] if always else ["NATS confirms messages before they are on disk"]
    fix = "set sync_interval: always in nats.conf and restart NATS"
    return check_result(name, problems, fix, f"sync_interval is always, NATS {answer['version']}"), store


async def nats_health(settings: OperatorSettings) -> CheckResult:
    """Check that JetStream can write. After a full disk a stream rejects messages until NATS is restarted."""
    name, url = "NATS health", f"{settings.nats_monitor_url.rstrip('/')}/healthz"
    try:
        answer = orjson.loads((await get(url))[1])
        problems = [] if answer["status"] == "ok" else [str(answer.get("error") or answer["status"])]
    except (OSError, ValueError, LookupError, TypeError):
        fix = "set NATS_MONITOR_URL to NATS's monitoring port (its option http_port)"
        return CheckResult(name, "unknown", f"{url} does not answer as expected", fix)
    return check_result(
        name, problems, "after a write error: free disk space, then restart NATS", "JetStream can write"
    )


def disks(paths: Sequence[Path]) -> list[CheckResult]:
    """Check the free space of the file systems of these folders, each file system once."""
    devices = {os.stat(path).st_dev if path.exists() else path: path for path in reversed(paths)}  # noqa: PTH116
    return [disk(path) for path in reversed(devices.values())]


def disk(path: Path) -> CheckResult:
    """Check the free space of the file system of a folder."""
    try:
        usage = shutil.disk_usage(path)
    except OSError as error:
        return CheckResult("disk", "unknown", f"{path}: {error.strerror}", "name an existing folder")
    min_free = max(min(MIN_FREE_BYTES, usage.total / 2), usage.total * MIN_FREE_SHARE)
    free = f"{path}: {usage.free / GIBIBYTE:.1f} of {usage.total / GIBIBYTE:.1f} GiB are free"
    fix = "free disk space, or drop old days: sluice partitions drop --older-than DAYS"
    return check_result("disk", [free] if usage.free < min_free else [], fix, free)


def clock(ours: datetime, clocks: dict[str, datetime]) -> CheckResult:
    """Check that the clocks of the servers agree with ours. All instants were read at about the same moment."""
    problems = [
        f"{name} is {abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} this machine"
        for name, theirs in clocks.items()
        if abs(seconds := (theirs - ours).total_seconds()) > MAX_SKEW_SECONDS
    ]
    agree = f"this machine, {' and '.join(clocks)} agree"
    return check_result("clock", problems, "synchronize each machine by NTP: timedatectl set-ntp true", agree)
