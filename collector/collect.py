"""Collect one source: fetch -> parse -> store -> ack.

Invariant: a message is acknowledged only after the transaction that holds its rows has committed.

    fetched --parse--> rows --write--> stored --ack--> done
       \\--cannot parse--> dead letter ----------ack--> done

The next batch is fetched and parsed while this one is stored. Under load the batches fill by themselves, because
messages gather while a batch is stored; with little to do a batch waits a moment only, so that reports are fresh.

A collector whose storing fails twice in a row, the second time over a connection of its own, gives back all that it
holds and asks for nothing more: another one may reach the database. It goes on trying with the batch at hand, and asks
again once that is stored. So where the database is away for all of them, nothing goes back and forth.

    stored <--every 0.05 to 2 s-- RETRY      a batch that passed a time limit: the first half, then the rest
           <--every minute------- FATAL      the source is stopped, an alert fires; no restart is needed
"""

from __future__ import annotations

import asyncio
from time import perf_counter, thread_time
from typing import Any, Final, Literal

import structlog

from collector import metrics
from collector.faults import Point
from collector.fetch import Fetcher
from collector.message import Message
from collector.metrics import FlowStage
from collector.outcome import count_stored
from collector.parse.parsed import Parser
from collector.store.batch import Entry, Outcome
from collector.store.store import Store, TooSlow
from collector.trace import tell_requests
from core import faults, tracing
from core.backoff import backoff
from core.health import Readiness
from core.lifecycle import until
from core.pg_errors import ErrorClass, classify, unknown_trace
from core.steps import Steps

FIRST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 2.0
STOPPED_PAUSE_SECONDS: Final = 60.0  # between the tries of a source that is stopped
GIVE_BACK_AFTER: Final = 2  # tries that failed: the first one may find a line that was cut, the next one has a new one
log = structlog.get_logger()


class Collector:
    """The flow of one source, from its stream into its table."""

    def __init__(
        self,
        source: str,
        fetcher: Fetcher,
        parse: Parser,
        store: Store,
        readiness: Readiness,
        *,
        batch_rows: int,
        linger_seconds: float,
        stopped_pause_seconds: float = STOPPED_PAUSE_SECONDS,
    ) -> None:
        self._source = source
        self._fetcher = fetcher
        self._parse = parse
        self._store = store
        self._readiness = readiness
        self._batch_rows = batch_rows
        self._linger = linger_seconds
        self._stopped_pause = stopped_pause_seconds
        self._most_messages = batch_rows  # of a transaction; fewer after one that passed a time limit

    async def run(self, stop: asyncio.Event) -> None:
        """Collect until `stop`; then finish the batch at hand and give back the rest."""
        stopping = asyncio.create_task(stop.wait())
        storing: asyncio.Task[None] | None = None
        try:
            while (messages := await self._next(stopping, storing)) is not None:
                steps = Steps()
                entries = await self._parsed(messages)
                steps.done("parse")
                if storing is not None:
                    await storing
                steps.done("wait")
                storing = asyncio.create_task(self._store_and_ack(entries, steps, stop))
        finally:
            stopping.cancel()
            if storing is not None:
                await storing

    async def _next(
        self, stopping: asyncio.Task[Literal[True]], storing: asyncio.Task[None] | None
    ) -> list[Message] | None:
        """The next batch's messages; None after a stop. Raises at once what storing the batch before raised."""
        taking = asyncio.create_task(self._fetch())
        awaited: set[asyncio.Task[Any]] = {taking, stopping} if storing is None else {taking, stopping, storing}
        try:
            while not taking.done():
                done, awaited = await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
                if storing in done:
                    storing.result()
                if stopping in done:
                    return None
            return taking.result()
        finally:
            taking.cancel()

    async def _fetch(self) -> list[Message]:
        with metrics.stage_seconds.labels(self._source, FlowStage.FETCH).time():
            messages = await self._fetcher.take(self._batch_rows, self._linger)
            if faults.ARMED:
                faults.reached(Point.FETCHED)
            return messages

    async def _parsed(self, messages: list[Message]) -> list[Entry]:
        """Parse in a thread, so that acknowledgements and health go on meanwhile."""

        def parse() -> list[Entry]:
            began = thread_time()
            entries = [Entry(message, self._parse(message.body, message.sequence)) for message in messages]
            metrics.parse_cpu_seconds.labels(self._source).inc(thread_time() - began)
            return entries

        with metrics.stage_seconds.labels(self._source, FlowStage.PARSE).time():
            entries = await asyncio.to_thread(parse)
        if faults.ARMED:
            faults.reached(Point.PARSED)
        fetched = sum(entry.parsed.events for entry in entries if entry.message.first_delivery)
        metrics.accepted.labels(self._source).inc(fetched)
        return entries

    async def _store_and_ack(self, entries: list[Entry], steps: Steps, stop: asyncio.Event) -> None:
        while entries:
            stored = await self._stored(entries, stop)
            if stored is None:
                return
            part, outcome = stored
            steps.done("store")
            if faults.ARMED:
                faults.reached(Point.COMMITTED)
            with metrics.stage_seconds.labels(self._source, FlowStage.ACK).time():
                await self._fetcher.ack(entry.message for entry in part)
            if faults.ARMED:
                faults.reached(Point.ACKED)
            steps.done("ack")
            count_stored(self._source, part, outcome)
            if tracing.spans:
                tell_requests(tracing.spans, self._source, part, steps)
            entries = entries[len(part) :]

    async def _stored(self, entries: list[Entry], stop: asyncio.Event) -> tuple[list[Entry], Outcome] | None:
        """Store the first entries, as many as one transaction may have. Try until it succeeds; None after a stop."""
        pauses = backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS)
        failed = 0
        while True:
            part = entries[: self._most_messages]
            started = perf_counter()
            try:
                outcome = await self._store.save(part)
            except Exception as error:
                # The connection may be in any state: a new one is cheap beside an error.
                await self._store.close()
                seconds = self._judged(error, next(pauses))
                if isinstance(error, TooSlow):
                    self._most_messages = max(1, len(part) // 2)
            else:
                metrics.stage_seconds.labels(self._source, FlowStage.STORE).observe(perf_counter() - started)
                self._works()
                if failed >= GIVE_BACK_AFTER:
                    await self._fetcher.go_on()
                return part, outcome
            if stop.is_set():
                return None
            failed += 1
            if failed >= GIVE_BACK_AFTER:  # again after each one: something may have been on its way when pulls ended
                await self._fetcher.give_back()
            await until(stop, seconds)

    def _works(self) -> None:
        """A transaction has committed: the source is not stopped, and the next transaction may be a little larger."""
        self._most_messages = min(self._most_messages + max(1, self._most_messages // 8), self._batch_rows)
        self._readiness.set_ready("postgres")
        self._readiness.set_ready("collecting")
        metrics.stopped.labels(self._source).set(0)

    def _judged(self, error: Exception, pause_seconds: float) -> float:
        """Log and count an error of storing; the seconds until the next try."""
        reason = classify(error)
        if reason is ErrorClass.POISON:  # of no row: isolation found none
            reason = ErrorClass.FATAL
        metrics.retries.labels(self._source, reason.value).inc()
        if reason is not ErrorClass.FATAL:
            self._readiness.set_not_ready("postgres", repr(error))
            log.warning(
                "storing again",
                reason=reason.value, error=repr(error), pause_seconds=pause_seconds, **unknown_trace(error),
            )  # fmt: skip
            return pause_seconds
        self._readiness.set_not_ready("collecting", repr(error))
        metrics.stopped.labels(self._source).set(1)
        log.critical(
            "stopped: nothing is confirmed until a try succeeds", error=repr(error), again_seconds=self._stopped_pause
        )
        return self._stopped_pause
