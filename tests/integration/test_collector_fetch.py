"""Fetching alone, on a real NATS: what is held, and what is given back."""

from __future__ import annotations

from collections import deque
from datetime import timedelta

import pytest
from nats.aio.client import Client

from collector import fetch
from collector.message import Message
from collector.pull import Pull
from core.events.subjects import consumer_of, stream_of
from tests.support.collecting import fetcher_of, publish_all, waiting
from tests.support.events import NOON, facebook, message
from tests.support.waiting import eventually, in_time


async def test_what_was_given_back_may_still_be_confirmed(client: Client) -> None:
    """What is given back comes again at once when it is asked for, except what was confirmed after all; until then
    nothing comes."""
    await publish_all(client, "facebook", [message(*(facebook() for _ in range(3))) for _ in range(4)])
    fetcher = fetcher_of(client)
    await fetcher.start()
    first = await fetcher.fetch(3, 0.3)
    await fetcher.release()
    assert fetcher._buffer == deque()
    await fetcher.ack(first)

    async def confirmed() -> bool:
        return await waiting(client) == 3

    await eventually(confirmed, what="the first message is gone")
    for _ in range(2):  # twice is fine
        await fetcher.resume()
    again = [one for _ in range(3) for one in await in_time(fetcher.fetch(3, 0))]
    assert {one.sequence for one in again} == {1, 2, 3, 4} - {one.sequence for one in first}
    assert not any(one.first_delivery for one in again)
    await fetcher.stop()


async def test_what_waits_is_bounded(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing is taken, a collector holds no more than its pulls allow, however much the stream holds."""
    monkeypatch.setattr(Pull, "MAX_BYTES", 64 * 1024)
    monkeypatch.setattr(fetch, "CHECK_SECONDS", 0.01)
    body = message(*(facebook(at=NOON + timedelta(seconds=second)) for second in range(20)))
    await publish_all(client, "facebook", [body] * 200)
    fetcher = fetcher_of(client, ack_wait_seconds=1.0)
    await fetcher.start()
    first = await fetcher.fetch(1, 0)
    await fetcher.fetch(1, 0)
    report, heard = fetcher._respond, list[Message]()

    async def noted(message: Message, what: bytes) -> None:
        heard.append(message)
        await report(message, what)

    monkeypatch.setattr(fetcher, "_respond", noted)

    async def all_is_here() -> bool:
        info = await client.jetstream().consumer_info(stream_of("facebook"), consumer_of("facebook"))
        return not info.num_waiting and info.num_ack_pending == len(fetcher._unacked)

    async def all_was_here_for_many_looks() -> bool:
        heard.clear()
        before = len(fetcher._buffer)
        await eventually(heard_twice, what="JetStream hears again that we are at it", every=0.001)
        return await all_is_here() and len(fetcher._buffer) == before

    async def heard_twice() -> bool:  # a third of a second lies between, with some fifteen looks for more
        return heard.count(first[0]) == 2

    await eventually(all_was_here_for_many_looks, what="no more messages come")
    held = sum(len(message.body) for message in fetcher._buffer)
    assert len(first) == 1
    assert 64 * 1024 <= held <= 4 * 64 * 1024
    await fetcher.stop()
