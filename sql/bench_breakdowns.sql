-- For the benchmark of breakdowns.

-- name: forget
-- No bucket is counted.
TRUNCATE breakdown_buckets

-- name: forget_truncated
-- The rollups of a source whose rows the benchmark of the pipeline empties: a count would find that they differ.
DELETE FROM event_counts WHERE source = 'tiktok'

-- name: pause_counting
-- No collector of the source counts for the interval $2.
INSERT INTO breakdown_turns (source, rest_until) VALUES ($1::text::source, now() + $2::interval)
ON CONFLICT (source) DO UPDATE SET rest_until = excluded.rest_until

-- name: quarters
SELECT count(*) FROM breakdown_buckets WHERE unit = 'quarter'

-- name: counted
SELECT events FROM breakdown_buckets WHERE source = $1::text::source AND unit = 'quarter' AND bucket = $2

-- name: bytes
SELECT pg_total_relation_size('breakdown_counts') AS breakdown_counts,
       pg_total_relation_size('breakdown_buckets') AS breakdown_buckets,
       (SELECT sum(pg_total_relation_size(inhrelid))::bigint FROM pg_inherits
        WHERE inhparent IN ('facebook_events'::regclass, 'tiktok_events'::regclass)) AS rows

-- name: rows
-- The same from the rows. {column} is one of facebook's.
SELECT {column}, count(*), sum(purchase_amount) FILTER (WHERE event_type = 'checkout.complete') AS revenue
FROM facebook_events
WHERE event_time >= $1 AND event_time < $2 AND {column} IS NOT NULL
GROUP BY {column} ORDER BY 2 DESC LIMIT $3
