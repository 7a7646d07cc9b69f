"""The way of one request: receive -> decode -> publish -> answer.

    body --receive--> plain bytes --decode--> blocks of valid events --publish--> on disk --answer--> 202
      \\--no room: 503                \\--rejected events --> REJECTED       \\--no PubAck: 503
       \\--none at all: body --> REJECTED, 4xx
        \\--of a sender that may not: 4xx

Invariant: 202 is answered only when every message that holds an event of this request has its PubAck, and nothing is
published before everything of the request was validated. It knows no web server: headers and body in, answer out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, Literal

import structlog

from core.events.contract import Contract
from gateway import metrics, native
from gateway.admission import Admission, Reservation
from gateway.answer import Answer
from gateway.batch import Batch
from gateway.body import Form, announced_bytes, form_of, plain, raw
from gateway.correlation import Origin
from gateway.decode import SMALLEST_EVENT_BYTES, Decoder
from gateway.keep import RejectedStore
from gateway.publish import Publisher
from gateway.rejection import KEPT_BODIES, NotServing, Rejected
from gateway.scope import DECODE, PUBLISH, RECEIVE, AccessLog, RequestScope
from gateway.settings import GatewaySettings
from gateway.signature import Signatures

log = structlog.get_logger()


class IngestHandler:
    """Takes the requests of one worker."""

    def __init__(
        self, settings: GatewaySettings, admission: Admission, signatures: Signatures, publisher: Publisher
    ) -> None:
        self._most_bytes = settings.gateway_max_body_bytes
        self._publish_seconds = settings.gateway_publish_timeout_seconds
        self._admission = admission
        self._signatures = signatures
        self._publisher = publisher
        self._rejected_store = RejectedStore(publisher)
        contract = Contract(
            max_age_days=settings.max_event_age_days, max_ahead_seconds=settings.max_event_ahead_seconds
        )
        reader = native.reader(contract)
        most_events = max(1, self._most_bytes // SMALLEST_EVENT_BYTES)
        self._decode = Decoder(contract, most_events=most_events, reader=reader)
        self.reader: Final[Literal["native", "python"]] = "native" if reader else "python"
        """What reads arrays of events."""
        metrics.reader_in_use.labels(self.reader).set(1)
        self._access_log = AccessLog()
        self.draining = False
        """Set to reject everything that comes from now on."""

    async def receive(self, headers: Mapping[str, str], body: bytes | str) -> Answer:
        """Take one request to POST /events. `headers` has lower-case names. Never raises.

        The caller should not hold `body` any longer: each copy of 21 MB counts.
        """
        with RequestScope(headers, len(body), self._access_log) as scope:
            announced = self._announced(headers)
            with self._admission.hold(max(announced or 0, len(body))) as hold:
                form = form_of(headers.get("content-type"))
                content = raw(body, announced, self._most_bytes)
                del body
                allowed = await self._signatures.check(headers, content)
                reading = self._read(scope, headers, content, form, hold)
                del content  # only `reading` holds it now
                batch = await reading
                self._signatures.only(allowed, batch.sources)
                scope.done(DECODE)
                await self._publish(scope.publishing(), batch)
                scope.done(PUBLISH)
            scope.answer(batch)
        return scope.answered

    def _announced(self, headers: Mapping[str, str]) -> int | None:
        """How long a body says it is. Raises NotServing, and Rejected for what is too large."""
        if self.draining:
            raise NotServing("this gateway is about to end")
        return announced_bytes(headers, self._most_bytes)

    async def _read(
        self, scope: RequestScope, headers: Mapping[str, str], content: bytes, form: Form, hold: Reservation
    ) -> Batch:
        """Read the events of a body whose sender may send. Raises RetryableError, and Rejected after it kept the
        body."""
        try:
            content = await plain(content, headers, hold, self._most_bytes)
            scope.done(RECEIVE)
            return await self._decode(content, form, scope.origin.received, hold)
        except Rejected as error:
            if error.rejection in KEPT_BODIES:
                await self._rejected_store.keep_body(scope.origin, content, error.rejection, error.detail, hold)
            raise

    async def _publish(self, origin: Origin, batch: Batch) -> None:
        """Publish what was accepted, and keep what was rejected beside it. Raises RetryableError.

        Counts the door's ledger: received = accepted + failed + unconfirmed.
        """
        metrics.received.inc(batch.events)
        if batch.reasons:
            for reason, events in batch.reasons.items():
                metrics.failed[reason].inc(events)
            log.info(
                "events rejected", correlation_id=origin.correlation_id, rejected=batch.reasons, events=batch.events
            )
        ledger = metrics.unconfirmed
        try:
            if not batch.reasons:
                await self._publisher.publish(origin, batch.blocks, self._publish_seconds)
            elif not batch.blocks:
                await self._rejected_store.keep_events(origin, batch)
            else:
                await asyncio.gather(
                    self._publisher.publish(origin, batch.blocks, self._publish_seconds),
                    self._rejected_store.keep_events(origin, batch),
                )
            ledger = metrics.accepted
        finally:
            for source, events in batch.accepted.items():
                ledger[source].inc(events)
