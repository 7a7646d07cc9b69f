-- The registry of countries: free places, and the rebuild while collectors store.

-- name: free_places
SELECT greatest(0, 1000 - count(*)) FROM known_countries WHERE NOT reserved

-- name: create_count_tables
-- quarter_hours: events in the rollups at the time when unknown_counts was counted from the rows.
CREATE TEMPORARY TABLE quarter_hours (source source, bucket timestamptz, events bigint, PRIMARY KEY (source, bucket));
CREATE TEMPORARY TABLE changed_hours (LIKE quarter_hours);
CREATE TEMPORARY TABLE unknown_counts (
    source source, bucket timestamptz, country text COLLATE "C", events bigint, PRIMARY KEY (source, bucket, country)
)

-- name: find_changed
-- Quarter-hours of the kept days whose rows changed since they were counted. The rollups show it: they equal the rows.
WITH kept AS (
    SELECT source, bucket, sum(events)::bigint AS events
    FROM event_counts JOIN partition_floors ON parent = source || '_events'
    WHERE bucket >= floor::timestamp AT TIME ZONE 'UTC'
    GROUP BY source, bucket
)
INSERT INTO changed_hours SELECT * FROM kept EXCEPT SELECT * FROM quarter_hours

-- name: delete_changed_counts
DELETE FROM unknown_counts USING changed_hours changed
WHERE unknown_counts.source = changed.source AND unknown_counts.bucket = changed.bucket

-- name: count_changed
-- Count the countries without a place in these quarter-hours, from the rows: `country_rows` of sources.sql.
WITH read AS (
    INSERT INTO quarter_hours SELECT * FROM changed_hours
    ON CONFLICT (source, bucket) DO UPDATE SET events = excluded.events
), seen AS (
    SELECT changed.source, bucket, country
    FROM changed_hours changed, LATERAL (
{rows}
    ) AS event
    WHERE length(country) <= 64 AND NOT EXISTS (SELECT FROM known_countries known WHERE known.country = event.country)
)
INSERT INTO unknown_counts SELECT source, bucket, country, count(*) FROM seen GROUP BY source, bucket, country

-- name: clear_changed
DELETE FROM changed_hours

-- name: lock_registry
-- Wait for transactions that read the registry, and block new ones, so that no rollup of a country changes.
SET LOCAL lock_timeout = '2s';
LOCK TABLE known_countries IN ACCESS EXCLUSIVE MODE

-- name: select_countries
-- All countries of the kept days without a reserved place, by frequency. The first 800 get a place; 200 places stay
-- free for new countries. The others are stored in other_countries. With more than 100,000, the first 1,000 get a
-- place instead.
CREATE TEMPORARY TABLE counted_countries ON COMMIT DROP AS
SELECT country, row_number() OVER (ORDER BY sum(events) DESC, country) AS number
FROM (
    SELECT value AS country, sum(events) AS events
    FROM audience_totals JOIN partition_floors ON parent = source || '_events'
    WHERE unit = 'day' AND dimension = 'country' AND bucket >= floor::timestamp AT TIME ZONE 'UTC'
    GROUP BY value
    UNION ALL
    SELECT country, sum(events) FROM unknown_counts GROUP BY country
) AS seen
WHERE country IS NOT NULL AND events > 0 AND country NOT IN (SELECT reserved_countries())
GROUP BY country;
CREATE TEMPORARY TABLE placed_countries ON COMMIT DROP AS
SELECT reserved_countries() COLLATE "C" AS country, true AS reserved
UNION ALL
SELECT country, false FROM counted_countries
WHERE number <= CASE WHEN (SELECT count(*) FROM counted_countries) <= 100000 THEN 800 ELSE 1000 END;
DELETE FROM other_countries;
INSERT INTO other_countries
SELECT country FROM counted_countries WHERE number > 800 AND (SELECT count(*) FROM counted_countries) <= 100000

-- name: remove_countries
UPDATE known_countries known SET reserved = placed.reserved
FROM placed_countries placed
WHERE placed.country = known.country AND placed.reserved <> known.reserved;
DELETE FROM known_countries known
WHERE NOT EXISTS (SELECT FROM placed_countries placed WHERE placed.country = known.country)

-- name: add_countries
INSERT INTO known_countries (country, reserved) SELECT country, reserved FROM placed_countries
ON CONFLICT (country) DO NOTHING

-- name: count_removed
-- Add the rollups of countries without a place to those of other, for the days whose rows are kept.
WITH removed AS (
    DELETE FROM audience_counts USING partition_floors
    WHERE parent = source || '_events' AND bucket >= floor::timestamp AT TIME ZONE 'UTC'
      AND dimension = 'country' AND value IS NOT NULL
      AND NOT EXISTS (SELECT FROM known_countries known WHERE known.country = value)
    RETURNING bucket, source, shard, events
)
INSERT INTO audience_counts AS kept (bucket, source, dimension, value, shard, events)
SELECT bucket, source, 'country', NULL, shard, sum(events) FROM removed GROUP BY bucket, source, shard
ON CONFLICT (source, dimension, bucket, value, shard) DO UPDATE SET events = kept.events + excluded.events

-- name: count_other
-- Subtract the added countries, which get rollups of their own, from the rollups of other.
WITH moved AS (
    SELECT source, bucket, sum(events) AS events FROM unknown_counts JOIN known_countries USING (country)
    GROUP BY source, bucket
), other AS (
    DELETE FROM audience_counts USING moved
    WHERE audience_counts.source = moved.source AND audience_counts.bucket = moved.bucket
      AND dimension = 'country' AND value IS NULL
    RETURNING audience_counts.source, audience_counts.bucket, audience_counts.events
)
INSERT INTO audience_counts (bucket, source, dimension, value, shard, events)
SELECT bucket, source, 'country', NULL, -1, sum(other.events) - moved.events
FROM other JOIN moved USING (source, bucket)
GROUP BY source, bucket, moved.events
HAVING sum(other.events) > moved.events

-- name: count_added
INSERT INTO audience_counts AS kept (bucket, source, dimension, value, shard, events)
SELECT bucket, source, 'country', country, -1, events FROM unknown_counts JOIN known_countries USING (country)
ON CONFLICT (source, dimension, bucket, value, shard) DO UPDATE SET events = kept.events + excluded.events

-- name: drop_empty_totals
DELETE FROM audience_totals WHERE dimension = 'country' AND events = 0
