-- Statements of every report's transaction, and of the readiness check.

-- name: plan_rows
-- Plan reads of rows for the range of the query: a generic plan would open every partition.
SET LOCAL plan_cache_mode = force_custom_plan;
SET LOCAL enable_seqscan = on;
SET LOCAL enable_hashjoin = on;
SET LOCAL enable_mergejoin = on

-- name: plan_rollups
-- Return to the planner settings of the session: rollups are joined by ranges of keys, always through their index.
SET LOCAL plan_cache_mode = force_generic_plan;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off

-- name: lock
-- Runs before the snapshot is taken, so that no partition is dropped between the reads of its floor and of its rows.
LOCK TABLE ONLY {table} IN ACCESS SHARE MODE

-- name: watermarks
-- One row for each source in $1, with or without a watermark.
SELECT requested.source::text, stored_until, pending_messages, observed_at, statement_timestamp() AS read_at,
       floor::timestamp AT TIME ZONE 'UTC' AS floor
FROM unnest($1::source[]) AS requested (source)
JOIN partition_floors ON parent = requested.source || '_events'
LEFT JOIN watermarks ON watermarks.source = requested.source

-- name: known_countries
SELECT country FROM known_countries

-- name: schema_version
SELECT coalesce(max(version), 0) FROM schema_migrations
