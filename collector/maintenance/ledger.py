"""Check the ledger while events flow: every message deleted from a stream has a receipt, every stored event is counted.

Invariant: no false alarm. The check reads the stream's state first and the receipts after it: a message deleted from
the stream before has its receipt by then. Receipts and rollups are written in one transaction, so one snapshot must
find them equal. `ops/ledger.py` reads the whole ledger, and counts rows, too.
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

# Each check sums all receipts: some millions if they are kept for days.
EVERY_SECONDS: Final = 300.0
AGAIN_SECONDS: Final = 15.0
COMMAND_SECONDS: Final = 300.0  # detects a dead peer (a half-open TCP connection)
_SQL: Final = statements("ledger")
log = structlog.get_logger()


async def watch(client: Client, dsn: str, source: Source, readiness: Readiness, fence: Fence | None = None) -> None:
    """Check the ledger of a source every EVERY_SECONDS, until cancelled."""

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
            uncounted = await connection.fetchval(_SQL["stored_total"], source.stream) - await connection.fetchval(
                _SQL["rolled_up"], source.name
            )
    metrics.ledger_missing.labels(source.name).set(missing)
    metrics.ledger_uncounted.labels(source.name).set(uncounted)
    if missing or uncounted:
        log.critical("ledger unbalanced", missing_messages=missing, uncounted_events=uncounted)
