"""Collect one source: fetch -> parse -> store -> ack.

Invariant: a message is acknowledged only after the transaction that holds its rows has committed.

    fetched --parse--> rows --write--> stored --ack--> done
       \\--cannot parse--> dead letter ----------ack--> done

The collector fetches and parses the next batch while it stores the current one. Under load, messages arrive while a
batch is stored, so batches are large. Under low load, a batch waits only for the linger time, so reports stay fresh.

After two failures in a row, the collector releases all its messages and pulls no more: another collector may reach the
database. The collector still retries its current batch, although its messages are released. The receipt of a message
lets only one collector store it. The collector pulls again after the batch is stored. Therefore messages do not
circulate between collectors while the database is down for all of them.

The class of the error (`core.pg_errors`) determines when the collector retries the batch:

    RETRY   every 0.05 to 2 s; after a time-out, each transaction stores half as many messages
    FATAL   every minute; the source is stopped and an alert fires, but no restart is needed
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
from collector.trace import record_request_spans
from core import faults, tracing
from core.backoff import backoff
from core.health import Readiness
from core.lifecycle import stopped_within
from core.pg_errors import ErrorClass, classify, unknown_trace
from core.steps import Steps

MIN_PAUSE_SECONDS: Final = 0.05
MAX_PAUSE_SECONDS: Final = 2.0
STOPPED_PAUSE_SECONDS: Final = 60.0  # between the attempts of a stopped source
RELEASE_AFTER_FAILURES: Final = 2  # the first attempt may fail on a lost connection; the second uses a new one
log = structlog.get_logger()


class Collector:
    """Moves the events of one source from its stream into its table."""

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
        self._linger_seconds = linger_seconds
        self._stopped_pause_seconds = stopped_pause_seconds
        self._max_messages = batch_rows  # per transaction; limits nothing until a time-out

    async def run(self, stop: asyncio.Event) -> None:
        """Collect until `stop` is set, then finish the current batch. Raises any error of `_store_and_ack`."""
        stopping = asyncio.create_task(stop.wait())
        storing: asyncio.Task[None] | None = None
        try:
            while (messages := await self._next_batch(stopping, storing)) is not None:
                steps = Steps()
                entries = await self._parse_messages(messages)
                steps.done("parse")
                if storing is not None:
                    await storing
                steps.done("wait")
                storing = asyncio.create_task(self._store_and_ack(entries, steps, stop))
        finally:
            stopping.cancel()
            if storing is not None:
                await storing

    async def _next_batch(
        self, stopping: asyncio.Task[Literal[True]], storing: asyncio.Task[None] | None
    ) -> list[Message] | None:
        """Return the next batch's messages, or None after a stop. Raises an error of `storing` at once."""
        fetching = asyncio.create_task(self._fetch())
        awaited: set[asyncio.Task[Any]] = {fetching, stopping} if storing is None else {fetching, stopping, storing}
        try:
            while not fetching.done():
                done, awaited = await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
                if storing in done:
                    storing.result()
                if stopping in done:
                    return None
            return fetching.result()
        finally:
            fetching.cancel()

    async def _fetch(self) -> list[Message]:
        with metrics.stage_seconds.labels(self._source, FlowStage.FETCH).time():
            messages = await self._fetcher.fetch(self._batch_rows, self._linger_seconds)
            if faults.ARMED:
                faults.reached(Point.FETCHED)
            return messages

    async def _parse_messages(self, messages: list[Message]) -> list[Entry]:
        """Parse in a thread, so that the event loop still serves acknowledgements and health checks."""

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
            stored = await self._store_with_retry(entries, stop)
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
                record_request_spans(tracing.spans, self._source, part, steps)
            entries = entries[len(part) :]

    async def _store_with_retry(self, entries: list[Entry], stop: asyncio.Event) -> tuple[list[Entry], Outcome] | None:
        """Store the first entries, at most `_max_messages`, and retry until that succeeds.

        Return the entries stored and the outcome, or None after a stop.
        """
        pauses = backoff(MIN_PAUSE_SECONDS, MAX_PAUSE_SECONDS)
        failures = 0
        while True:
            part = entries[: self._max_messages]
            started = perf_counter()
            try:
                outcome = await self._store.save(part)
            except Exception as error:
                # The connection may be in any state, so the next attempt opens a new one.
                await self._store.close()
                pause_seconds = self._handle_error(error, next(pauses))
                if isinstance(error, TooSlow):
                    self._max_messages = max(1, len(part) // 2)
            else:
                metrics.stage_seconds.labels(self._source, FlowStage.STORE).observe(perf_counter() - started)
                self._record_success()
                if failures >= RELEASE_AFTER_FAILURES:
                    await self._fetcher.resume()
                return part, outcome
            if stop.is_set():
                return None
            failures += 1
            if failures >= RELEASE_AFTER_FAILURES:  # repeated: messages may arrive after a release
                await self._fetcher.release()
            await stopped_within(stop, pause_seconds)

    def _record_success(self) -> None:
        """Record that a transaction committed: the source runs, and the next transaction may be one eighth larger."""
        self._max_messages = min(self._max_messages + max(1, self._max_messages // 8), self._batch_rows)
        self._readiness.set_ready("postgres")
        self._readiness.set_ready("collecting")
        metrics.stopped.labels(self._source).set(0)

    def _handle_error(self, error: Exception, pause_seconds: float) -> float:
        """Log and count an error from storing. Return the seconds until the next attempt."""
        reason = classify(error)
        if reason is ErrorClass.POISON:  # no row caused it: the isolator handles those errors
            reason = ErrorClass.FATAL
        metrics.retries.labels(self._source, reason.value).inc()
        if reason is not ErrorClass.FATAL:
            self._readiness.set_not_ready("postgres", repr(error))
            log.warning(
                "retrying batch",
                reason=reason.value, error=repr(error), pause_seconds=pause_seconds, **unknown_trace(error),
            )  # fmt: skip
            return pause_seconds
        self._readiness.set_not_ready("collecting", repr(error))
        metrics.stopped.labels(self._source).set(1)
        log.critical("source stopped", error=repr(error), pause_seconds=self._stopped_pause_seconds)
        return self._stopped_pause_seconds
