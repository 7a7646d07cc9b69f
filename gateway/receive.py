"""The way of one request: receive -> decode -> publish -> answer.

    body --receive--> plain bytes --decode--> blocks of valid events --publish--> on disk --answer--> 202
      \\--no room: 503                \\--refused events --> REFUSED       \\--no PubAck: 503
       \\--none at all: body --> REFUSED, 4xx
        \\--of a sender that may not: 4xx

Invariant: 202 is answered only when every message that holds an event of this request has its PubAck, and nothing is
published before everything of the request was validated. It knows no web server: headers and body in, answer out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import structlog

from core import faults, tracing
from core.access import Sampler
from core.errors import StreamFull, TryAgain
from core.events.contract import Contract
from core.events.refused import encode, refused_body
from core.events.subjects import Source
from core.settings import GatewaySettings
from gateway import answer, metrics, native
from gateway.admission import Admission, Hold
from gateway.answer import Answer
from gateway.batch import RECORD_BYTES, Batch, Block
from gateway.body import Form, announced_bytes, form_of, plain, raw
from gateway.correlation import Origin, origin
from gateway.decode import SMALLEST_EVENT_BYTES, Decode
from gateway.metrics import Stages
from gateway.publish import Publisher
from gateway.refusal import KEPT_BODIES, NotServing, Refusal, Refused
from gateway.signature import Signatures

# Refused events are worth waiting for, but not as long as accepted ones.
KEEP_SECONDS: Final = 5.0
HASH_INLINE_BYTES: Final = 1024 * 1024  # some 1 ms; a thread hashes more

log = structlog.get_logger()


class Door:
    """Takes the requests of one worker."""

    def __init__(self, settings: GatewaySettings, publisher: Publisher) -> None:
        self._most_bytes = settings.gateway_max_body_bytes
        self._publish_seconds = settings.gateway_publish_seconds
        self._publisher = publisher
        self.admission = Admission(settings.gateway_max_in_flight_bytes // settings.gateway_workers)
        contract = Contract(
            max_age_days=settings.max_event_age_days, max_ahead_seconds=settings.max_event_ahead_seconds
        )
        reader = native.reader(contract)
        most_events = max(1, self._most_bytes // SMALLEST_EVENT_BYTES)
        self._decode = Decode(contract, most_events=most_events, reader=reader)
        self.reader: Final = "native" if reader else "python"
        """What reads arrays of events."""
        metrics.reader_in_use.labels(self.reader).set(1)
        self._sampler = Sampler()
        self._log = log.bind()  # made once: the module's own looks its settings up with each line
        self._signatures = Signatures(settings)
        self.draining = False
        """Set to refuse everything that comes from now on."""

    async def receive(self, headers: Mapping[str, str], body: bytes | str) -> Answer:
        """Take one request to POST /events. `headers` has lower-case names. Never raises.

        The caller should not hold `body` any longer: each copy of 21 MB counts.
        """
        came = origin(headers)
        span = tracing.spans.begin("POST /events", came.traceparent, "SERVER") if tracing.spans else None
        stages = Stages()
        said: dict[str, object] = {"bytes": len(body)}
        try:
            announced = self._announced(headers)
            with self.admission.hold(max(announced or 0, len(body))) as hold:
                form = form_of(headers.get("content-type"))
                content = raw(body, announced, self._most_bytes)
                del body
                allowed = await self._signatures.check(headers, content)
                reading = self._read(came, headers, content, hold, form=form, stages=stages)
                del content
                batch = await reading
                self._signatures.only(allowed, batch.sources)
                stages.done(Stages.DECODE)
                if faults.ARMED:
                    faults.reached("gateway.decoded")

                if span is None:
                    await self._publish(came, batch)
                else:
                    with span.child("publish", "PRODUCER") as publishing:
                        await self._publish(came._replace(traceparent=publishing.traceparent), batch)
                stages.done(Stages.PUBLISH)
                if faults.ARMED:
                    faults.reached("gateway.acked")
            answered = answer.batch(batch, came.correlation_id)
            if span is not None:
                span.note({"sluice.accepted": batch.accepted_events, "sluice.refused": batch.refused_events})
            said |= {"accepted": batch.accepted_events, "refused": batch.refused_events}
        except Refused as error:
            said |= {"refusal": error.refusal.value}
            answered = self._refused(error, came.correlation_id)
        except TryAgain as error:
            said |= {"error": repr(error)}
            answered = answer.try_again(error, came.correlation_id)
        except Exception:
            log.exception("request failed", correlation_id=came.correlation_id)
            answered = answer.failed(came.correlation_id)
        self._finish(came, answered.status, stages, said)
        if span is not None:
            span.note({"http.response.status_code": answered.status, "sluice.correlation_id": came.correlation_id})
            span.end(failed=answered.status >= 500)
        return answered

    def _finish(self, came: Origin, status: int, stages: Stages, said: Mapping[str, object]) -> None:
        """Count, time and log a request that is answered: always where it failed, else a sample."""
        metrics.requests[status].inc()
        stages.done(Stages.ANSWER)
        if sampled := 1 if status >= 400 else self._sampler.take():
            self._log.info(
                "request",
                correlation_id=came.correlation_id,
                status=status,
                **said,
                milliseconds=stages.milliseconds,
                sampled=sampled,
            )

    @property
    def answers_challenges(self) -> bool:
        """Whether a verify token is set, so that Meta may ask."""
        return self._signatures.answers_challenges

    def challenge(self, headers: Mapping[str, str], asked: Mapping[str, str]) -> Answer:
        """Answer Meta's question whether we know its verify token. `asked` holds the parameters of the query."""
        correlation_id = origin(headers).correlation_id
        names = ("hub.mode", "hub.verify_token", "hub.challenge")
        try:
            return answer.challenge(self._signatures.challenge(*map(asked.get, names)), correlation_id)
        except Refused as error:
            return self.refuse(error, correlation_id)

    def room(self, headers: Mapping[str, str]) -> Answer:
        """When a body that found no room may come again, for an edge that refused one itself."""
        return answer.room(self.admission.wait_seconds(), origin(headers).correlation_id)

    def measure(self) -> None:
        """Bring the metrics up to date, as Prometheus will read them."""
        self.admission.measure()
        metrics.flush()

    def refuse(self, error: Refused, correlation_id: str, **headers: str) -> Answer:
        """Refuse a request as a whole: count it, log it, say why."""
        answered = self._refused(error, correlation_id, **headers)
        log.info("request", correlation_id=correlation_id, status=answered.status, refusal=error.refusal.value)
        return answered

    def _refused(self, error: Refused, correlation_id: str, **headers: str) -> Answer:
        metrics.refusals[error.refusal].inc()
        return answer.refused(error, correlation_id, **headers)

    def _announced(self, headers: Mapping[str, str]) -> int | None:
        """How long a body says it is. Raises NotServing, and Refused for what is too large."""
        if self.draining:
            raise NotServing("this gateway is about to end")
        return announced_bytes(headers, self._most_bytes)

    async def _read(
        self, came: Origin, headers: Mapping[str, str], content: bytes, hold: Hold, *, form: Form, stages: Stages
    ) -> Batch:
        """Read the events of a body whose sender may send. Raises TryAgain, and Refused after it kept the body."""
        try:
            content = await plain(content, headers, hold, self._most_bytes)
            stages.done(Stages.RECEIVE)
            if faults.ARMED:
                faults.reached("gateway.read")
            return await self._decode(content, form, came.received, hold)
        except Refused as error:
            if error.refusal in KEPT_BODIES:
                await self._keep_body(came, content, error.refusal, error.detail, hold)
            raise

    async def _publish(self, came: Origin, batch: Batch) -> None:
        """Publish what was accepted, and keep what was refused beside it. Raises TryAgain.

        Counts the door's ledger: received = accepted + failed + unanswered.
        """
        metrics.received.inc(batch.events)
        if batch.reasons:
            for reason, events in batch.reasons.items():
                metrics.failed[reason].inc(events)
            log.info("events refused", correlation_id=came.correlation_id, refused=batch.reasons, events=batch.events)
        ledger = metrics.unanswered
        try:
            if not batch.reasons:
                await self._publisher.publish(came, batch.blocks, self._publish_seconds)
            elif not batch.blocks:
                await self._keep(came, batch)
            else:
                await asyncio.gather(
                    self._publisher.publish(came, batch.blocks, self._publish_seconds), self._keep(came, batch)
                )
            ledger = metrics.accepted
        finally:
            for source, events in batch.accepted.items():
                ledger[source].inc(events)

    async def _keep(self, came: Origin, batch: Batch) -> None:
        """Keep refused events in the stream REFUSED. Never raises: that must not fail those that were accepted."""
        if left_out := batch.refused_events - batch.kept_events:
            metrics.unkept["no_room" if batch.no_room else "too_many"].inc(left_out)
        await self._publish_refused(came, batch.kept, batch.kept_events)

    async def _keep_body(self, came: Origin, content: bytes, refusal: Refusal, detail: str, hold: Hold) -> None:
        """Keep a body that is refused whole, as far as refused events are kept, in the stream REFUSED. Never raises."""
        if len(content) > HASH_INLINE_BYTES:
            record = await asyncio.to_thread(refused_body, content, refusal.value, detail)
        else:
            record = refused_body(content, refusal.value, detail)
        line = encode(record)
        if hold.spare(len(line) + RECORD_BYTES):
            await self._publish_refused(came, {None: [Block(1, line)]}, 1)
        else:
            metrics.unkept["no_room"].inc()

    async def _publish_refused(self, came: Origin, blocks: Mapping[Source | None, list[Block]], records: int) -> None:
        """Publish what is kept of this request. Never raises."""
        try:
            await self._publisher.publish_refused(came, blocks, KEEP_SECONDS)
        except TryAgain as error:
            metrics.unkept["stream_full" if isinstance(error, StreamFull) else "unreachable"].inc(records)
            log.warning(
                "refused events not kept", correlation_id=came.correlation_id, events=records, error=repr(error)
            )
