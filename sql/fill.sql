-- What fills a database with made events: whole days at once, straight into their partitions, receipts and rollups of
-- the same transaction. {partition} is a leaf's name, made of a date.

-- name: receipt
-- One for all events of a source and day. Its instant lies before the life of any stream: of the ledger's lines it
-- stands on the store's alone.
INSERT INTO receipts (stream, stream_sequence, published_at, events, stored) VALUES ($1, $2, '2000-01-01Z', $3, $3)

-- name: lock_countries
SELECT pg_advisory_xact_lock(hashtext('sluice.countries'))

-- name: learn_countries
-- As a collector learns them, before any of these rows is counted.
INSERT INTO known_countries
SELECT DISTINCT country FROM {partition} AS event
WHERE stream_sequence = $1 AND length(country) <= 64
  AND NOT EXISTS (SELECT FROM known_countries known WHERE known.country = event.country)
ORDER BY country
LIMIT greatest(0, 1000 - (SELECT count(*) FROM known_countries))
ON CONFLICT DO NOTHING

-- name: count_events
-- Shard -1 is no collector's: neither waits for the other.
INSERT INTO event_counts AS kept (bucket, source, funnel_stage, event_type, shard, events, revenue)
SELECT quarter_hour(event_time) AS bucket, $2::text::source, funnel_stage, event_type, -1, count(*),
       coalesce(sum(purchase_amount) FILTER (WHERE event_type IN ('checkout.complete', 'purchase')), 0)
FROM {partition}
WHERE stream_sequence = $1
GROUP BY bucket, funnel_stage, event_type
ORDER BY bucket, funnel_stage, event_type
ON CONFLICT (bucket, source, funnel_stage, event_type, shard)
DO UPDATE SET events = kept.events + excluded.events, revenue = kept.revenue + excluded.revenue

-- name: count_facebook
WITH seen AS (
    SELECT quarter_hour(event_time) AS bucket,
           CASE WHEN grouping(age) = 0 THEN 'age' WHEN grouping(gender) = 0 THEN 'gender' ELSE 'country'
           END::audience_dimension AS dimension,
           age, gender, country, count(*) AS events
    FROM {partition} WHERE stream_sequence = $1
    GROUP BY GROUPING SETS ((quarter_hour(event_time), age), (quarter_hour(event_time), gender),
                            (quarter_hour(event_time), country))
)
INSERT INTO audience_counts AS kept (bucket, source, dimension, value, shard, events)
SELECT bucket, 'facebook', dimension,
       CASE dimension WHEN 'age' THEN age_band(age) WHEN 'gender' THEN gender::text ELSE known.country END AS value, -1,
       sum(events)
FROM seen LEFT JOIN known_countries known ON seen.dimension = 'country' AND known.country = seen.country
GROUP BY bucket, dimension, 4
ORDER BY dimension, bucket, value
ON CONFLICT (source, dimension, bucket, value, shard) DO UPDATE SET events = kept.events + excluded.events

-- name: count_tiktok
WITH seen AS (
    SELECT quarter_hour(event_time) AS bucket,
           CASE WHEN grouping(followers_band(followers)) = 0 THEN 'followers'
                WHEN grouping(device) = 0 THEN 'device' ELSE 'country' END::audience_dimension AS dimension,
           followers_band(followers) AS followers, device, country, count(*) AS events
    FROM {partition} WHERE stream_sequence = $1
    GROUP BY GROUPING SETS ((quarter_hour(event_time), followers_band(followers)), (quarter_hour(event_time), device),
                            (quarter_hour(event_time), country))
)
INSERT INTO audience_counts AS kept (bucket, source, dimension, value, shard, events)
SELECT bucket, 'tiktok', dimension,
       CASE dimension WHEN 'followers' THEN followers WHEN 'device' THEN device::text ELSE known.country END AS value, -1,
       sum(events)
FROM seen LEFT JOIN known_countries known ON seen.dimension = 'country' AND known.country = seen.country
WHERE dimension = 'followers' OR device IS NOT NULL OR seen.country IS NOT NULL
GROUP BY bucket, dimension, 4
ORDER BY dimension, bucket, value
ON CONFLICT (source, dimension, bucket, value, shard) DO UPDATE SET events = kept.events + excluded.events

-- name: analyze
ANALYZE {partition}
