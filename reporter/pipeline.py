"""State of the pipeline from the database: rates, lag, dead letters, and the ledger of the newest messages.

A read is bounded, whatever the tables hold, so that dashboards may poll it every two seconds. For this reason the
ledger covers the newest messages only; `sluice doctor` checks the whole ledger.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from core import state
from core.events.subjects import COLLECTED, REJECTED, stream_of
from core.sources import SOURCES, SourceName
from core.state import MAX_SILENCE_SECONDS, Level, SourceFacts, StateProblem
from reporter.database import Pool, open_snapshot
from reporter.freshness import Freshness, Instant
from sql import statements

MESSAGES: Final = 4000
RATE_SECONDS: Final = 15
DEAD_LETTERS: Final = 10_000

_SQL: Final = statements("report_pipeline")
_STATE: Final = statements("state")
_STREAMS: Final = tuple(stream_of(collected) for collected in COLLECTED)

Rate = Annotated[float, Meta(description=f"Events per second, over {RATE_SECONDS} seconds")]
DeadLetters = Annotated[int, Meta(description=f"Number in the last 24 hours; {DEAD_LETTERS} means that many or more")]


class Ledger(msgspec.Struct, rename="camel", frozen=True):
    """The ledger of a stream's newest messages: up to some thousands, of at most a day.

    messages = receipts + waiting + lost, and in the receipts events = stored + repeated + dead.
    """

    messages: int
    receipts: int
    waiting: Annotated[int, Meta(description="Accepted and not stored yet")]
    lost: Annotated[int, Meta(description="Without a receipt, although the watermark is past them")]
    events: int
    stored: int
    repeated: int
    dead: int


class SourceState(msgspec.Struct, rename="camel", frozen=True):
    """State of one source."""

    accepted_per_second: Annotated[
        float, Meta(description=f"Events accepted per second, in the {RATE_SECONDS} seconds before storedUntil")
    ]
    stored_per_second: Rate
    events_stored: Annotated[int, Meta(description="All stored events that reports count")]
    freshness: Freshness
    ledger: Ledger


class Pipeline(msgspec.Struct, rename="camel", frozen=True):
    """State of the pipeline."""

    read_at: Instant
    sources: dict[SourceName, SourceState]
    rejected_per_second: Rate
    rejected: DeadLetters
    dead: DeadLetters
    level: Annotated[Level, Meta(description="Level of the worst problem; good if there is none")]
    problems: Annotated[list[StateProblem], Meta(description="Problems and missing information, the worst first")]
    stale: Annotated[bool, Meta(description="Whether some figures are out of date: see observedAt of each source")]


async def read_pipeline(pool: Pool) -> Pipeline:
    """Read the state from one snapshot. Raises the database's errors."""
    async with open_snapshot(pool, list(SOURCES)) as snapshot:
        rows = await snapshot.connection.fetch(_SQL["streams"], _STREAMS, (*SOURCES, None), MESSAGES, RATE_SECONDS)
        totals = {row["source"]: row["events"] for row in await snapshot.connection.fetch(_SQL["totals"])}
        dead_letters = await snapshot.connection.fetchrow(_SQL["dead_letters"], DEAD_LETTERS)
        states = await state.read_sources(snapshot.connection)
        gateways = await state.read_gateways(snapshot.connection)
        dead = {
            (row["source"], row["reason"]): row["events"]
            for row in await snapshot.connection.fetch(_STATE["dead"], DEAD_LETTERS)
        }
    assert dead_letters is not None
    streams = {row["stream"]: row for row in rows}
    sources: dict[SourceName, SourceState] = {
        source: _source(streams[stream_of(source)], totals.get(source, 0), snapshot.freshness[source])
        for source in SOURCES
    }
    facts = [_facts(source, states.get(source), sources[source]) for source in SOURCES]
    facts.append(_facts(REJECTED, states.get(REJECTED), None))
    problems = state.problems(facts, gateways, dead)
    return Pipeline(
        read_at=dead_letters["read_at"],
        sources=sources,
        rejected_per_second=round(streams[stream_of(REJECTED)]["stored_per_second"], 1),
        rejected=dead_letters["rejected"],
        dead=dead_letters["dead"],
        level=state.level(problems),
        problems=problems,
        stale=any(fact.no_collector for fact in facts if fact.name != REJECTED),
    )


def of_sources(pipeline: Pipeline, sources: Collection[SourceName]) -> Pipeline:
    """Return the state without the other sources and their problems."""
    problems = [problem for problem in pipeline.problems if problem.part in sources or problem.part not in SOURCES]
    return msgspec.structs.replace(
        pipeline,
        sources={name: source for name, source in pipeline.sources.items() if name in sources},
        problems=problems,
        level=state.level(problems),
    )


def _facts(name: str, state_row: Any, source: SourceState | None) -> SourceFacts:
    """Return the facts of a source, or of the stream of rejected events, from which problems are derived."""
    silent_seconds = None if state_row is None else state_row["silent_seconds"]
    if silent_seconds is None:
        no_collector = f"no collector of {name} has reported yet"
    elif silent_seconds > MAX_SILENCE_SECONDS:
        no_collector = (
            f"no collector of {name} has reported for {silent_seconds:.0f} s: none runs, or NATS does not answer"
        )
    else:
        no_collector = ""
    return SourceFacts(
        name=name,
        lag_seconds=source.freshness.behind_seconds if source else None,
        waiting=source.freshness.pending_messages or 0 if source else 0,
        stream_bytes=state_row["stream_bytes"] if state_row else 0,
        stream_max_bytes=state_row["stream_max_bytes"] if state_row else 0,
        paused=bool(state_row and state_row["paused"]),
        no_collector=no_collector,
        stop_reason=(state_row and state_row["stopped"]) or "",
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
