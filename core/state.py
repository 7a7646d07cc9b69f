"""Evaluate the state of the pipeline: the page, `make up` and `sluice doctor` report the same problems.

    facts (from the database or the servers) --problems--> problems, the worst first --level--> one word

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
MAX_FULL: Final = 0.8
"""Share of a stream's limit."""
MAX_SILENCE_SECONDS: Final = 15.0
"""Collectors and gateways report once a second; a lost connection to NATS is detected within 10 s."""
TURNED_AWAY_SECONDS: Final = 60.0
"""How long requests answered 500 or 503 count as a problem."""


class StateProblem(msgspec.Struct, frozen=True):
    """One problem: something is wrong or unknown."""

    part: Annotated[str, Meta(description="gateway, a source, or rejected")]
    check: Annotated[CheckName, Meta(description="The check of `sluice doctor` that says what to do")]
    level: Level
    title: Annotated[str, Meta(description="Constant while the problem lasts")]
    text: Annotated[str, Meta(description="With current figures")]


class SourceFacts(NamedTuple):
    """The facts of one source, or of rejected events."""

    name: str
    lag_seconds: float | None  # age of the oldest message that is not stored; None: unknown
    waiting: int
    stream_bytes: int
    stream_max_bytes: int  # 0: unknown
    paused: bool
    collected: str  # empty: a collector runs; otherwise why this is uncertain
    stopped: str = ""  # why a collector stopped
    lost: int = 0


class GatewayFacts(NamedTuple):
    """The reports of gateways."""

    turned_away: int  # requests answered 500 or 503 within TURNED_AWAY_SECONDS
    unknown: str  # empty: a gateway reported recently; otherwise why nothing is known


def problems(
    sources: Sequence[SourceFacts],
    gateway: GatewayFacts,
    dead: Mapping[tuple[str, str], int],
    max_lag_seconds: float = MAX_LAG_SECONDS,
) -> list[StateProblem]:
    """Return all problems, the worst first. `dead` has the open dead letters by source and reason."""
    result: list[StateProblem] = []
    if gateway.turned_away:
        text = f"{_plural(gateway.turned_away, 'request')} got 500 or 503 in the last minute"
        result.append(StateProblem("gateway", "requests", "bad", "Requests fail", text))
    if gateway.unknown:
        title = "It is unknown whether requests fail"
        result.append(StateProblem("gateway", "requests", "warn", title, gateway.unknown))
    for source in sources:
        result += _of_source(source, max_lag_seconds)
    for (name, reason), events in dead.items():
        text = f"{_plural(events, 'accepted event')} of {name} could not be stored: {reason}"
        result.append(StateProblem(name, "dead letters", "warn", f"Events of {name} could not be stored", text))
    return sorted(result, key=lambda problem: problem.level != "bad")


def _of_source(source: SourceFacts, max_lag_seconds: float) -> list[StateProblem]:
    name, stream = source.name, stream_of(source.name)
    serious: Level = "warn" if name == REJECTED else "bad"  # accepted events are stored even so
    result: list[StateProblem] = []

    def add(check: CheckName, level: Level, title: str, text: str) -> None:
        result.append(StateProblem(name, check, level, title, text))

    if source.lost:
        text = f"{_plural(source.lost, 'message')} of {name} lost: published, and never stored"
        add("lost", "bad", f"Messages of {name} are lost", text)
    if source.stream_max_bytes and (share := source.stream_bytes / source.stream_max_bytes) > MAX_FULL:
        consequence = "" if name == REJECTED else "; when it is full, requests get 503"
        add("room in streams", serious, f"{stream} is nearly full", f"{stream} is {share:.0%} full{consequence}")
    if source.stopped:
        title = f"A collector of {name} stopped"
        add("stopped", serious, title, f"a collector of {name} stopped: {source.stopped}")
    if source.collected:
        add("collectors", serious, f"No collector of {name} reports", source.collected)
    if source.paused:
        add("paused", "warn", f"{name} is paused", f"{name} is paused: its events are accepted and queued")
    if source.lag_seconds is not None and source.lag_seconds > max_lag_seconds:
        text = f"{stream}: {_plural(source.waiting, 'message')} waiting, the oldest {source.lag_seconds:.1f} s"
        add("lag", serious, f"{name} is more than {max_lag_seconds:g} s behind", text)
    if source.lag_seconds is None and name != REJECTED and not source.collected:
        add("lag", "warn", f"The lag of {name} is not known yet", f"{name} has no watermark yet")
    return result


async def read_sources(connection: AnyConnection) -> dict[str, asyncpg.Record]:
    """Return the last reports of collectors, by source: see sql/state.sql."""
    rows = await connection.fetch(_SQL["sources"], MAX_SILENCE_SECONDS)
    return {row["name"]: row for row in rows}


async def read_gateways(connection: AnyConnection) -> GatewayFacts:
    """Return the last reports of gateways, which the collector of rejected events stores."""
    row = await connection.fetchrow(_SQL["gateways"])
    if row is None or row["unseen_seconds"] > MAX_SILENCE_SECONDS:
        return GatewayFacts(0, "gateways report through the collector of rejected events, which does not report")
    silent = row["silent_seconds"]
    if silent is None:
        return GatewayFacts(row["turned_away"], "no gateway has reported yet")
    return GatewayFacts(
        row["turned_away"], f"no gateway has reported for {silent:.0f} s" if silent > MAX_SILENCE_SECONDS else ""
    )


def _plural(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def level(result: Sequence[StateProblem]) -> Level:
    """Return the worst level."""
    levels = {problem.level for problem in result}
    return "bad" if "bad" in levels else "warn" if levels else "good"
