"""Handle one request: receive -> decode -> publish -> answer.

    body --receive--> plain bytes --decode--> blocks of valid events --publish--> on disk --answer--> 202
      \\--over the limit: 503         \\--rejected events --> REJECTED       \\--no PubAck: 503
       \\--invalid body --> REJECTED, 4xx
        \\--sender not authorized: 4xx

Invariant: 202 is sent only when every message that contains an event of this request has its PubAck. Nothing is
published before the whole request is validated. This module does not depend on the web server.
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
from gateway.body import BodyFormat, body_format_of, check_length, content_length, decompress
from gateway.correlation import Origin
from gateway.decode import SMALLEST_EVENT_BYTES, Decoder
from gateway.publish import Publisher
from gateway.rejected_store import RejectedStore
from gateway.rejection import KEPT_BODIES, NotServing, Rejected
from gateway.scope import DECODE, PUBLISH, RECEIVE, AccessLog, RequestScope
from gateway.settings import GatewaySettings
from gateway.signature import Signatures

log = structlog.get_logger()


class IngestHandler:
    """Handle the requests of one worker."""

    def __init__(
        self, settings: GatewaySettings, admission: Admission, signatures: Signatures, publisher: Publisher
    ) -> None:
        self._max_bytes = settings.gateway_max_body_bytes
        self._publish_seconds = settings.gateway_publish_timeout_seconds
        self._admission = admission
        self._signatures = signatures
        self._publisher = publisher
        self._rejected_store = RejectedStore(publisher)
        contract = Contract(
            max_age_days=settings.max_event_age_days, max_ahead_seconds=settings.max_event_ahead_seconds
        )
        reader = native.reader(contract)
        max_events = max(1, self._max_bytes // SMALLEST_EVENT_BYTES)
        self._decode = Decoder(contract, max_events=max_events, reader=reader)
        self.reader: Final[Literal["native", "python"]] = "native" if reader else "python"
        """The implementation that reads arrays of events."""
        metrics.reader_in_use.labels(self.reader).set(1)
        self._access_log = AccessLog()
        self.draining = False
        """Set to reject all new requests."""

    async def receive(self, headers: Mapping[str, str], body: bytes | str) -> Answer:
        """Handle one request to POST /events. `headers` has lower-case names. Never raises.

        The caller should drop its reference to `body`: each copy may be 64 MiB.
        """
        with RequestScope(headers, len(body), self._access_log) as scope:
            announced = self._announced(headers)
            with self._admission.reserve(max(announced or 0, len(body))) as reservation:
                body_format = body_format_of(headers.get("content-type"))
                content = check_length(body, announced, self._max_bytes)
                del body
                allowed = await self._signatures.check(headers, content)
                reading = self._read(scope, headers, content, body_format, reservation)
                del content  # only `reading` references it now
                batch = await reading
                self._signatures.check_sources(allowed, batch.sources)
                scope.done(DECODE)
                await self._publish(scope.publishing(), batch)
                scope.done(PUBLISH)
            scope.answer(batch)
        return scope.answered

    def _announced(self, headers: Mapping[str, str]) -> int | None:
        """Return the announced length. Raises NotServing if draining, and Rejected if it is over the limit."""
        if self.draining:
            raise NotServing("the gateway is stopping")
        return content_length(headers, self._max_bytes)

    async def _read(
        self,
        scope: RequestScope,
        headers: Mapping[str, str],
        content: bytes,
        body_format: BodyFormat,
        reservation: Reservation,
    ) -> Batch:
        """Decode the body of an authorized sender. Raises RetryableError; raises Rejected after storing the body in
        REJECTED."""
        try:
            content = await decompress(content, headers, reservation, self._max_bytes)
            scope.done(RECEIVE)
            return await self._decode(content, body_format, scope.origin.received, reservation)
        except Rejected as error:
            if error.rejection in KEPT_BODIES:
                await self._rejected_store.keep_body(scope.origin, content, error.rejection, error.detail, reservation)
            raise

    async def _publish(self, origin: Origin, batch: Batch) -> None:
        """Publish accepted events and keep rejected events. Raises RetryableError.

        Counts the gateway's ledger: received = accepted + failed + unconfirmed.
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
