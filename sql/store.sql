-- Statements that store a batch, in the order of their use. The merges of the sources are in sources.sql.

-- name: acquire_shard
-- The lowest slot that no other collector of this source holds, locked until the session ends. If all are held, slot 0
-- is shared: slower, but correct.
SELECT coalesce((
    SELECT slot FROM generate_series(0, 255) AS slot
    WHERE pg_try_advisory_lock(hashtext('sluice.shard.' || $1::text), slot)
    LIMIT 1), 0)

-- name: insert_receipts
-- A message with a receipt was stored before: it is not returned, and skipped. If another collector is storing a
-- message at the same time, this statement waits until that transaction commits or fails.
-- All events are recorded as stored; `update_receipts` corrects the few messages for which that is not true.
INSERT INTO receipts (stream, stream_sequence, published_at, events, stored)
SELECT $1, message.stream_sequence, message.published_at, message.events, message.events
FROM unnest($2::bigint[], $3::timestamptz[], $4::integer[]) AS message (stream_sequence, published_at, events)
ORDER BY message.stream_sequence, message.published_at
ON CONFLICT DO NOTHING
RETURNING stream_sequence, published_at

-- name: write_wal_record
-- Makes COMMIT wait for the synchronous standby: it does not wait if the transaction wrote nothing to the WAL.
SELECT pg_logical_emit_message(true, 'sluice', '')

-- name: require_attached
SELECT require_attached($1, $2)

-- name: update_receipts
UPDATE receipts
SET stored = message.stored, repeated = message.repeated, dead = message.dead
FROM unnest($2::bigint[], $3::timestamptz[], $4::integer[], $5::integer[], $6::integer[])
    AS message (stream_sequence, published_at, stored, repeated, dead)
WHERE receipts.stream = $1
  AND receipts.stream_sequence = message.stream_sequence
  AND receipts.published_at = message.published_at

-- name: commit_locally
-- For this transaction only. A temporary table is not replicated, so its commit need not wait for the standby.
SET LOCAL synchronous_commit TO local

-- name: staging
-- {table} is the partitioned table of the source's events.
CREATE TEMPORARY TABLE staging (LIKE {table} INCLUDING DEFAULTS) ON COMMIT DELETE ROWS

-- name: staging_rejected
CREATE TEMPORARY TABLE staging ON COMMIT DELETE ROWS AS
SELECT received_at, stream_sequence, length, source, reason, path, detail, event_id, correlation_id, sha256, event
FROM rejected_events
WITH NO DATA

-- name: empty_staging
-- Not TRUNCATE: each one makes all later savepoints of the transaction slower, and the isolator uses thousands.
DELETE FROM staging

-- name: lock_country_registry
-- Returns a row if some of these countries ($1) have to be registered. Only one collector registers at a time:
-- otherwise two could use the same free place, and one would count as other a country that the other has registered.
SELECT pg_advisory_xact_lock(hashtext('sluice.countries'))
WHERE (SELECT count(*) FROM known_countries WHERE NOT reserved) < 1000 AND EXISTS (
    SELECT FROM unnest($1::text[]) AS seen (country)
    WHERE NOT EXISTS (SELECT FROM known_countries known WHERE known.country = seen.country)
      AND NOT EXISTS (SELECT FROM other_countries other WHERE other.country = seen.country))

-- name: register_countries
-- Runs before the rollups, so that a country is registered from its first event on. A separate statement, so that it
-- sees what was registered while it waited for the lock.
INSERT INTO known_countries
SELECT country FROM unnest($1::text[]) AS seen (country)
WHERE NOT EXISTS (SELECT FROM known_countries known WHERE known.country = seen.country)
  AND NOT EXISTS (SELECT FROM other_countries other WHERE other.country = seen.country)
ORDER BY country
LIMIT greatest(0, 1000 - (SELECT count(*) FROM known_countries WHERE NOT reserved))
ON CONFLICT DO NOTHING

-- name: add_counts
-- Add the parser's counts of rows that were all new to the rollups ($1 source, $2 shard; a quarter is a quarter-hour
-- since 2000). In key order, like the merges, to avoid deadlocks.
WITH counted AS (
    INSERT INTO event_counts AS kept (bucket, source, funnel_stage, event_type, shard, events, revenue)
    SELECT timestamptz '2000-01-01 00:00+00' + quarter * interval '15 minutes', $1::text::source,
           stage::funnel_stage, type::event_type, $2, events, cents * 0.01
    FROM unnest($3::integer[], $4::text[], $5::text[], $6::integer[], $7::bigint[])
        AS counts (quarter, stage, type, events, cents)
    ORDER BY 1, 3, 4
    ON CONFLICT (bucket, source, funnel_stage, event_type, shard)
    DO UPDATE SET events = kept.events + excluded.events, revenue = kept.revenue + excluded.revenue
)
INSERT INTO audience_counts AS kept (bucket, source, dimension, value, shard, events)
SELECT timestamptz '2000-01-01 00:00+00' + quarter * interval '15 minutes', $1::text::source,
       dimension::audience_dimension, CASE WHEN dimension = 'country' THEN known.country ELSE value END, $2, sum(events)
FROM unnest($8::integer[], $9::text[], $10::text[], $11::integer[]) AS counts (quarter, dimension, value, events)
LEFT JOIN known_countries known ON dimension = 'country' AND known.country = value
GROUP BY 1, 3, 4
ORDER BY 3, 1, 4
ON CONFLICT (source, dimension, bucket, value, shard) DO UPDATE SET events = kept.events + excluded.events

-- name: merge_rejected
WITH inserted AS (
    INSERT INTO rejected_events (received_at, stream_sequence, length, source, reason, path, detail, event_id,
                                correlation_id, sha256, event)
    SELECT * FROM staging
    RETURNING stream_sequence
)
SELECT stream_sequence, count(*) AS stored FROM inserted GROUP BY stream_sequence

-- name: insert_dead_letters
INSERT INTO dead_letters (stream, source, published_at, stream_sequence, received_at, position, reason, path, detail,
                          correlation_id, event)
SELECT $1, $2, dead_letter.*
FROM unnest($3::timestamptz[], $4::bigint[], $5::timestamptz[], $6::integer[], $7::text[], $8::text[], $9::text[],
            $10::text[], $11::bytea[]) AS dead_letter
ON CONFLICT (stream, stream_sequence, published_at, position) DO NOTHING
