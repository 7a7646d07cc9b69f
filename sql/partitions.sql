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
