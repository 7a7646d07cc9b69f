"""Save the streams of JetStream to files and restore them: `sluice snapshot save|restore FOLDER`.

The protocol is JetStream's own snapshot protocol, so messages may flow during a save:

    save     SNAPSHOT request -> chunks, each confirmed by us -> an empty chunk, or the error of the server
    restore  RESTORE request with the configuration -> inbox -> chunks, each confirmed -> an empty chunk -> stream

Invariants: a file with its final name is complete and synced to disk. A restore never changes an existing stream.
Save JetStream before PostgreSQL. A message that is stored between the two has a receipt, and collectors skip a restored
message that has one.
"""

from __future__ import annotations

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
from ops.cli.arguments import folder, is_json, yes
from ops.cli.connection import connected, to_nats, where
from ops.cli.documents import SnapshotDone, SnapshotRow
from ops.cli.output import confirm, print_json, print_text
from ops.cli.parser import command
from ops.settings import OperatorSettings
from sql import statements

STREAMS: Final = tuple(stream_of(collected) for collected in COLLECTED)
CHUNK_BYTES: Final = 128 * 1024
ANSWER_TIMEOUT_SECONDS: Final = 30.0
STATUS_COMPLETE: Final = "204"
_SQL: Final = statements("ledger")


class SnapshotFailed(SluiceError):
    """JetStream failed to save or to restore a stream."""


async def save(client: Client, stream: str, folder: Path) -> int:
    """Write <folder>/<stream>.snapshot and .json; return the number of bytes. Raises SnapshotFailed."""
    inbox = client.new_inbox()
    chunks = await client.subscribe(inbox)
    answer = await _ask(
        client, f"$JS.API.STREAM.SNAPSHOT.{stream}", {"deliver_subject": inbox, "chunk_size": CHUNK_BYTES}
    )
    written = 0
    try:
        with _complete_file(folder / f"{stream}.snapshot") as file:
            while (chunk := await chunks.next_msg(ANSWER_TIMEOUT_SECONDS)).data:
                written += file.write(chunk.data)
                if chunk.reply:  # the server sends a few chunks ahead, and waits at most 5 s for this
                    await chunk.respond(b"")
            headers = chunk.headers or {}  # none if one chunk held everything
            if (status := headers.get("Status", STATUS_COMPLETE)) != STATUS_COMPLETE:
                raise SnapshotFailed(
                    f"{stream}: JetStream stopped after {written} bytes: {status} {headers.get('Description', '')}. "
                    "Run the command again"
                )
    except nats.errors.TimeoutError as error:
        raise SnapshotFailed(f"{stream}: JetStream sent nothing more after {written} bytes. Run it again") from error
    finally:
        await chunks.unsubscribe()
    with _complete_file(folder / f"{stream}.json") as file:
        file.write(json.dumps({"config": answer["config"], "state": answer["state"]}).encode())
    return written


@contextmanager
def _complete_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing; it gets its name after it is synced to disk."""
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)


async def restore(client: Client, connection: Connection, stream: str, folder: Path) -> int:
    """Create the stream from its files; return its number of messages. Raises SnapshotFailed, also if it exists.

    The restored stream continues the sequence numbers of the saved one. The ledger counts earlier messages as accepted
    losses of the restored stream, because their receipts belong to the saved one.
    """
    description = json.loads((folder / f"{stream}.json").read_text())
    answer = await _ask(client, f"$JS.API.STREAM.RESTORE.{stream}", description)
    with (folder / f"{stream}.snapshot").open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            await client.request(answer["deliver_subject"], chunk, timeout=ANSWER_TIMEOUT_SECONDS)
    await _ask(client, answer["deliver_subject"], None)
    info = await stream_info(client, stream)
    last = info.state.last_seq
    await connection.execute(_SQL["accept_loss"], stream, info.created, last, last)
    return info.state.messages


async def _ask(client: Client, subject: str, request: dict[str, Any] | None) -> dict[str, Any]:
    body = b"" if request is None else json.dumps(request).encode()
    try:
        answer: dict[str, Any] = json.loads((await client.request(subject, body, timeout=ANSWER_TIMEOUT_SECONDS)).data)
    except (nats.errors.Error, TimeoutError) as error:
        raise SnapshotFailed(f"{subject}: {error!r}") from error
    if "error" in answer:
        raise SnapshotFailed(f"{subject}: {answer['error']['description']}")
    return answer


def options(group: Any) -> None:
    """Add the actions of `snapshot` and their options."""
    saved = command(
        group, "save", "save all streams to files",
        "Messages keep flowing. Save the streams before the database: docs/backup.md has the whole procedure.",
        examples=("sluice snapshot save /backup/2026-11-23",), document=SnapshotDone,
    )  # fmt: skip
    saved.set_defaults(run=lambda settings, options: save_all(settings, options.folder, as_json=is_json(options)))
    restored = command(
        group, "restore", "create all streams from saved files",
        "No stream may exist before. Restore the database first.",
        examples=("sluice snapshot restore /backup/2026-11-23",), document=SnapshotDone,
    )  # fmt: skip
    restored.set_defaults(
        run=lambda settings, options: restore_all(settings, options.folder, yes=options.yes, as_json=is_json(options))
    )
    yes(restored)
    for parser in (saved, restored):
        folder(parser)


async def save_all(settings: OperatorSettings, folder: Path, *, as_json: bool) -> int:
    """Save all streams to a folder, which is created if it does not exist."""
    await asyncio.to_thread(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
    rows = []
    async with to_nats(settings) as client:
        for stream in STREAMS:
            rows.append(SnapshotRow(stream, await save(client, stream, folder), None))
            if not as_json:
                print_text(f"{stream}: {rows[-1].bytes:,} bytes saved")
    if as_json:
        print_json(SnapshotDone(str(folder), rows))
    return 0


async def restore_all(settings: OperatorSettings, folder: Path, *, yes: bool, as_json: bool) -> int:
    """Create all streams from the files in a folder."""
    if absent := [stream for stream in STREAMS if not (folder / f"{stream}.json").is_file()]:
        raise SnapshotFailed(f"{folder} holds no snapshot of {', '.join(absent)}: name the folder of `snapshot save`")
    confirm(f"restore the streams of {folder} into NATS at {where(settings.nats_url)}", yes=yes)
    rows = []
    async with connected(settings) as (client, connection):
        for stream in STREAMS:
            rows.append(SnapshotRow(stream, None, await restore(client, connection, stream, folder)))
            if not as_json:
                print_text(f"{stream}: {rows[-1].messages:,} messages restored")
    if as_json:
        print_json(SnapshotDone(str(folder), rows))
    return 0


if __name__ == "__main__":  # the former name of `sluice snapshot`
    os.execv(sys.executable, [sys.executable, "-m", "ops", "snapshot", *sys.argv[1:]])  # noqa: S606
