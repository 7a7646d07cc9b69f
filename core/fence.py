"""Keep collectors off an old primary: a database with an older timeline than the newest one that a collector used.

    connect --older timeline-----> DatabaseBehind; the next host of the DSN is tried
            --newer timeline-----> recorded in JetStream for all collectors, then used
            --newest timeline----> used
            --standby------------> used, because it accepts no writes

PostgreSQL starts a new timeline with each promotion. A primary that was cut off, or died and returns, continues the old
timeline. It accepts writes, and they are lost when it is rebuilt.

The newest timeline is in the key-value bucket SLUICE, one key for each database cluster (by its system identifier). A
database that was restored from a dump is a different cluster. Two servers that were promoted from the same timeline
look equal: Patroni with etcd, or a cloud's own failover, must prevent that.
"""

from __future__ import annotations

from typing import Final
from weakref import WeakKeyDictionary

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.js.api import KeyValueConfig
from nats.js.kv import KeyValue

from core.errors import RetryableError
from core.postgres import Connection
from sql import statements

BUCKET: Final = "SLUICE"
TRIES: Final = 5  # to record a timeline while other collectors do the same
_SQL: Final = statements("session")
log = structlog.get_logger()


class DatabaseBehind(RetryableError):
    """The server is an old primary. A different server was promoted."""


class Fence:
    """Knows the newest timeline of each database cluster. `replicas` is the number of copies of a new bucket."""

    def __init__(self, client: Client, replicas: int) -> None:
        self._client = client
        self._replicas = replicas
        self._newest: dict[str, int] = {}
        self._accepted: WeakKeyDictionary[Connection, tuple[str, int]] = WeakKeyDictionary()

    async def accept(self, connection: Connection) -> None:
        """Accept this connection if its server is the newest primary or a standby.

        Raises DatabaseBehind, also if JetStream does not answer: then the newest timeline is unknown.
        """
        row = await connection.fetchrow(_SQL["timeline"])
        assert row is not None
        cluster, timeline = row["cluster"], row["timeline"]
        if timeline is None:
            return
        try:
            await self._learn(cluster, timeline)
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            raise DatabaseBehind(f"whether the database is the newest primary is not known: {error!r}") from error
        self._accepted[connection] = cluster, timeline
        self.check(connection)

    def check(self, connection: Connection) -> None:
        """Raise DatabaseBehind if a newer primary exists since this connection was accepted."""
        cluster, timeline = self._accepted.get(connection, ("", 0))
        newest = self._newest.get(cluster, timeline)
        if timeline < newest:
            raise DatabaseBehind(
                f"PostgreSQL at {address_of(connection)} is an old primary: its timeline is {timeline}, and timeline "
                f"{newest} exists; stop it, and rebuild it as a standby"
            )

    async def _learn(self, cluster: str, timeline: int) -> None:
        """Record this timeline if it is the newest one; otherwise read the newest one. Raises the errors of nats-py."""
        bucket = await self._bucket()
        for _ in range(TRIES):
            noted, revision = await read_timeline(bucket, cluster)
            self._newest[cluster] = max(self._newest.get(cluster, 0), noted, timeline)
            if timeline <= noted:
                return
            try:
                await bucket.update(key_of(cluster), b"%d" % timeline, last=revision)
            except nats.js.errors.KeyWrongLastSequenceError:
                continue  # another collector was first
            log.info("new primary", cluster=cluster, timeline=timeline, before=noted)
            return

    async def _bucket(self) -> KeyValue:
        js = self._client.jetstream()
        try:
            return await js.key_value(BUCKET)
        except nats.js.errors.NotFoundError:
            return await js.create_key_value(KeyValueConfig(bucket=BUCKET, history=1, replicas=self._replicas))


async def read_timeline(bucket: KeyValue, cluster: str) -> tuple[int, int]:
    """Return the recorded timeline of a database cluster and its revision; 0 and 0 if there is none."""
    try:
        entry = await bucket.get(key_of(cluster))
    except nats.js.errors.KeyDeletedError as error:
        return 0, error.entry.revision or 0
    except nats.js.errors.KeyNotFoundError:
        return 0, 0
    return int(entry.value or b"0"), entry.revision or 0


def key_of(cluster: str) -> str:
    """Return the key of a database cluster."""
    return f"timeline.{cluster}"


def address_of(connection: Connection) -> str:
    """Return host and port of a connection's server."""
    address = connection._addr  # type: ignore[attr-defined]
    return address if isinstance(address, str) else "{}:{}".format(*address[:2])
