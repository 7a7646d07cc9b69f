"""Streams that are not as declared: every setting of the server's counts, also those that nats-py does not know."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js.api import ConsumerInfo
from structlog.testing import capture_logs

from collector.maintenance.stranded import recover_stranded
from collector.sources import SOURCES
from core import jetstream
from core.errors import SluiceError
from core.events.subjects import consumer_of, stream_of
from core.health import Readiness
from core.jetstream import api_request, ensure_streams, stream_config
from core.lifecycle import cancel_and_wait
from core.postgres import Connection
from ops.cli import streams
from ops.cli.pause import consumer, pause
from ops.doctor import server_checks
from tests.support.collecting import balanced, collecting, drained, fetcher_of, publish
from tests.support.events import facebook, message
from tests.support.operator import operator, ops, ops_json
from tests.support.stack import Database, FreshNats
from tests.support.waiting import eventually

Capsys = pytest.CaptureFixture[str]
NO_DATABASE = "postgresql://o@127.0.0.1:1/sluice"
STREAM = "EVENTS_TIKTOK"


async def remade(client: Client, **settings: Any) -> None:
    """Make the stream anew with these settings beside its own, as somebody may with a tool of NATS's."""
    config = json.dumps(await stream_config(client, STREAM) | settings).encode()
    await client.jetstream().delete_stream(STREAM)
    answer = json.loads((await client.request(f"$JS.API.STREAM.CREATE.{STREAM}", config)).data)
    assert "error" not in answer, answer


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_msgs": 1000}, "max_msgs is 1000, declared -1"),  # requests are turned away while there is room
        ({"persist_mode": "async"}, "persist_mode is async, not declared"),  # confirmed before it is on disk
        ({"no_ack": True}, "no_ack is True, declared False"),
        ({"max_consumers": 1}, "max_consumers is 1, not declared"),
        ({"discard": "old"}, "discard is old, declared new"),
        ({"retention": "limits"}, "retention is limits, declared workqueue"),
        ({"subject_transform": {"src": ">", "dest": "x.>"}}, "subject_transform is {'src': '>', 'dest': 'x.>'}, not"),
    ],
)
async def test_what_differs_is_reported_and_fixed(
    client: Client, fresh_nats: FreshNats, capsys: Capsys, settings: dict[str, Any], said: str
) -> None:
    """Services report it at their start, doctor and `streams list` too; `streams apply` fixes it, or says what does."""
    operator_settings = operator(fresh_nats.url, NO_DATABASE)
    await ops(operator_settings, capsys, "streams", "apply", "--yes")
    assert await ensure_streams(client, operator_settings) == {}
    await remade(client, **settings)
    ((stream, (drift,)),) = (await ensure_streams(client, operator_settings)).items()
    assert stream == STREAM
    assert drift.startswith(said)
    _, listed = await ops_json(operator_settings, capsys, "streams", "list")
    assert [one["drift"] for one in listed if one["drift"]] == [[drift]]
    checks, _ = await server_checks.check_nats(client, operator_settings)
    assert [check.message for check in checks if check.check == "streams"] == [f"{STREAM} {drift}"]
    try:
        await ops(operator_settings, capsys, "streams", "apply", "--yes")
    except SluiceError as error:
        assert settings.keys() <= {"persist_mode", "retention"}, error
        assert f"delete the stream (nats stream rm {STREAM}), and run this command again" in str(error)
        await client.jetstream().delete_stream(STREAM)
        await ops(operator_settings, capsys, "streams", "apply", "--yes")
    assert await ensure_streams(client, operator_settings) == {}


async def test_what_is_free_is_no_drift(client: Client, fresh_nats: FreshNats, capsys: Capsys) -> None:
    """How a stream is described, placed or compressed is the operator's own, as is a default that is spelt out."""
    operator_settings = operator(fresh_nats.url, NO_DATABASE)
    await ops(operator_settings, capsys, "streams", "apply", "--yes")
    await remade(client, description="ours", metadata={"team": "ads"}, compression="s2", persist_mode="default")
    assert await ensure_streams(client, operator_settings) == {}


async def edited(client: Client, **settings: Any) -> None:
    """Edit facebook's consumer, as somebody may with a tool of NATS's."""
    name = f"{stream_of('facebook')}.{consumer_of('facebook')}"
    config = (await api_request(client, f"CONSUMER.INFO.{name}"))["config"] | settings
    await api_request(
        client, f"CONSUMER.DURABLE.CREATE.{name}", {"stream_name": stream_of("facebook"), "config": config}
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_deliver": 1}, "max_deliver is 1, declared -1"),
        ({"ack_wait": 1_000_000}, "ack_wait is 1000000, declared 10000000000"),
        ({"max_ack_pending": 1}, "max_ack_pending is 1, declared 80000"),
        ({"backoff": [1_000_000], "max_deliver": 2}, "ack_wait is 1000000, declared 10000000000"),
        ({"inactive_threshold": 3_600_000_000_000}, "inactive_threshold is 3600000000000, declared 0"),
        ({"headers_only": True}, "headers_only is True, not declared"),
        ({"filter_subject": "events.nothing"}, "filter_subject is events.nothing, not declared"),
        ({"num_replicas": 1}, "num_replicas is 1, not declared"),
    ],
)
async def test_a_consumer_that_differs_is_reported_and_repaired(
    client: Client, fresh_nats: FreshNats, capsys: Capsys, settings: dict[str, Any], said: str
) -> None:
    """A collector that starts logs it, doctor and `streams list` name it, `streams apply` repairs it and keeps a
    pause; what is the operator's own is no drift."""
    operator_settings = operator(fresh_nats.url, NO_DATABASE)
    await ops(operator_settings, capsys, "streams", "apply", "--yes")
    fetcher = fetcher_of(client)
    await fetcher.start()
    await fetcher.stop()
    await edited(client, description="ours", metadata={"team": "ads"})
    await pause(client, "facebook")
    assert not [one for one in await streams.read(client, operator_settings) if one.drift]
    await edited(client, **settings)
    (drifting,) = [one for one in await streams.read(client, operator_settings) if one.drift]
    assert drifting.drift[0] == f"consumer collector-facebook: {said}"
    (check,) = [
        check for check in (await server_checks.check_nats(client, operator_settings))[0] if check.check == "streams"
    ]
    assert f"EVENTS_FACEBOOK consumer collector-facebook: {said}" in check.message
    code, printed = await ops(operator_settings, capsys, "streams", "apply", "--yes")
    assert (code, "1 stream changed to match the declaration" in printed) == (0, True)
    assert not [one for one in await streams.read(client, operator_settings) if one.drift]
    assert (await consumer(client, "facebook")).paused
    await edited(client, **settings)
    with capture_logs() as lines:
        await fetcher.start()
        await fetcher.stop()
    (line,) = [line for line in lines if line["event"] == "consumer settings drift"]
    assert line["drift"][0] == said
    assert not [one for one in await streams.read(client, operator_settings) if one.drift]


async def test_what_a_consumer_dropped_is_delivered_again(
    client: Client, database: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that was delivered `max_deliver` times and not confirmed, be it the last one: it is stored, once."""
    monkeypatch.setattr("collector.maintenance.stranded.EVERY_SECONDS", 0.1)
    fetcher = fetcher_of(client, ack_wait_seconds=0.5)
    await fetcher.start()
    await fetcher.stop()
    await edited(client, max_deliver=1)
    await publish(client, "facebook", message(facebook()))
    subscription = await client.jetstream().pull_subscribe_bind(consumer_of("facebook"), stream_of("facebook"))
    await subscription.fetch(1, timeout=5)  # by a collector that is killed with the message in hand

    async def dropped() -> bool:
        info = await consumer(client, "facebook")
        return (info.num_pending, info.num_ack_pending) == (0, 0)

    await eventually(dropped, what="JetStream drops the message")
    async with collecting(database, client):
        freeing = asyncio.create_task(recover_stranded(client, SOURCES["facebook"], Readiness()))
        await drained(client, "facebook")
        await cancel_and_wait([freeing])
    assert await connection.fetchval("SELECT count(*) FROM facebook_events") == 1
    await balanced(connection, client)


async def test_a_collector_between_two_pulls_is_there(
    fresh_nats: FreshNats, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All pulls of an idle collector end at once, and it asks again: doctor looks again before it names none."""
    monkeypatch.setattr(server_checks, "CONSUMER_TRIES", 100_000)
    looks = 0

    async def counted(client: Client, collected: str) -> ConsumerInfo:
        nonlocal looks
        looks += 1
        return await consumer(client, collected)

    monkeypatch.setattr(server_checks, "consumer", counted)
    fetcher = fetcher_of(client)
    await fetcher.start()
    await fetcher.stop()
    looking = asyncio.create_task(server_checks.check_nats(client, operator(fresh_nats.url, NO_DATABASE)))

    async def missed() -> bool:
        return looks > 1

    await eventually(missed, what="doctor finds no collector that asks, and looks again")
    assert not looking.done()
    await fetcher.start()
    _, facts = await looking
    assert [source.no_collector for source in facts if source.name == "facebook"] == [""]
    await fetcher.stop()


async def test_a_stream_of_an_earlier_version_is_reported(fresh_nats: FreshNats) -> None:
    """Messages in a stream that no collector of this version fetches are reported, with their number."""
    settings = operator(fresh_nats.url, NO_DATABASE)
    client = await jetstream.connect(fresh_nats.url, name="tests")
    try:
        await ensure_streams(client, settings)
        await client.jetstream().add_stream(name="REFUSED", subjects=["refused.*"])
        await client.jetstream().publish("refused.facebook", b"an event of an earlier gateway")
        checks, _ = await server_checks.check_nats(client, settings)
        (undeclared,) = [check for check in checks if check.check == "undeclared streams"]
        assert (undeclared.state, undeclared.message) == (
            "wrong",
            "REFUSED holds 1 message that no collector of this version fetches",
        )
        await client.jetstream().delete_stream("REFUSED")
        checks, _ = await server_checks.check_nats(client, settings)
        assert [check.state for check in checks if check.check == "undeclared streams"] == ["ok"]
    finally:
        await client.close()
