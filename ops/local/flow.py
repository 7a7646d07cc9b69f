"""Sample the flow of events through a running system once a second, from the metrics of the services."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import orjson
import psutil
from prometheus_client.parser import text_string_to_metric_families
from rich.markup import escape
from rich.table import Table

from core.settings import MEBIBYTE
from core.state import StateProblem
from ops.cli.documents import UpLine
from ops.local import Servers, Supervisor
from ops.local.ready import get, postgres_state
from ops.local.services import COLLECTORS, Services

LEVELS: Final = {"good": "green", "warn": "yellow", "bad": "bold red"}
FRESHNESS_INTERVAL_SECONDS: Final = 0.2
REQUEST_TIMEOUT_SECONDS: Final = 1.0
"""Time-out of each request, so that a frozen program does not delay the samples of the others."""


class Pipeline(msgspec.Struct):
    """The part of the reporter's /pipeline that is used here."""

    problems: list[StateProblem]


_decode_pipeline = msgspec.json.Decoder(Pipeline).decode


@dataclass(frozen=True)
class Sample:
    """Counters since the services started, and the current state."""

    at: float
    accepted: float = 0
    rejected: float = 0
    stored: dict[str, float] = field(default_factory=dict)
    repeated: float = 0
    dead: float = 0
    waiting: float = 0
    lag_seconds: float = 0
    rss_bytes: dict[str, int] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    """State of each program: ready, the reason why it is not ready, down, or does not answer."""
    problems: list[StateProblem] = field(default_factory=list)
    """The problems that the state page shows; empty if the reporter does not answer."""


class Flow:
    """Samples a system. `peak_rss_bytes` holds the highest memory of each program."""

    def __init__(self, supervisor: Supervisor, services: Services, servers: Servers) -> None:
        self._supervisor = supervisor
        self._services = services
        self._servers = servers
        self.peak_rss_bytes: dict[str, int] = {}

    async def sample(self) -> Sample:
        """Query every service. The counters of a service that does not answer are 0."""
        names = ["gateway", *COLLECTORS]
        programs = self._supervisor.names
        (gateway, *collectors), states, problems = await asyncio.gather(
            asyncio.gather(*(self._metrics(name) for name in names)),
            asyncio.gather(*(self._state(name) for name in programs)),
            self._problems(),
        )
        rss = {name: self._rss(name) for name in self._supervisor.names}
        for name, size in rss.items():
            self.peak_rss_bytes[name] = max(size, self.peak_rss_bytes.get(name, 0))
        return Sample(
            at=time.monotonic(),
            accepted=gateway.get("gateway_events_accepted_total", 0),
            rejected=gateway.get("gateway_events_failed_total", 0),
            stored={
                name: metrics.get("collector_events_processed_total", 0)
                for name, metrics in zip(COLLECTORS, collectors, strict=True)
            },
            repeated=sum(metrics.get("collector_events_repeated_total", 0) for metrics in collectors),
            dead=sum(metrics.get("collector_events_failed_total", 0) for metrics in collectors),
            waiting=sum(metrics.get("collector_pending_messages", 0) for metrics in collectors),
            lag_seconds=max((metrics.get("collector_lag_seconds", 0) for metrics in collectors), default=0),
            rss_bytes=rss,
            states=dict(zip(programs, states, strict=True)),
            problems=problems,
        )

    async def _state(self, name: str) -> str:
        """Return the state of a program within REQUEST_TIMEOUT_SECONDS."""
        if not self._supervisor.pids(name):
            return "down"
        if name == "postgres":
            return await postgres_state(self._servers.postgres.port, REQUEST_TIMEOUT_SECONDS)
        if name != "nats" and name not in self._services.ports:
            return "running"
        try:
            if name == "nats":
                status, body = await get(self._servers.nats.monitor_port, "/healthz", seconds=REQUEST_TIMEOUT_SECONDS)
            else:
                status, body = await self._services.get(name, "/health/ready", REQUEST_TIMEOUT_SECONDS)
        except OSError:
            return "does not answer"
        return "ready" if status == 200 else _why(status, body)

    async def _problems(self) -> list[StateProblem]:
        try:
            status, body = await self._services.get("reporter", "/pipeline", REQUEST_TIMEOUT_SECONDS)
            return _decode_pipeline(body).problems if status == 200 else []
        except (OSError, msgspec.MsgspecError):
            return []

    async def _metrics(self, name: str) -> dict[str, float]:
        """Return the samples of a service by name, summed over their labels."""
        totals: dict[str, float] = {}
        with contextlib.suppress(OSError):
            status, body = await self._services.get(name, "/metrics", REQUEST_TIMEOUT_SECONDS)
            if status == 200:
                for family in text_string_to_metric_families(body.decode()):
                    for sample in family.samples:
                        totals[sample.name] = totals.get(sample.name, 0) + sample.value
        return totals

    def _rss(self, name: str) -> int:
        total = 0
        for pid in self._supervisor.pids(name):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += psutil.Process(pid).memory_info().rss
        return total


def _why(status: int, body: bytes) -> str:
    """Return why a service or NATS is not ready."""
    try:
        answer = orjson.loads(body)
        missing = answer.get("missing") or {"not ready": answer.get("error", status)}
        return "; ".join(f"{name}: {reason}" for name, reason in missing.items())
    except (ValueError, AttributeError):
        return f"answers with status {status}"


def line(before: Sample, now: Sample) -> str:
    """Return one second of flow as one line of text."""
    seconds = max(now.at - before.at, 0.001)
    stored = (sum(now.stored.values()) - sum(before.stored.values())) / seconds
    memory = sum(now.rss_bytes.values()) / MEBIBYTE
    return (
        f"accepted {(now.accepted - before.accepted) / seconds:9,.0f}/s   rejected {now.rejected:6,.0f}   "
        f"stored {stored:9,.0f}/s   total {sum(now.stored.values()):13,.0f}   repeated {now.repeated:7,.0f}   "
        f"dead {now.dead:4,.0f}   waiting {now.waiting:5,.0f} messages   lag {now.lag_seconds:5.2f} s   "
        f"memory {memory:5,.0f} MB   {_summary(now)}"
    )


def up_line(before: Sample, now: Sample) -> UpLine:
    """Return one second of flow as a JSON document."""
    seconds = max(now.at - before.at, 0.001)
    stored = sum(now.stored.values())
    return UpLine(
        accepted_per_second=round((now.accepted - before.accepted) / seconds, 1),
        stored_per_second=round((stored - sum(before.stored.values())) / seconds, 1),
        rejected=int(now.rejected),
        stored=int(stored),
        repeated=int(now.repeated),
        dead=int(now.dead),
        waiting_messages=int(now.waiting),
        lag_seconds=round(now.lag_seconds, 3),
        memory_bytes=now.rss_bytes,
        programs=now.states,
        problems=[problem.text for problem in now.problems],
    )


def _not_ready(now: Sample) -> dict[str, str]:
    return {name: state for name, state in now.states.items() if state not in ("ready", "running")}


def _summary(now: Sample) -> str:
    """Return all problems in one line."""
    states = [f"{name}: {state}" for name, state in _not_ready(now).items()]
    return "; ".join([*states, *(problem.text for problem in now.problems)]) or "no problem"


def table(before: Sample, now: Sample) -> Table:
    """Return one second of flow as a table for a terminal."""
    seconds = max(now.at - before.at, 0.001)
    shown = Table(title="Sluice", title_justify="left", expand=False)
    shown.add_column("program")
    shown.add_column("events/s", justify="right")
    shown.add_column("events", justify="right")
    shown.add_column("memory", justify="right")
    shown.add_column("state")
    shown.add_column("")
    rates = {"gateway": (now.accepted - before.accepted) / seconds}
    totals = {"gateway": now.accepted, **now.stored}
    remarks = {"gateway": f"{now.rejected:,.0f} rejected"}
    not_ready = _not_ready(now)
    for name, stored in now.stored.items():
        rates[name] = (stored - before.stored.get(name, 0)) / seconds
    for name, size in now.rss_bytes.items():
        rate, total = rates.get(name), totals.get(name)
        shown.add_row(
            name,
            "" if rate is None else f"{rate:,.0f}",
            "" if total is None else f"{total:,.0f}",
            f"{size / MEBIBYTE:,.0f} MB",
            f"[{'bold red' if name in not_ready else 'green'}]{escape(now.states.get(name, ''))}[/]",
            remarks.get(name, ""),
        )
    shown.caption = (
        f"{now.waiting:,.0f} messages waiting, lag {now.lag_seconds:.2f} s, "
        f"{now.repeated:,.0f} repeated, {now.dead:,.0f} dead"
    ) + "".join(f"\n[{LEVELS[problem.level]}]{escape(problem.text)}[/]" for problem in now.problems)
    shown.caption_justify = "left"
    return shown


async def sample_freshness(services: Services, samples: list[float]) -> None:
    """Append the delay of reports in seconds, the higher one of the sources, five times a second."""
    while True:
        now = datetime.now(UTC)
        since = (now - timedelta(minutes=15)).strftime("%Y-%m-%dT%H:%M:%SZ")
        path = f"/reports/events?from={since}&to={now.strftime('%Y-%m-%dT%H:%M:%SZ')}"
        with contextlib.suppress(OSError):
            status, body = await services.get("reporter", path)
            if status == 200:
                behind = [source["behindSeconds"] for source in orjson.loads(body)["freshness"].values()]
                samples.append(max(seconds for seconds in behind if seconds is not None))
        await asyncio.sleep(FRESHNESS_INTERVAL_SECONDS)
