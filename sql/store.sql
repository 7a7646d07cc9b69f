-- What a collector asks to store a batch, in the order of the flow. The merges of sources are in sources.sql.

-- name: take_shard
-- The lowest slot that no other collector of this source holds; the session keeps it until it ends. Where all are
-- held, 0 is shared: slower, not wrong.
SELECT coalesce((
    SELECT slot FROM generate_series(0, 255) AS slot
    WHERE pg_try_advisory_lock(hashtext('sluice.shard.' || $1::text), slot)
    LIMIT 1), 0)

-- name: take_receipts
-- A message whose receipt stands was stored before: it is not returned and is left out. A message that another
-- collector is storing at this moment makes us wait until that one has committed or failed.
-- All events are presumed new; `correct_receipts` tells otherwise for the few messages where they are not.
INSERT INTO receipts (stream, stream_sequence, published_at, events, stored)
SELECT $1, message.stream_sequence, message.published_at, message.events, message.events
FROM unnest($2::bigint[], $3::timestamptz[], $4::integer[]) AS message (stream_sequence, published_at, events)
ORDER BY message.stream_sequence, message.published_at
ON CONFLICT DO NOTHING
RETURNING stream_sequence, published_at

-- name: require_attached
SELECT require_attached($1, $2)

-- name: correct_receipts
UPDATE receipts
SET stored = message.stored, repeated = message.repeated, dead = message.dead
FROM unnest($2::bigint[], $3::timestamptz[], $4::integer[], $5::integer[], $6::integer[])
    AS message (stream_sequence, published_at, stored, repeated, dead)
WHERE receipts.stream = $1
  AND receipts.stream_sequence = message.stream_sequence
  AND receipts.published_at = message.published_at

-- name: staging
-- {table} is the partitioned table of the source's events.
CREATE TEMPORARY TABLE staging (LIKE {table} INCLUDING DEFAULTS) ON COMMIT DELETE ROWS

-- name: staging_rejected
CREATE TEMPORARY TABLE staging ON COMMIT DELETE ROWS AS
SELECT received_at, stream_sequence, length, source, reason, path, detail, event_id, correlation_id, sha256, event
FROM rejected_events
WITH NO DATA

-- name: empty_staging
-- Not TRUNCATE: each one in a transaction makes every later savepoint dearer, and isolation takes thousands.
DELETE FROM staging

-- name: lock_countries
-- A row where some of these countries ($1) are to be learnt. One collector learns at a time: of two that see the same
-- room and fill it twice, one would have counted as other what the other one knows.
SELECT pg_advisory_xact_lock(hashtext('sluice.countries'))
WHERE (SELECT count(*) FROM known_countries WHERE NOT reserved) < 1000 AND EXISTS (
    SELECT FROM unnest($1::text[]) AS met (country)
    WHERE NOT EXISTS (SELECT FROM known_countries known WHERE known.country = met.country)
      AND NOT EXISTS (SELECT FROM other_countries other WHERE other.country = met.country))

-- name: learn_countries
-- Before the rollups, so that a country is known from its first event on. A statement of its own: it sees what was
-- learnt while the lock was waited for.
INSERT INTO known_countries
SELECT country FROM unnest($1::text[]) AS met (country)
WHERE NOT EXISTS (SELECT FROM known_countries known WHERE known.country = met.country)
  AND NOT EXISTS (SELECT FROM other_countries other WHERE other.country = met.country)
ORDER BY country
LIMIT greatest(0, 1000 - (SELECT count(*) FROM known_countries WHERE NOT reserved))
ON CONFLICT DO NOTHING

-- name: add_counts
-- Add to the rollups what the parser counted of rows that were all new ($1 source, $2 shard; a quarter is a
-- quarter-hour since 2000). In key order, as the merges do.
WITH counted AS (
    INSERT INTO event_counts AS kept (bucket, source, funnel_stage, event_type, shard, events, revenue)
    SELECT timestamptz '2000-01-01 00:00+00' + quarter * interval '15 minutes', $1::text::source,
           stage::funnel_stage, type::event_type, $2, events, cents * 0.01
    FROM unnest($3::integer[], $4::text[], $5::text[], $6::integer[], $7::bigint[])
        AS met (quarter, stage, type, events, cents)
    ORDER BY 1, 3, 4
    ON CONFLICT (bucket, source, funnel_stage, event_type, shard)
    DO UPDATE SET events = kept.events + excluded.events, revenue = kept.revenue + excluded.revenue
)
INSERT INTO audience_counts AS kept (bucket, source, dimension, value, shard, events)
SELECT timestamptz '2000-01-01 00:00+00' + quarter * interval '15 minutes', $1::text::source,
       dimension::audience_dimension, CASE WHEN dimension = 'country' THEN known.country ELSE value END, $2, sum(events)
FROM unnest($8::integer[], $9::text[], $10::text[], $11::integer[]) AS met (quarter, dimension, value, events)
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

-- name: keep_dead_letters
INSERT INTO dead_letters (stream, source, published_at, stream_sequence, received_at, position, reason, path, detail,
                          correlation_id, event)
SELECT $1, $2, dead_letter.*
FROM unnest($3::timestamptz[], $4::bigint[], $5::timestamptz[], $6::integer[], $7::text[], $8::text[], $9::text[],
            $10::text[], $11::bytea[]) AS dead_letter
ON CONFLICT (stream, stream_sequence, published_at, position) DO NOTHING
