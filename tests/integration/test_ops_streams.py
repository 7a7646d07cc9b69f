"""Streams that are not as declared: every setting of the server's counts, also those that nats-py does not know."""

from __future__ import annotations

import json
from typing import Any

import pytest
from nats.aio.client import Client

from core.errors import SluiceError
from core.jetstream import ensure_streams, stream_config
from ops import examine
from tests.support.operator import operator, ops, ops_json
from tests.support.stack import FreshNats

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
async def test_what_differs_is_told_and_mended(
    client: Client, fresh_nats: FreshNats, capsys: Capsys, settings: dict[str, Any], said: str
) -> None:
    """Services tell it at their start, doctor and `streams list` too; `streams apply` mends it, or says what does."""
    chosen = operator(fresh_nats.url, NO_DATABASE)
    await ops(chosen, capsys, "streams", "apply", "--yes")
    assert await ensure_streams(client, chosen) == {}
    await remade(client, **settings)
    ((stream, (drift,)),) = (await ensure_streams(client, chosen)).items()
    assert stream == STREAM
    assert drift.startswith(said)
    _, listed = await ops_json(chosen, capsys, "streams", "list")
    assert [one["drift"] for one in listed if one["drift"]] == [[drift]]
    checks, _ = await examine.of_nats(client, chosen)
    assert [check.found for check in checks if check.check == "streams"] == [f"{STREAM} {drift}"]
    try:
        await ops(chosen, capsys, "streams", "apply", "--yes")
    except SluiceError as error:
        assert settings.keys() <= {"persist_mode", "retention"}, error
        assert f"delete it (nats stream rm {STREAM}), and run this again" in str(error)
        await client.jetstream().delete_stream(STREAM)
        await ops(chosen, capsys, "streams", "apply", "--yes")
    assert await ensure_streams(client, chosen) == {}


async def test_what_is_free_is_no_drift(client: Client, fresh_nats: FreshNats, capsys: Capsys) -> None:
    """How a stream is described, placed or compressed is the operator's own, as is a default that is spelt out."""
    chosen = operator(fresh_nats.url, NO_DATABASE)
    await ops(chosen, capsys, "streams", "apply", "--yes")
    await remade(client, description="ours", metadata={"team": "ads"}, compression="s2", persist_mode="default")
    assert await ensure_streams(client, chosen) == {}
