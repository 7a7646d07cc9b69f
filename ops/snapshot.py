"""Save JetStream's streams to files and restore them: `python -m ops.snapshot save|restore FOLDER`.

It speaks JetStream's own snapshot protocol, so it works while messages flow, and its files are the server's:

    save     SNAPSHOT request --> chunks, each answered --> an empty one: the end, or why the server gave up
    restore  RESTORE request with the configuration --> an inbox --> chunks, each confirmed --> an empty one --> stream

Invariant: a file under its final name is whole and on disk. Restoring never touches a stream that exists. Save
JetStream before PostgreSQL: what is stored in between has its receipt, and a restored message that has one is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import nats.errors
from nats.aio.client import Client

from core.errors import SluiceError
from core.events.subjects import COLLECTED, stream_of
from core.jetstream import stream_info
from core.postgres import Connection
from ops.cli.connection import connected, operator_settings, to_nats, where
from ops.cli.output import confirm
from sql import statements

STREAMS: Final = tuple(stream_of(collected) for collected in COLLECTED)
CHUNK_BYTES: Final = 128 * 1024
ANSWER_SECONDS: Final = 30.0
ENDED_WELL: Final = "204"
_SQL: Final = statements("ledger")


class SnapshotFailed(SluiceError):
    """JetStream would not give or take a stream."""


async def save(client: Client, stream: str, folder: Path) -> int:
    """Write <folder>/<stream>.snapshot and .json; the bytes written. Raises SnapshotFailed."""
    inbox = client.new_inbox()
    chunks = await client.subscribe(inbox)
    answer = await _ask(
        client, f"$JS.API.STREAM.SNAPSHOT.{stream}", {"deliver_subject": inbox, "chunk_size": CHUNK_BYTES}
    )
    written = 0
    try:
        with _whole(folder / f"{stream}.snapshot") as file:
            while (chunk := await chunks.next_msg(ANSWER_SECONDS)).data:
                written += file.write(chunk.data)
                if chunk.reply:  # the server sends a few ahead, and waits at most 5 s for this
                    await chunk.respond(b"")
            told = chunk.headers or {}  # none where all fitted into one chunk
            if (status := told.get("Status", ENDED_WELL)) != ENDED_WELL:
                raise SnapshotFailed(
                    f"{stream}: JetStream gave up after {written} bytes: {status} {told.get('Description', '')}"
                )
    except nats.errors.TimeoutError as error:
        raise SnapshotFailed(f"{stream}: the snapshot ended after {written} bytes") from error
    finally:
        await chunks.unsubscribe()
    with _whole(folder / f"{stream}.json") as file:
        file.write(json.dumps({"config": answer["config"], "state": answer["state"]}).encode())
    return written


@contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write that gets its name only when all of it is on disk."""
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)


async def restore(client: Client, connection: Connection, stream: str, folder: Path) -> int:
    """Make the stream anew from its files; the messages in it. Raises SnapshotFailed, also where it exists.

    A new life of the stream begins, with the numbers of the one before: the ledger judges those there, not here.
    """
    described = json.loads((folder / f"{stream}.json").read_text())
    answer = await _ask(client, f"$JS.API.STREAM.RESTORE.{stream}", described)
    with (folder / f"{stream}.snapshot").open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            await client.request(answer["deliver_subject"], chunk, timeout=ANSWER_SECONDS)
    await _ask(client, answer["deliver_subject"], None)
    info = await stream_info(client, stream)
    last = info.state.last_seq
    await connection.execute(_SQL["accept_loss"], stream, info.created, last, last)
    return info.state.messages


async def _ask(client: Client, subject: str, request: dict[str, Any] | None) -> dict[str, Any]:
    body = b"" if request is None else json.dumps(request).encode()
    try:
        answer: dict[str, Any] = json.loads((await client.request(subject, body, timeout=ANSWER_SECONDS)).data)
    except (nats.errors.Error, TimeoutError) as error:
        raise SnapshotFailed(f"{subject}: {error!r}") from error
    if "error" in answer:
        raise SnapshotFailed(f"{subject}: {answer['error']['description']}")
    return answer


async def _save(folder: Path) -> None:
    async with to_nats(operator_settings()) as client:
        for stream in STREAMS:
            print(f"{stream}: {await save(client, stream, folder):,} bytes saved")


async def _restore(folder: Path, *, yes: bool) -> None:
    settings = operator_settings()
    confirm(f"restore the streams of {folder} into NATS at {where(settings.nats_url)}", yes=yes)
    async with connected(settings) as (client, connection):
        for stream in STREAMS:
            print(f"{stream}: {await restore(client, connection, stream, folder):,} messages restored")


def main() -> None:
    """Parse the command line and run."""
    arguments = argparse.ArgumentParser(prog="python -m ops.snapshot", description="Save and restore all streams.")
    arguments.add_argument("action", choices=("save", "restore"))
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--yes", action="store_true", help="restore without a question")
    given = arguments.parse_args()
    given.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        asyncio.run(_save(given.folder) if given.action == "save" else _restore(given.folder, yes=given.yes))
    except SluiceError as error:
        sys.exit(f"sluice: {error}")


if __name__ == "__main__":
    main()
