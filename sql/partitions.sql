-- Daily partitions: made ahead and on demand, dropped past their retention.

-- name: ensure
SELECT ensure_partition($1, $2)

-- name: drop_before
SELECT drop_partitions($1, $2)

-- name: days
-- The days that have a partition, first to last.
SELECT to_date(right(inhrelid::regclass::text, 8), 'YYYYMMDD') AS day
FROM pg_inherits WHERE inhparent = to_regclass($1)
ORDER BY day

-- name: sizes
-- Each day's partition, with the planner's estimate of its rows (-1: none yet) and its bytes, indexes included.
SELECT to_date(right(inhrelid::regclass::text, 8), 'YYYYMMDD') AS day, reltuples::bigint AS rows,
       pg_total_relation_size(inhrelid) AS bytes
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent = to_regclass($1)
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
