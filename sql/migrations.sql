-- Statements of `core.postgres.migrate`.

-- name: journal
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    sha256     text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)

-- name: journal_readable
GRANT SELECT ON schema_migrations TO sluice_collector, sluice_reporter

-- name: lock
-- One service migrates at a time. The others wait for this lock, and then find all migrations applied.
SELECT pg_advisory_lock(hashtext('sluice.migrations'))

-- name: applied
SELECT version, sha256 FROM schema_migrations ORDER BY version

-- name: record
INSERT INTO schema_migrations (version, name, sha256) VALUES ($1, $2, $3)

-- name: journal_exists
SELECT to_regclass('schema_migrations') IS NOT NULL

-- name: version
SELECT coalesce(max(version), 0) FROM schema_migrations
