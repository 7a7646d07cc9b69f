"""Handle one request: receive -> decode -> publish -> answer.

    body --receive--> plain bytes --decode--> blocks of valid events --publish--> on disk --answer--> 202
      \\--no memory left: 503         \\--rejected events --> REJECTED       \\--no PubAck: 503
       \\--invalid body --> REJECTED, 4xx
        \\--sender not authorized: 4xx

Invariant: the gateway answers 202 only after every message that contains an event of this request has its PubAck.
Nothing is published before the whole request is validated. This module does not depend on the web server.
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
        self._max_body_bytes = settings.gateway_max_body_bytes
        self._publish_timeout_seconds = settings.gateway_publish_timeout_seconds
        self._admission = admission
        self._signatures = signatures
        self._publisher = publisher
        self._rejected_store = RejectedStore(publisher)
        contract = Contract(
            max_age_days=settings.max_event_age_days, max_ahead_seconds=settings.max_event_ahead_seconds
        )
        reader = native.reader(contract)
        max_events = max(1, self._max_body_bytes // SMALLEST_EVENT_BYTES)
        self._decode = Decoder(contract, max_events=max_events, reader=reader)
        self.reader: Final[Literal["native", "python"]] = "native" if reader else "python"
        """The implementation that reads the events of a body: the native module if it is built, otherwise Python."""
        metrics.reader_in_use.labels(self.reader).set(1)
        self._access_log = AccessLog()
        self.draining = False
        """Whether all new requests are rejected with 503, because the gateway is stopping."""

    async def receive(self, headers: Mapping[str, str], body: bytes | str) -> Answer:
        """Return the answer to one request to POST /events. `headers` has lower-case names.

        Raises nothing except CancelledError. The caller should keep no reference to `body`, which may be 64 MiB:
        otherwise its memory is not freed before the answer.
        """
        with RequestScope(headers, len(body), self._access_log) as scope:
            self._check_serving()
            announced_bytes = content_length(headers, self._max_body_bytes)
            with self._admission.reserve(max(announced_bytes or 0, len(body))) as reservation:
                body_format = body_format_of(headers.get("content-type"))
                content = check_length(body, announced_bytes, self._max_body_bytes)
                del body
                allowed_sources = await self._signatures.check(headers, content)
                decoding = self._decompress_and_decode(scope, headers, content, body_format, reservation)
                del content  # from here on, only `decoding` references the body
                batch = await decoding
                self._signatures.check_sources(allowed_sources, batch.sources)
                scope.done(DECODE)
                await self._publish(scope.start_publish_span(), batch)
                scope.done(PUBLISH)
            scope.answer(batch)
        return scope.response

    def _check_serving(self) -> None:
        """Raise NotServing if the gateway is stopping."""
        if self.draining:
            raise NotServing("the gateway is stopping")

    async def _decompress_and_decode(
        self,
        scope: RequestScope,
        headers: Mapping[str, str],
        content: bytes,
        body_format: BodyFormat,
        reservation: Reservation,
    ) -> Batch:
        """Return the events of a body whose sender is authorized.

        Raises RetryableError and Rejected. If the rejection is one of KEPT_BODIES, the body is stored in REJECTED
        before the error is raised.
        """
        try:
            content = await decompress(content, headers, reservation, self._max_body_bytes)
            scope.done(RECEIVE)
            return await self._decode(content, body_format, scope.origin.received, reservation)
        except Rejected as error:
            if error.rejection in KEPT_BODIES:
                await self._rejected_store.keep_body(scope.origin, content, error.rejection, error.detail, reservation)
            raise

    async def _publish(self, origin: Origin, batch: Batch) -> None:
        """Publish accepted events and keep rejected events. Raises RetryableError.

        Counts each event in the metrics: received = accepted + failed (rejected) + unconfirmed (no PubAck).
        """
        metrics.received.inc(batch.events)
        if batch.reasons:
            for reason, events in batch.reasons.items():
                metrics.failed[reason].inc(events)
            log.info(
                "events rejected", correlation_id=origin.correlation_id, rejected=batch.reasons, events=batch.events
            )
        counters = metrics.unconfirmed  # until all PubAcks have arrived
        try:
            if not batch.reasons:
                await self._publisher.publish(origin, batch.blocks, self._publish_timeout_seconds)
            elif not batch.blocks:
                await self._rejected_store.keep_events(origin, batch)
            else:
                await asyncio.gather(
                    self._publisher.publish(origin, batch.blocks, self._publish_timeout_seconds),
                    self._rejected_store.keep_events(origin, batch),
                )
            counters = metrics.accepted
        finally:
            for source, events in batch.accepted.items():
                counters[source].inc(events)
