"""Snapshots of streams: what is reported as saved is whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from nats.aio.client import Client

from ops.snapshot import SnapshotFailed, save
from tests.support.collecting import connected
from tests.support.stack import FreshNats


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def blocks(folder: Path) -> list[Path]:
    """The files of JetStream that hold the stream's messages."""
    return sorted(folder.glob("nats/jetstream/*/streams/REJECTED/msgs/*.blk"))


async def test_a_stream_of_any_size_is_saved(client: Client, tmp_path: Path) -> None:
    """JetStream ends what fits into one chunk without a word, and what takes several with one; both are whole."""
    folder = tmp_path / "backup"
    folder.mkdir()
    for length in (0, 10, 1_000_000):
        await client.jetstream().publish("rejected.unknown", os.urandom(length))
        assert await save(client, "REJECTED", folder) == (folder / "REJECTED.snapshot").stat().st_size > length
    assert files(folder).keys() == {"REJECTED.snapshot", "REJECTED.json"}


async def test_a_snapshot_that_breaks_off_is_not_reported_as_saved(fresh_nats: FreshNats, tmp_path: Path) -> None:
    """JetStream ends a snapshot that it gives up by an empty message, too: it is reported, and the one before stays."""
    folder = tmp_path / "backup"
    folder.mkdir()
    async with connected(fresh_nats) as client:
        for _ in range(12):
            await client.jetstream().publish("rejected.unknown", os.urandom(1_000_000))
        await save(client, "REJECTED", folder)
        saved = files(folder)
    # Started again it holds no block in memory, and finds in the middle of the snapshot that the last one is gone.
    await fresh_nats.supervisor.wait_ready("nats", after=fresh_nats.supervisor.kill("nats"))
    blocks(tmp_path)[-1].unlink()
    async with connected(fresh_nats) as client:
        with pytest.raises(SnapshotFailed, match=r"stopped after [0-9]{7} bytes: 500 .*message block data missing"):
            await save(client, "REJECTED", folder)
    assert saved.items() <= files(folder).items()
