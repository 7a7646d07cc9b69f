-- What every report asks first, and what readiness asks.

-- name: plan_rows
-- Rows are planned for the range that is asked: a plan for any range would look at every partition.
SET LOCAL plan_cache_mode = force_custom_plan;
SET LOCAL enable_seqscan = on;
SET LOCAL enable_hashjoin = on;
SET LOCAL enable_mergejoin = on

-- name: plan_rollups
-- Back to what the session began with: spans are joined to ranges of keys, and nothing but their index will do.
SET LOCAL plan_cache_mode = force_generic_plan;
SET LOCAL enable_seqscan = off;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off

-- name: lock
-- Before the snapshot is taken: no partition is dropped between our reading of its floor and of its rows.
LOCK TABLE ONLY {table} IN ACCESS SHARE MODE

-- name: watermarks
-- One row a source asked for, whether it has a watermark or not.
SELECT asked.source::text, stored_until, pending_messages, observed_at, statement_timestamp() AS read_at,
       floor::timestamp AT TIME ZONE 'UTC' AS floor
FROM unnest($1::source[]) AS asked (source)
JOIN partition_floors ON parent = asked.source || '_events'
LEFT JOIN watermarks ON watermarks.source = asked.source

-- name: schema_version
SELECT coalesce(max(version), 0) FROM schema_migrations
