-- Counting breakdowns: which bucket is next, and what is written beside its counts. The counts of a bucket are written by
-- the statements count_breakdowns and total_breakdowns of each source (sources.sql).
-- $1 is the source, $2 the instant up to which everything accepted is stored, $3 the breakdowns that the source declares.

-- name: try_lock
-- One session at a time counts the events of a source.
SELECT pg_try_advisory_lock(hashtext('sluice.breakdowns'), hashtext($1::text))

-- name: lock
SELECT pg_advisory_lock(hashtext('sluice.breakdowns'), hashtext($1::text))

-- name: unlock
SELECT pg_advisory_unlock(hashtext('sluice.breakdowns'), hashtext($1::text))

-- name: turn
-- Up to which instant a source is stored (NULL: not known), and for how many seconds no collector may count.
SELECT (SELECT stored_until FROM watermarks WHERE source = $1::text::source) AS stored_until,
       coalesce((SELECT greatest(extract(epoch FROM rest_until - clock_timestamp()), 0)
                 FROM breakdown_turns WHERE source = $1::text::source), 0)::float8 AS rest_seconds

-- name: rest
INSERT INTO breakdown_turns (source, rest_until)
VALUES ($1::text::source, clock_timestamp() + $2::float8 * interval '1 second')
ON CONFLICT (source) DO UPDATE SET rest_until = excluded.rest_until

-- name: plan
-- Of the present transaction. Counting uses one core, and groups in memory if it can.
-- What a crash loses is counted again, so a commit does not wait for the disk.
SELECT set_config('synchronous_commit', 'off', true), set_config('work_mem', '64MB', true),
       set_config('max_parallel_workers_per_gather', '0', true), set_config('jit', 'off', true)

-- name: find_quarter
-- The newest quarter-hour to count: it has ended, its rows are kept, and it is not valid. One that was counted less than
-- $4 ago waits, so that events that are late again and again do not hold up the others. Those in $5 are left out.
SELECT quarter.bucket
FROM (
    SELECT bucket FROM event_totals
    WHERE unit = 'day' AND source = $1::text::source AND bucket < $2::timestamptz
      AND bucket >= (SELECT floor::timestamp AT TIME ZONE 'UTC' FROM partition_floors WHERE parent = $1::text || '_events')
    GROUP BY bucket
    HAVING sum(events) IS DISTINCT FROM (
        SELECT counted.events FROM breakdown_buckets counted
        WHERE counted.source = $1::text::source AND counted.unit = 'day' AND counted.bucket = event_totals.bucket
          AND counted.breakdowns @> $3::text[])
    ORDER BY bucket DESC
) AS day
CROSS JOIN LATERAL (
    SELECT bucket FROM event_counts
    WHERE source = $1::text::source AND bucket >= day.bucket AND bucket < day.bucket + interval '24 hours'
      AND bucket <= $2::timestamptz - interval '15 minutes' AND bucket <> ALL ($5::timestamptz[])
    GROUP BY bucket
    HAVING sum(events) <> 0 AND NOT EXISTS (
        SELECT FROM breakdown_buckets counted
        WHERE counted.source = $1::text::source AND counted.unit = 'quarter' AND counted.bucket = event_counts.bucket
          AND (counted.events = sum(event_counts.events) AND counted.breakdowns @> $3::text[]
               OR counted.counted_at > now() - $4::interval))
    ORDER BY bucket DESC LIMIT 1
) AS quarter
ORDER BY day.bucket DESC LIMIT 1

-- name: uncounted
-- How many quarter-hours have ended, have rows, and are not valid.
SELECT count(*)
FROM (
    SELECT bucket FROM event_totals
    WHERE unit = 'day' AND source = $1::text::source AND bucket < $2::timestamptz
      AND bucket >= (SELECT floor::timestamp AT TIME ZONE 'UTC' FROM partition_floors WHERE parent = $1::text || '_events')
    GROUP BY bucket
    HAVING sum(events) IS DISTINCT FROM (
        SELECT counted.events FROM breakdown_buckets counted
        WHERE counted.source = $1::text::source AND counted.unit = 'day' AND counted.bucket = event_totals.bucket
          AND counted.breakdowns @> $3::text[])
) AS day
CROSS JOIN LATERAL (
    SELECT bucket, sum(events) AS events FROM event_counts
    WHERE source = $1::text::source AND bucket >= day.bucket AND bucket < day.bucket + interval '24 hours'
      AND bucket <= $2::timestamptz - interval '15 minutes'
    GROUP BY bucket
) AS quarter
WHERE quarter.events <> 0 AND NOT EXISTS (
    SELECT FROM breakdown_buckets counted
    WHERE counted.source = $1::text::source AND counted.unit = 'quarter' AND counted.bucket = quarter.bucket
      AND counted.events = quarter.events AND counted.breakdowns @> $3::text[])

-- name: find_total
-- A bucket of a longer unit that is not valid and has ended, and whose parts are all counted; shorter units first. $4: one
-- that holds this instant (NULL: any). Each part counts at most the events that it has, so equal sums are equal parts.
WITH length (unit, finer, length) AS (
    VALUES ('hour'::rollup_unit, 'quarter'::breakdown_unit, interval '1 hour'), ('day', 'hour', interval '24 hours'),
           ('week', 'day', interval '168 hours')
), exact AS (
    SELECT unit, finer, length, bucket, sum(events) AS events
    FROM event_totals JOIN length USING (unit)
    WHERE source = $1::text::source AND bucket + length <= $2::timestamptz
      AND bucket > coalesce($4::timestamptz,
                            (SELECT floor::timestamp AT TIME ZONE 'UTC' FROM partition_floors
                             WHERE parent = $1::text || '_events')) - interval '168 hours'
      AND ($4::timestamptz IS NULL OR bucket <= $4 AND bucket + length > $4)
    GROUP BY 1, 2, 3, 4
    HAVING sum(events) <> 0
)
SELECT unit::text, finer::text, bucket, bucket + length AS until, events::bigint
FROM exact
WHERE NOT EXISTS (
    SELECT FROM breakdown_buckets counted
    WHERE counted.source = $1::text::source AND counted.unit::text = exact.unit::text AND counted.bucket = exact.bucket
      AND counted.events = exact.events AND counted.breakdowns @> $3::text[])
  AND events = (
    SELECT sum(part.events) FROM breakdown_buckets part
    WHERE part.source = $1::text::source AND part.unit = exact.finer AND part.breakdowns @> $3::text[]
      AND part.bucket >= exact.bucket AND part.bucket < exact.bucket + exact.length)
ORDER BY exact.unit, bucket DESC LIMIT 1

-- name: exact_quarter
SELECT coalesce(sum(events), 0)::bigint FROM event_counts WHERE source = $1::text::source AND bucket = $2

-- name: note_bucket
INSERT INTO breakdown_buckets (source, unit, bucket, events, breakdowns)
VALUES ($1::text::source, $2::text::breakdown_unit, $3, $4, $5)
ON CONFLICT (source, unit, bucket) DO UPDATE
SET events = excluded.events, breakdowns = excluded.breakdowns, counted_at = now()

-- name: is_kept
-- Whether the rows of an instant are kept.
SELECT $2::timestamptz >= (SELECT floor::timestamp AT TIME ZONE 'UTC' FROM partition_floors WHERE parent = $1::text || '_events')
