"""Bring the schema up to date and end: `python -m core.migrate`, for a step of its own before the services start.

    SLUICE_MIGRATE_DSN --migrations, as the owner--> exit 0; a DSN that is missing or rejected, a changed file: exit 2

Safe to run at any time and by several at once (core/postgres.py): one works, the others find nothing to do.
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
    """Migrate, unless told to stop first. Raises Misconfigured."""
    settings = load(MigrateSettings)
    logs.configure("migrate", settings.log_level)
    warn_of_unknown(MigrateSettings)
    if settings.sluice_migrate_dsn is None:
        raise Misconfigured("SLUICE_MIGRATE_DSN: is missing, and only the owner may migrate")
    version = await lifecycle.unless_stopped(stop, migrate(settings.sluice_migrate_dsn))
    log.info("schema is up to date", version=version)


if __name__ == "__main__":
    lifecycle.run(main)
