-- The first statements of every report, and those of the readiness check.

-- name: plan_rows
-- Plan queries of rows for the requested range: a generic plan would include every partition.
SET LOCAL plan_cache_mode = force_custom_plan;
SET LOCAL enable_seqscan = on;
SET LOCAL enable_hashjoin = on;
SET LOCAL enable_mergejoin = on

-- name: plan_rollups
-- Restore the session's settings: spans are joined to ranges of keys, which only an index scan serves well.
SET LOCAL plan_cache_mode = force_generic_plan;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off

-- name: lock
-- Lock before taking the snapshot, so that no partition is dropped between reading the floor and reading the rows.
LOCK TABLE ONLY {table} IN ACCESS SHARE MODE

-- name: watermarks
-- One row per requested source, also for a source without a watermark.
SELECT requested.source::text, stored_until, pending_messages, observed_at, statement_timestamp() AS read_at,
       floor::timestamp AT TIME ZONE 'UTC' AS floor
FROM unnest($1::source[]) AS requested (source)
JOIN partition_floors ON parent = requested.source || '_events'
LEFT JOIN watermarks ON watermarks.source = requested.source

-- name: schema_version
SELECT coalesce(max(version), 0) FROM schema_migrations
