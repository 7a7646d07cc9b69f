-- Who the events come from. The value of a country that has no rollup of its own is NULL: it counts as other.

-- name: rollups
SELECT source, dimension, value, sum(events)::bigint AS events
FROM audience_counts
WHERE source = ANY ($4::source[]) AND bucket >= $1 AND bucket < $2 AND bucket <> ALL ($3::timestamptz[])
GROUP BY 1, 2, 3

-- name: facebook_rows
-- Counted once by the columns themselves; then named as the rollups name them.
WITH seen AS (
    SELECT CASE WHEN grouping(age) = 0 THEN 'age' WHEN grouping(gender) = 0 THEN 'gender' ELSE 'country' END AS dimension,
           age, gender, country, count(*) AS events
    FROM facebook_events
    WHERE event_time >= $1 AND event_time < $2
    GROUP BY GROUPING SETS ((age), (gender), (country))
)
SELECT dimension,
       CASE dimension WHEN 'age' THEN age_band(age) WHEN 'gender' THEN gender::text ELSE known.country END AS value,
       sum(events)::bigint AS events
FROM seen LEFT JOIN known_countries known ON known.country = seen.country
GROUP BY 1, 2

-- name: tiktok_rows
-- Country and device stand on top-stage events alone.
WITH seen AS (
    SELECT CASE WHEN grouping(band) = 0 THEN 'followers' WHEN grouping(device) = 0 THEN 'device' ELSE 'country'
           END AS dimension,
           band, device, country, count(*) AS events
    FROM (
        SELECT followers_band(followers) AS band, device, country FROM tiktok_events
        WHERE event_time >= $1 AND event_time < $2
    ) AS event
    GROUP BY GROUPING SETS ((band), (device), (country))
)
SELECT dimension,
       CASE dimension WHEN 'followers' THEN band WHEN 'device' THEN device::text ELSE known.country END AS value,
       sum(events)::bigint AS events
FROM seen LEFT JOIN known_countries known ON known.country = seen.country
WHERE dimension = 'followers' OR device IS NOT NULL OR seen.country IS NOT NULL
GROUP BY 1, 2

-- name: cities
-- The most frequent ones. A city is nearly unique to its event: no rollup could hold them.
SELECT city AS value, count(*) AS events
FROM facebook_events
WHERE event_time >= $1 AND event_time < $2
GROUP BY city
ORDER BY events DESC, city
LIMIT $3
