"""The pipeline's state as the database knows it: rates, lag, dead letters, and the ledger of the newest messages.

Cheap enough to be asked every two seconds by everybody: what is read is bounded, whatever the tables hold. So the
ledger here is of the newest messages alone; `python -m ops doctor` balances the whole.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from core import state
from core.events.subjects import COLLECTED, REJECTED, stream_of
from core.sources import SOURCES, SourceName
from core.state import MAX_SILENCE_SECONDS, Level, SourceFacts, StateProblem
from reporter.freshness import Freshness, Instant
from reporter.read import Pool, snapshot
from sql import statements

MESSAGES: Final = 4000
RATE_SECONDS: Final = 15
DEAD_LETTERS: Final = 10_000

_SQL: Final = statements("report_pipeline")
_STATE: Final = statements("state")
_STREAMS: Final = tuple(stream_of(collected) for collected in COLLECTED)

Rate = Annotated[float, Meta(description=f"Events a second, over {RATE_SECONDS} seconds")]
DeadLetters = Annotated[int, Meta(description=f"Of the last 24 hours; {DEAD_LETTERS} says that many or more")]


class Ledger(msgspec.Struct, rename="camel", frozen=True):
    """Of a stream's newest messages, some thousands, of a day at most: messages = receipts + waiting + lost, and in the
    receipts events = stored + repeated + dead."""

    messages: int
    receipts: int
    waiting: Annotated[int, Meta(description="Accepted, and not stored yet")]
    lost: Annotated[int, Meta(description="Without a receipt, although everything so old is stored")]
    events: int
    stored: int
    repeated: int
    dead: int


class SourceState(msgspec.Struct, rename="camel", frozen=True):
    """One source."""

    accepted_per_second: Annotated[
        float, Meta(description=f"Events accepted a second, in the {RATE_SECONDS} seconds before storedUntil")
    ]
    stored_per_second: Rate
    events_stored: Annotated[int, Meta(description="All that reports count")]
    freshness: Freshness
    ledger: Ledger


class Pipeline(msgspec.Struct, rename="camel", frozen=True):
    """The pipeline's state."""

    read_at: Instant
    sources: dict[SourceName, SourceState]
    rejected_per_second: Rate
    rejected: DeadLetters
    dead: DeadLetters
    level: Annotated[Level, Meta(description="The worst of the problems; good: all is known, and well")]
    problems: Annotated[list[StateProblem], Meta(description="What is wrong or not known, the worst first")]
    stale: Annotated[bool, Meta(description="Whether figures above are out of date: see observedAt of each source")]


async def read_pipeline(pool: Pool) -> Pipeline:
    """Read it, of one moment. Raises what the database raises."""
    async with snapshot(pool, list(SOURCES)) as seen:
        found = await seen.connection.fetch(_SQL["streams"], _STREAMS, (*SOURCES, None), MESSAGES, RATE_SECONDS)
        totals = {row["source"]: row["events"] for row in await seen.connection.fetch(_SQL["totals"])}
        dead_letters = await seen.connection.fetchrow(_SQL["dead_letters"], DEAD_LETTERS)
        noted = await state.read_sources(seen.connection)
        gateways = await state.read_gateways(seen.connection)
        dead = {
            (row["source"], row["reason"]): row["events"]
            for row in await seen.connection.fetch(_STATE["dead"], DEAD_LETTERS)
        }
    assert dead_letters is not None
    streams = {row["stream"]: row for row in found}
    sources: dict[SourceName, SourceState] = {
        source: _source(streams[stream_of(source)], totals.get(source, 0), seen.freshness[source]) for source in SOURCES
    }
    facts = [_facts(source, noted.get(source), sources[source]) for source in SOURCES]
    facts.append(_facts(REJECTED, noted.get(REJECTED), None))
    problems = state.problems(facts, gateways, dead)
    return Pipeline(
        read_at=dead_letters["read_at"],
        sources=sources,
        rejected_per_second=round(streams[stream_of(REJECTED)]["stored_per_second"], 1),
        rejected=dead_letters["rejected"],
        dead=dead_letters["dead"],
        level=state.level(problems),
        problems=problems,
        stale=any(fact.collected for fact in facts if fact.name != REJECTED),
    )


def _facts(name: str, noted: Any, source: SourceState | None) -> SourceFacts:
    """What the database knows of a source, or of the rejected events."""
    silent = None if noted is None else noted["silent_seconds"]
    if silent is None:
        collected = f"no collector of {name} has reported yet"
    elif silent > MAX_SILENCE_SECONDS:
        collected = f"no collector of {name} has reported for {silent:.0f} s: none runs, or NATS does not answer"
    else:
        collected = ""
    return SourceFacts(
        name=name,
        lag_seconds=source.freshness.behind_seconds if source else None,
        waiting=source.freshness.pending_messages or 0 if source else 0,
        stream_bytes=noted["stream_bytes"] if noted else 0,
        stream_max_bytes=noted["stream_max_bytes"] if noted else 0,
        paused=bool(noted and noted["paused"]),
        collected=collected,
        stopped=(noted and noted["stopped"]) or "",
        lost=source.ledger.lost if source else 0,
    )


def _source(row: Any, total: int, fresh: Freshness) -> SourceState:
    counts = {name: row[name] for name in ("messages", "receipts", "lost", "events", "stored", "repeated", "dead")}
    waiting = row["messages"] - row["receipts"] - row["lost"]
    return SourceState(
        accepted_per_second=round(row["accepted_per_second"], 1),
        stored_per_second=round(row["stored_per_second"], 1),
        events_stored=total,
        freshness=fresh,
        ledger=Ledger(waiting=waiting, **counts),
    )
