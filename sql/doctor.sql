-- Checks of PostgreSQL's own settings by `doctor`.

-- name: durability
-- The defaults of a session: this session itself sets synchronous_commit.
SELECT name, reset_val AS value FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes')

-- name: role_settings
-- Settings of the roles that write ($1, and the roles of collectors' sessions) in this database or in all databases:
-- name, value, and the role and database that they apply to.
SELECT split_part(setting, '=', 1) AS name, split_part(setting, '=', 2) AS value,
       concat_ws(' in ', rolname, datname) AS of,
       quote_ident(rolname) AS role, quote_ident(datname) AS database
FROM pg_db_role_setting
LEFT JOIN pg_roles ON pg_roles.oid = setrole
LEFT JOIN pg_database ON pg_database.oid = setdatabase,
LATERAL unnest(setconfig) AS setting
WHERE (datname IS NULL OR datname = current_database())
  AND (rolname IS NULL OR rolname = ANY ($1) OR rolname IN (
      SELECT usename FROM pg_stat_activity
      WHERE datname = current_database() AND application_name LIKE 'sluice-collector-%'))

-- name: clock
SELECT clock_timestamp()

-- name: breakdowns
-- Up to which instant a source is stored, and whether none of its quarter-hours was counted in the last hour.
SELECT (SELECT stored_until FROM watermarks WHERE source = $1::text::source) AS stored_until,
       NOT EXISTS (SELECT FROM breakdown_buckets WHERE source = $1::text::source AND counted_at > now() - interval '1 hour')
           AS idle
