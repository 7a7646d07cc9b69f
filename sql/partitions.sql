-- Daily partitions: made ahead and on demand, dropped past their retention.

-- name: ensure
-- What was done: made, attached, or existed.
SELECT ensure_day($1, $2)

-- name: drop_before
-- Each day that was to be dropped, and the error where it was not.
SELECT day, error FROM drop_days($1, $2)

-- name: days
-- The days that have a partition, first to last. A table that is detached, or is being detached, is none.
SELECT leaf_day($1, inhrelid) AS day
FROM pg_inherits
WHERE inhparent = to_regclass($1) AND NOT inhdetachpending AND leaf_day($1, inhrelid) IS NOT NULL
ORDER BY day

-- name: tables
-- Each table of a day, with the planner's estimate of its rows (-1: none yet), its bytes with those of its indexes, and
-- whether it is a partition. One that is detached counts as long as its day is not below the floor.
SELECT leaf_day($1, leaf.oid) AS day, leaf.reltuples::bigint AS rows, pg_total_relation_size(leaf.oid) AS bytes,
       coalesce(NOT inhdetachpending, false) AS attached
FROM pg_class leaf LEFT JOIN pg_inherits ON inhrelid = leaf.oid AND inhparent = to_regclass($1)
WHERE leaf.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass($1))
  AND leaf.relkind = 'r' AND starts_with(leaf.relname, $1 || '_') AND leaf_day($1, leaf.oid) IS NOT NULL
  AND (inhparent IS NOT NULL
       OR leaf_day($1, leaf.oid) >= (SELECT floor FROM partition_floors WHERE parent = $1))
ORDER BY day

-- name: without_index
-- The facebook partitions that lack the index on campaigns, newest first.
SELECT leaf.relname AS partition
FROM pg_inherits AS day JOIN pg_class AS leaf ON leaf.oid = day.inhrelid
WHERE day.inhparent = to_regclass('facebook_events')
  AND NOT EXISTS (
      SELECT FROM pg_inherits AS attached JOIN pg_index ON indexrelid = attached.inhrelid
      WHERE attached.inhparent = to_regclass('facebook_events_campaign') AND indrelid = leaf.oid)
ORDER BY leaf.relname DESC

-- name: drop_index
-- An interrupted CREATE INDEX CONCURRENTLY leaves an invalid index.
DROP INDEX CONCURRENTLY IF EXISTS {partition}_campaign

-- name: create_index
-- As the parent's index in 0005_any_distribution.sql: only an equal one can be attached.
CREATE INDEX CONCURRENTLY {partition}_campaign ON {partition} (hashtextextended(campaign_id, 0), event_time)
WHERE event_type = 'checkout.complete'

-- name: attach_index
ALTER INDEX facebook_events_campaign ATTACH PARTITION {partition}_campaign
