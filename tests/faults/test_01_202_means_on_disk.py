"""Promise 1: 202 means on disk. JetStream has synced a message before it confirms it, and the gateway answers after."""

import asyncio
import json
from pathlib import Path

from core.events.subjects import stream_of
from core.sources import SOURCES
from ops.local import ready
from tests.support.events import facebook, tiktok
from tests.support.faulty import FaultySystem, rounds
from tests.support.gateway import start_gateway
from tests.support.stack import start_nats
from tests.support.tally import Tally
from tests.support.trace import traced

REQUESTS = 60


async def confirmed_too_early(tmp_path: Path, *, sync_always: bool) -> list[str]:
    """The messages of many requests, side by side, that a traced NATS confirmed before they were on disk."""
    async with start_nats(tmp_path, sync_always=sync_always) as nats, start_gateway(nats) as gateway:
        async with traced(nats.supervisor.pid("nats"), tmp_path / "trace") as trace:
            answers = await asyncio.gather(
                *(gateway.post([facebook(), *(tiktok() for _ in range(5))]) for _ in range(REQUESTS))
            )
        assert {answer.status_code for answer in answers} == {202}
        published = {
            (stream_of(source), message.sequence) for source in SOURCES for message in await gateway.published(source)
        }
        assert len(published) > 1
        assert {tuple(message) for message in trace.confirmed()} == published, "the trace shows a PubAck for each"
        return trace.confirmed_too_early()


async def test_each_message_is_written_synced_and_confirmed_in_this_order(tmp_path: Path) -> None:
    """A trace of NATS as we run it: write, fsync, PubAck, for every message."""
    assert await confirmed_too_early(tmp_path, sync_always=True) == []


async def test_the_trace_reports_a_nats_that_does_not_sync(tmp_path: Path) -> None:
    """The same check under NATS's own default of a sync every two minutes: it fails for every message."""
    early = await confirmed_too_early(tmp_path, sync_always=False)
    assert early
    assert all("not synced" in complaint for complaint in early)


async def test_streams_are_kept_on_disk(system: FaultySystem) -> None:
    """Every stream is a file, synced always, a work queue that rejects what it has no room for."""
    _, body = await ready.get(system.servers.nats.monitor_port, "/jsz?streams=true&config=true")
    reported = json.loads(body)
    assert reported["config"]["sync_always"] is True
    (account,) = reported["account_details"]
    streams = {stream["name"]: stream["config"] for stream in account["stream_detail"]}
    assert streams.pop("KV_SLUICE")["storage"] == "file"  # the newest timeline of the database, no events
    assert set(streams) == {"EVENTS_FACEBOOK", "EVENTS_TIKTOK", "REJECTED"}
    for config in streams.values():
        kept = {key: config[key] for key in ("storage", "retention", "discard")}
        assert kept == {"storage": "file", "retention": "workqueue", "discard": "new"}
        assert config["num_replicas"] == 1
        assert not config.get("no_ack")


async def test_nats_is_killed_right_after_an_answer(system: FaultySystem, tally: Tally) -> None:
    """kill -9 of NATS the moment that one of many requests is answered 202, while no collector is there: whatever was
    answered is stored when they are back."""
    collectors = ("fb-collector", "ttk-collector")
    for name in collectors:
        await system.supervisor.stop(name)
    for _ in range(rounds(2, 30)):
        posts = [asyncio.create_task(system.post([facebook(), tiktok()])) for _ in range(12)]
        await asyncio.wait(posts, return_when=asyncio.FIRST_COMPLETED)
        killed = system.supervisor.kill("nats")
        tally.count(kills=1)
        assert {answer.status_code for answer in await asyncio.gather(*posts)} <= {202, 503}
        await system.supervisor.wait_ready("nats", after=killed)
    for name in collectors:
        await system.supervisor.start_again(name)
