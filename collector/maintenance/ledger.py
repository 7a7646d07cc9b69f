"""Watch the ledger while events flow: no message leaves a stream without a receipt, and all that is stored is counted.

Invariant: what is told is wrong for certain. The stream is asked first and the receipts are read after: a message that
left the stream before has its receipt by then, whatever flows meanwhile. Receipts and rollups are written together, so
one snapshot must find them equal. `ops/ledger.py` reads the whole, rows counted too.
"""

from __future__ import annotations

from typing import Final

import structlog
from nats.aio.client import Client

from collector import metrics
from collector.sources.source import Source
from core import postgres
from core.fence import Fence
from core.health import Readiness
from core.jetstream import stream_info
from core.periodic import periodically
from core.postgres import Connection
from sql import statements

# A sum over all receipts, some millions where they are kept for days.
EVERY_SECONDS: Final = 300.0
AGAIN_SECONDS: Final = 15.0
COMMAND_SECONDS: Final = 300.0  # of a server that vanished without a word nothing else is heard
_SQL: Final = statements("ledger")
log = structlog.get_logger()


async def watch(client: Client, dsn: str, source: Source, readiness: Readiness, fence: Fence | None = None) -> None:
    """Check the ledger of a source for ever, first at once."""

    async def check() -> None:
        connection = await postgres.connect(
            dsn,
            name="sluice-ledger",
            patience_seconds=5,
            command_seconds=COMMAND_SECONDS,
            accept=fence.accept if fence else None,
        )
        try:
            await _check(client, connection, source)
        finally:
            connection.terminate()

    await periodically(metrics.step(source.name, "ledger", readiness), check, EVERY_SECONDS, AGAIN_SECONDS)


async def _check(client: Client, connection: Connection, source: Source) -> None:
    info = await stream_info(client, source.stream)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        receipts = await connection.fetchval(_SQL["receipts"], source.stream, info.created)
        lost = await connection.fetchrow(_SQL["lost"], source.stream, info.created)
        assert lost is not None
        missing = max(0, info.state.last_seq - info.state.messages - receipts)
        missing = max(0, missing + lost["lost_before"] - lost["accepted_loss"])
        uncounted = 0
        if source.table is not None:
            uncounted = await connection.fetchval(_SQL["stored_in_all"], source.stream) - await connection.fetchval(
                _SQL["rolled_up"], source.name
            )
    metrics.ledger_missing.labels(source.name).set(missing)
    metrics.ledger_uncounted.labels(source.name).set(uncounted)
    if missing or uncounted:
        log.critical("the ledger does not balance", missing_messages=missing, uncounted_events=uncounted)
