"""Publishing to a real JetStream: group commit, sealing, retries, and what is done only after a PubAck."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from core import jetstream
from core.errors import RetryableError, StreamFull, StreamUnreachable
from core.events import wire
from core.events.wire import SEAL_BYTES
from gateway import batching, metrics
from gateway import publish as publishing
from gateway.batch import Block
from gateway.batching import MAX_UNACKED, SEAL_PARTS
from gateway.correlation import Origin, origin
from gateway.publish import Publisher
from gateway.rejection import NotServing, UnexpectedDuplicate
from gateway.settings import GatewaySettings
from tests.support.garbage import errors_left_behind
from tests.support.processes import stopped
from tests.support.stack import FreshNats
from tests.support.waiting import eventually, in_time

SOURCE = "facebook"
STREAM = "EVENTS_FACEBOOK"


@dataclass
class Bench:
    """A publisher on a NATS of its own, and the stream that it publishes to."""

    nats: FreshNats
    client: Client
    publisher: Publisher

    async def publish(self, *contents: bytes, came: Origin | None = None, seconds: float = 10.0) -> None:
        """Publish a request of one event a block."""
        blocks = [Block(1, content) for content in contents]
        await self.publisher.publish(came or origin({}), {SOURCE: blocks}, seconds)

    async def stored(self) -> list[tuple[list[wire.Part], list[bytes]]]:
        """Parts and lines of each stored message."""
        return [wire.decode(message.data) for message in await self.messages()]

    async def messages(self) -> list[Any]:
        js: JetStreamContext = self.client.jetstream()
        state = (await js.stream_info(STREAM)).state
        return [await js.get_msg(STREAM, seq=number) for number in range(state.first_seq, state.last_seq + 1)]

    async def stand_still(self) -> None:
        """NATS does nothing more, until `go_on`."""
        pid = self.nats.supervisor.kill("nats", signal.SIGSTOP)
        await stopped(pid)

    def resume_at(self) -> None:
        self.nats.supervisor.kill("nats", signal.SIGCONT)


@pytest.fixture
async def bench(fresh_nats: FreshNats) -> AsyncIterator[Bench]:
    """A publisher that serves, on streams of 4 MiB."""
    client = await jetstream.connect(fresh_nats.url, name="tests")
    settings = GatewaySettings(stream_max_bytes=4 << 20, rejected_stream_max_bytes=4 << 20)
    await jetstream.ensure_streams(client, settings)
    publisher = Publisher()
    await publisher.use_connection(client)
    yield Bench(fresh_nats, client, publisher)
    await client.close()


async def test_a_request_is_done_when_it_is_stored(bench: Bench) -> None:
    """When publish returns, the stream holds the events as they were given, with count, id, correlation and trace."""
    came = origin({"x-correlation-id": "c-1", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
    await bench.publisher.publish(came, {SOURCE: [Block(2, b'{"a":1}\n{"b":2}'), Block(1, b'{"c":3}')]}, 10)
    (message,) = await bench.messages()
    assert wire.decode(message.data) == (
        [wire.Part("c-1", came.traceparent, came.received_at, 3)],
        [b'{"a":1}', b'{"b":2}', b'{"c":3}'],
    )
    assert message.headers["Sluice-Events"] == "3"
    assert len(message.headers["Nats-Msg-Id"]) == 32


async def test_requests_that_come_together_share_a_message(bench: Bench) -> None:
    """Requests of one run of the event loop travel in one message, a part each, in the order in which they came."""
    cames = [origin({"x-correlation-id": f"c-{number}"}) for number in range(20)]
    await asyncio.gather(*(bench.publish(str(number).encode(), came=came) for number, came in enumerate(cames)))
    ((parts, lines),) = await bench.stored()
    assert [part.correlation_id for part in parts] == [came.correlation_id for came in cames]
    assert lines == [str(number).encode() for number in range(20)]


async def test_an_idle_publisher_does_not_wait(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing unacknowledged a request is published at once, however long others would linger."""
    monkeypatch.setattr(batching, "QUIET_SECONDS", 3600)
    for number in range(3):
        await in_time(bench.publish(b"%d" % number))
    assert len(await bench.stored()) == 3


async def test_what_comes_behind_shares_the_next_message(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a message is on its way later requests gather, and go when its PubAck comes; they do not wait for more."""
    monkeypatch.setattr(batching, "QUIET_SECONDS", 3600)
    await bench.stand_still()
    first = asyncio.create_task(bench.publish(b"first"))
    await asyncio.sleep(0)  # the next run of the loop sends it
    await asyncio.sleep(0)
    others = [asyncio.create_task(bench.publish(b"%d" % number)) for number in range(5)]
    bench.resume_at()
    await asyncio.gather(first, *others)
    assert [lines for _, lines in await bench.stored()] == [[b"first"], [b"0", b"1", b"2", b"3", b"4"]]


async def test_a_busy_lane_waits_for_more(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a message that served several requests the next one lingers, so that fewer messages serve them all."""
    monkeypatch.setattr(batching, "BUSY_SECONDS", 1)
    await asyncio.gather(*(bench.publish(b"%d" % number) for number in range(batching.BUSY_REQUESTS)))
    first = asyncio.create_task(bench.publish(b"first"))
    for _ in range(10):  # runs of the loop: in a quiet lane it would have been sent
        await asyncio.sleep(0)
    await asyncio.gather(first, bench.publish(b"second"))
    assert [lines for _, lines in await bench.stored()][1:] == [[b"first", b"second"]]


async def test_a_message_is_sealed_at_its_limits(bench: Bench) -> None:
    """No message holds more than 512 KiB of blocks or 500 requests, and the order of blocks goes on over messages."""
    blocks = [b"%06d" % number + b"x" * 99_994 for number in range(30)]
    await bench.publish(*blocks)
    assert [line for _, lines in await bench.stored() for line in lines] == blocks
    assert {len(lines) for _, lines in await bench.stored()} == {SEAL_BYTES // 100_001}
    await bench.client.jetstream().purge_stream(STREAM)
    await asyncio.gather(*(bench.publish(b"%d" % number) for number in range(SEAL_PARTS + 1)))
    assert [len(parts) for parts, _ in await bench.stored()] == [SEAL_PARTS, 1]


async def test_every_message_has_an_id_of_its_own(bench: Bench) -> None:
    """The same bytes under the same correlation ID, sent twice, are two messages: nothing is taken for a copy."""
    came = origin({"x-correlation-id": "c-1"})
    for _ in range(2):
        await bench.publish(b"{}", came=came)
    assert len({message.headers["Nats-Msg-Id"] for message in await bench.messages()}) == 2


async def test_a_full_stream_rejects_at_once(bench: Bench) -> None:
    """A stream at its limit fails the request without a retry, however long its patience is; what it took before stays
    stored."""
    with pytest.raises(StreamFull):
        await bench.publish(*[b"x" * 200_000] * 30)
    kept = len(await bench.stored())
    assert kept >= 1
    retried = metrics.publish_retries._value.get()
    with pytest.raises(StreamFull):
        await in_time(bench.publish(b"x" * 500_000, seconds=3600))
    assert metrics.publish_retries._value.get() == retried
    assert len(await bench.stored()) == kept


def _answers(ask: Callable[[], bool]) -> Callable[[], Awaitable[bool]]:
    async def requested() -> bool:
        return ask()

    return requested


async def test_a_lost_puback_is_requested_for_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers late gets the same message several times: it is stored once, and the request is done."""
    monkeypatch.setattr(publishing, "ATTEMPT_TIMEOUT_SECONDS", 0.1)
    await bench.stand_still()
    tried = metrics.publish_retries._value.get()
    request = asyncio.create_task(bench.publish(b"{}", seconds=3600))
    await eventually(
        _answers(lambda: metrics.publish_retries._value.get() >= tried + 3),
        what="several attempts go into a server that stands still",
    )
    assert not request.done()
    bench.resume_at()
    await request
    assert [lines for _, lines in await bench.stored()] == [[b"{}"]]


async def test_an_outage_shorter_than_the_patience_costs_nothing(bench: Bench) -> None:
    """NATS is killed and comes back: requests that came before, meanwhile and after are all stored, once."""
    before = [asyncio.create_task(bench.publish(b"before %d" % number)) for number in range(10)]
    await asyncio.sleep(0)
    pid = bench.nats.supervisor.kill("nats")
    meanwhile = [asyncio.create_task(bench.publish(b"meanwhile %d" % number)) for number in range(10)]
    await bench.nats.supervisor.wait_ready("nats", after=pid)
    await asyncio.gather(*before, *meanwhile, bench.publish(b"after"))
    lines = [line for _, lines in await bench.stored() for line in lines]
    assert sorted(lines) == sorted(
        [b"before %d" % number for number in range(10)]
        + [b"meanwhile %d" % number for number in range(10)]
        + [b"after"]
    )


async def test_patience_ends(bench: Bench) -> None:
    """Without a PubAck a request fails when its time is over, and its waiting blocks are not sent any more."""
    await bench.stand_still()
    blocks = [b"%06d" % number + b"x" * 400_000 for number in range(3 * MAX_UNACKED)]
    began = time.monotonic()
    with pytest.raises(StreamUnreachable):
        await in_time(bench.publish(*blocks, seconds=0.5))
    assert time.monotonic() - began >= 0.5
    bench.resume_at()
    await bench.publish(b"small", seconds=30)
    lines = [line for _, lines in await bench.stored() for line in lines]
    assert lines[-1] == b"small"
    assert len(lines) <= MAX_UNACKED + 1


async def test_a_missing_stream_is_noticed_and_waited_for(bench: Bench) -> None:
    """Where no one answers for a subject the publisher says so, and goes on when the stream is there again."""
    js = bench.client.jetstream()
    config = (await js.stream_info(STREAM)).config
    await js.delete_stream(STREAM)
    request = asyncio.create_task(bench.publish(b"{}"))
    await eventually(_answers(lambda: bench.publisher.stream_missing), what="the stream is noticed to be missing")
    assert not request.done()
    await js.add_stream(config)
    await request
    assert len(await bench.stored()) == 1


async def test_a_duplicate_at_the_first_attempt_is_an_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """If JetStream knows an id that was never sent, other bytes are stored under it: the request must not be done."""
    monkeypatch.setattr(batching, "new_id", lambda: "the same each time")
    await bench.publish(b"one")
    with pytest.raises(UnexpectedDuplicate):
        await bench.publish(b"two")
    assert [lines for _, lines in await bench.stored()] == [[b"one"]]


async def test_requests_wait_for_the_first_link(bench: Bench) -> None:
    """A request that comes before JetStream was reached waits for it, and is rejected when its time is over."""
    publisher = Publisher()
    with pytest.raises(NotServing):
        await publisher.publish(origin({}), {SOURCE: [Block(1, b"{}")]}, 0.05)
    request = asyncio.create_task(publisher.publish(origin({}), {SOURCE: [Block(1, b"{}")]}, 10))
    await asyncio.sleep(0)
    assert not request.done()
    await publisher.use_connection(bench.client)
    await request
    assert len(await bench.stored()) == 1


async def _reported(work: Awaitable[None]) -> type[RetryableError] | None:
    """What a request is reported. The error itself is let go of, as the gateway does."""
    try:
        await work
    except RetryableError as error:
        return type(error)
    return None


@pytest.mark.parametrize("failure", ["full", "missing", "silent", "unexpected duplicate", "no link"])
async def test_a_failure_leaves_nothing_behind(bench: Bench, monkeypatch: pytest.MonkeyPatch, failure: str) -> None:
    """No failed request or message stays in memory until the cyclic collector comes: that is rare here."""
    errors: list[type[RetryableError] | None] = []
    before = asyncio.all_tasks()
    with errors_left_behind() as left:
        match failure:
            case "full":
                errors += [await _reported(bench.publish(*[b"x" * 200_000] * 30))]
            case "missing":
                await bench.client.jetstream().delete_stream(STREAM)
                errors += [await _reported(bench.publish(b"x" * 200_000, seconds=0.5))]
            case "silent":
                monkeypatch.setattr(publishing, "ATTEMPT_TIMEOUT_SECONDS", 0.1)
                await bench.stand_still()
                errors += await asyncio.gather(
                    *(_reported(bench.publish(b"x" * 200_000, seconds=0.5)) for _ in range(9))
                )
                bench.resume_at()
                await bench.publish(b"x")
            case "unexpected duplicate":
                monkeypatch.setattr(batching, "new_id", lambda: "the same each time")
                errors += [await _reported(bench.publish(b"one")), await _reported(bench.publish(b"two"))]
            case "no link":
                blocks = {SOURCE: [Block(1, b"x" * 200_000)]}
                errors += [await _reported(Publisher().publish(origin({}), blocks, 0.05))]
        await eventually(_answers(lambda: asyncio.all_tasks() <= before), what="nothing is on its way")
    assert any(errors)
    assert left == []
