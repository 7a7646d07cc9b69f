"""Evaluate the state of the pipeline: the page, `make up` and `sluice doctor` report the same problems.

    facts (from the database or the servers) --problems--> problems, the worst first --level--> good, warn or bad

Invariant: an unknown fact is a problem. "good" means that every fact was checked and is good.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, NamedTuple

import asyncpg
import msgspec
from msgspec import Meta

from core.events.subjects import REJECTED, stream_of
from core.postgres import AnyConnection
from sql import statements

_SQL: Final = statements("state")

Level = Literal["good", "warn", "bad"]
CheckName = Literal["lost", "requests", "room in streams", "collectors", "stopped", "paused", "lag", "dead letters"]

MAX_LAG_SECONDS: Final = 30.0
MAX_STREAM_FILL: Final = 0.8
"""A stream that is fuller than this share of its limit is a problem."""
MAX_SILENCE_SECONDS: Final = 15.0
"""An older report is a problem. Services report once a second; they detect a lost connection within 10 s."""
TURNED_AWAY_SECONDS: Final = 60.0
"""For how long a request that was turned away (answered 500 or 503) counts as a problem."""


class StateProblem(msgspec.Struct, frozen=True):
    """One problem: something is wrong or unknown."""

    part: Annotated[str, Meta(description="gateway, a source, or rejected")]
    check: Annotated[CheckName, Meta(description="The check of `sluice doctor` that says what to do")]
    level: Level
    title: Annotated[str, Meta(description="Constant while the problem lasts")]
    text: Annotated[str, Meta(description="With current figures")]


class SourceFacts(NamedTuple):
    """The facts of one source, or of the stream of rejected events."""

    name: str
    lag_seconds: float | None  # age of the oldest message that is not stored; None: unknown
    waiting: int
    stream_bytes: int
    stream_max_bytes: int  # 0: unknown
    paused: bool
    no_collector: str  # why no collector seems to run; empty if one runs
    stop_reason: str = ""  # why a collector is stopped; empty if none is
    lost: int = 0


class GatewayFacts(NamedTuple):
    """What gateways reported."""

    turned_away: int  # requests answered 500 or 503 within TURNED_AWAY_SECONDS
    no_report: str  # why it is unknown whether requests fail; empty if a gateway reported recently


def problems(
    sources: Sequence[SourceFacts],
    gateway: GatewayFacts,
    dead: Mapping[tuple[str, str], int],
    max_lag_seconds: float = MAX_LAG_SECONDS,
) -> list[StateProblem]:
    """Return all problems, the worst first. `dead` is the number of kept dead letters by source and reason."""
    result: list[StateProblem] = []
    if gateway.turned_away:
        text = f"{_plural(gateway.turned_away, 'request')} got 500 or 503 in the last minute"
        result.append(StateProblem("gateway", "requests", "bad", "Requests fail", text))
    if gateway.no_report:
        title = "It is unknown whether requests fail"
        result.append(StateProblem("gateway", "requests", "warn", title, gateway.no_report))
    for source in sources:
        result += _source_problems(source, max_lag_seconds)
    for (name, reason), events in dead.items():
        text = f"{_plural(events, 'accepted event')} of {name} could not be stored: {reason}"
        result.append(StateProblem(name, "dead letters", "warn", f"Events of {name} could not be stored", text))
    return sorted(result, key=lambda problem: problem.level != "bad")


def _source_problems(source: SourceFacts, max_lag_seconds: float) -> list[StateProblem]:
    name, stream = source.name, stream_of(source.name)
    severity: Level = "warn" if name == REJECTED else "bad"  # the stream REJECTED has no accepted events
    result: list[StateProblem] = []

    def add(check: CheckName, level: Level, title: str, text: str) -> None:
        result.append(StateProblem(name, check, level, title, text))

    if source.lost:
        text = f"{_plural(source.lost, 'message')} of {name} lost: published, and never stored"
        add("lost", "bad", f"Messages of {name} are lost", text)
    if source.stream_max_bytes and (share := source.stream_bytes / source.stream_max_bytes) > MAX_STREAM_FILL:
        consequence = "" if name == REJECTED else "; when it is full, requests get 503"
        add("room in streams", severity, f"{stream} is nearly full", f"{stream} is {share:.0%} full{consequence}")
    if source.stop_reason:
        title = f"A collector of {name} stopped"
        add("stopped", severity, title, f"a collector of {name} stopped: {source.stop_reason}")
    if source.no_collector:
        add("collectors", severity, f"No collector of {name} reports", source.no_collector)
    if source.paused:
        add("paused", "warn", f"{name} is paused", f"{name} is paused: its events are accepted and queued")
    if source.lag_seconds is not None and source.lag_seconds > max_lag_seconds:
        text = f"{stream}: {_plural(source.waiting, 'message')} waiting, the oldest {source.lag_seconds:.1f} s"
        add("lag", severity, f"{name} is more than {max_lag_seconds:g} s behind", text)
    if source.lag_seconds is None and name != REJECTED and not source.no_collector:
        add("lag", "warn", f"The lag of {name} is not known yet", f"{name} has no watermark yet")
    return result


async def read_sources(connection: AnyConnection) -> dict[str, asyncpg.Record]:
    """Return the newest row that collectors recorded for each source; sql/state.sql has the columns."""
    rows = await connection.fetch(_SQL["sources"], MAX_SILENCE_SECONDS)
    return {row["name"]: row for row in rows}


async def read_gateways(connection: AnyConnection) -> GatewayFacts:
    """Return the facts of the gateways: the rejected-collector receives their reports and records the sum."""
    row = await connection.fetchrow(_SQL["gateways"])
    if row is None or row["record_age_seconds"] > MAX_SILENCE_SECONDS:
        return GatewayFacts(0, "gateways report through the collector of rejected events, which does not report")
    silent_seconds = row["silent_seconds"]
    if silent_seconds is None:
        return GatewayFacts(row["turned_away"], "no gateway has reported yet")
    return GatewayFacts(
        row["turned_away"],
        f"no gateway has reported for {silent_seconds:.0f} s" if silent_seconds > MAX_SILENCE_SECONDS else "",
    )


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def level(state_problems: Sequence[StateProblem]) -> Level:
    """Return the worst level of these problems; good if there is none."""
    levels = {problem.level for problem in state_problems}
    return "bad" if "bad" in levels else "warn" if levels else "good"
