"""The command `python -m core.migrate`: migrate the schema and exit, as a separate step before the services start.

    SLUICE_MIGRATE_DSN --migrations, as the owner--> exit 0; a missing or rejected DSN, a changed file: exit 2

It may run at any time and several times at once (core/postgres.py): one process migrates, the others find nothing to
do.
"""

from __future__ import annotations

import asyncio

import structlog

from core import lifecycle, logs
from core.errors import Misconfigured
from core.postgres import migrate
from core.settings import OwnerDsn, Settings, load, warn_of_unknown

log = structlog.get_logger()


class MigrateSettings(Settings, frozen=True, kw_only=True):
    """The owner's DSN."""

    sluice_migrate_dsn: OwnerDsn = None


async def main(stop: asyncio.Event) -> None:
    """Migrate, unless a stop comes first. Raises Misconfigured."""
    settings = load(MigrateSettings)
    logs.configure("migrate", settings.log_level)
    warn_of_unknown(MigrateSettings)
    if settings.sluice_migrate_dsn is None:
        raise Misconfigured("SLUICE_MIGRATE_DSN: is not set; only the owner can migrate")
    version = await lifecycle.unless_stopped(stop, migrate(settings.sluice_migrate_dsn))
    log.info("schema up to date", version=version)


if __name__ == "__main__":
    lifecycle.run(main)
