-- Statements that find the next bucket to count, and record that it was counted (collector/maintenance/breakdowns.py).
-- The statements count_breakdowns_… and total_breakdowns_… of sources.sql count the bucket.
-- A bucket is a quarter-hour, hour, day or week. It is valid if it was counted with all breakdowns that the source
-- declares, and the number of events counted equals the rollups. A late event makes the buckets that contain it invalid.
-- $1 is the source, $2 its watermark, and $3 the names of the breakdowns that it declares.

-- name: try_lock
-- Only the session that holds this lock may count buckets of the source. Returns whether it was free.
SELECT pg_try_advisory_lock(hashtext('sluice.breakdowns'), hashtext($1::text))

-- name: lock
-- The same lock, but wait for it.
SELECT pg_advisory_lock(hashtext('sluice.breakdowns'), hashtext($1::text))

-- name: unlock
SELECT pg_advisory_unlock(hashtext('sluice.breakdowns'), hashtext($1::text))

-- name: counting_state
-- The watermark of a source, NULL if it has none, and the number of seconds for which its collectors still rest.
SELECT (SELECT stored_until FROM watermarks WHERE source = $1::text::source) AS stored_until,
       coalesce((SELECT greatest(extract(epoch FROM rest_until - clock_timestamp()), 0)
                 FROM breakdown_turns WHERE source = $1::text::source), 0)::float8 AS rest_seconds

-- name: pause_counting
-- Let all collectors of the source rest for the next $2 seconds.
INSERT INTO breakdown_turns (source, rest_until)
VALUES ($1::text::source, clock_timestamp() + $2::float8 * interval '1 second')
ON CONFLICT (source) DO UPDATE SET rest_until = excluded.rest_until

-- name: set_counting_options
-- Options of the current transaction. Counting uses at most one core, and 64 MB of memory to group without temporary files.
-- The commit does not wait for the disk, because a bucket that a crash loses is counted again.
SELECT set_config('synchronous_commit', 'off', true), set_config('work_mem', '64MB', true),
       set_config('max_parallel_workers_per_gather', '0', true), set_config('jit', 'off', true)

-- name: find_quarter
-- The newest quarter-hour to count: it has ended, its rows are kept, and it is not valid. A quarter-hour that was counted
-- less than $4 ago is skipped: otherwise late events that keep coming would delay all older quarter-hours. The
-- quarter-hours in $5 are skipped, too.
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

-- name: count_uncounted
-- The number of quarter-hours that have ended, have events whose rows are kept, and are not valid.
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
-- The next total to count: an hour, day or week that has ended, is not valid, and all of whose parts are valid. Hours come
-- before days and weeks. If $4 is not NULL, the bucket must contain this instant. A part never counts more events than the
-- rollups. So if the sum of the parts equals the rollup of the total, each part is valid.
WITH length (unit, finer, length) AS (
    VALUES ('hour'::rollup_unit, 'quarter'::breakdown_unit, interval '1 hour'), ('day', 'hour', interval '24 hours'),
           ('week', 'day', interval '168 hours')
), rolled_up AS (
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
FROM rolled_up
WHERE NOT EXISTS (
    SELECT FROM breakdown_buckets counted
    WHERE counted.source = $1::text::source AND counted.unit::text = rolled_up.unit::text AND counted.bucket = rolled_up.bucket
      AND counted.events = rolled_up.events AND counted.breakdowns @> $3::text[])
  AND events = (
    SELECT sum(part.events) FROM breakdown_buckets part
    WHERE part.source = $1::text::source AND part.unit = rolled_up.finer AND part.breakdowns @> $3::text[]
      AND part.bucket >= rolled_up.bucket AND part.bucket < rolled_up.bucket + rolled_up.length)
ORDER BY rolled_up.unit, bucket DESC LIMIT 1

-- name: rolled_up_events
-- The events of a quarter-hour ($2) according to the rollups.
SELECT coalesce(sum(events), 0)::bigint FROM event_counts WHERE source = $1::text::source AND bucket = $2

-- name: record_counted
-- $2 is the unit, $3 the bucket, $4 the events counted, $5 the breakdowns counted.
INSERT INTO breakdown_buckets (source, unit, bucket, events, breakdowns)
VALUES ($1::text::source, $2::text::breakdown_unit, $3, $4, $5)
ON CONFLICT (source, unit, bucket) DO UPDATE
SET events = excluded.events, breakdowns = excluded.breakdowns, counted_at = now()

-- name: is_kept
-- Return whether rows of the instant $2 are kept, because it is not below the floor.
SELECT $2::timestamptz >= (SELECT floor::timestamp AT TIME ZONE 'UTC' FROM partition_floors WHERE parent = $1::text || '_events')
