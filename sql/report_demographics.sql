-- Who the events come from. The value of a country that has no rollup of its own is NULL: it counts as other.
-- Numbers and rollups as in report_events.

-- name: rollups
WITH span AS (
    SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::integer[], $5::integer[])
        AS span (unit, lower, upper, number, sign)
), summed AS (
    SELECT coalesce(number, width_bucket(bucket, $6::timestamptz[])) AS number, source, dimension, value,
           sum(sign * events)::bigint AS events
    FROM (
        SELECT number, sign, bucket, source, dimension, value, events
        FROM span JOIN audience_totals total ON total.unit = span.unit::rollup_unit AND bucket >= lower AND bucket < upper
        WHERE span.unit <> 'quarter' AND source = ANY ($7::source[]) AND dimension = ANY ($8::audience_dimension[])
        UNION ALL
        SELECT number, sign, bucket, source, dimension, value, events
        FROM span JOIN audience_counts ON bucket >= lower AND bucket < upper
        WHERE span.unit = 'quarter' AND source = ANY ($7::source[]) AND dimension = ANY ($8::audience_dimension[])
    ) AS counted
    GROUP BY 1, 2, 3, 4
)
SELECT source::text, stored_until, pending_messages, observed_at, statement_timestamp() AS read_at,
       numbers, dimensions, values, events
FROM unnest($7::source[]) AS asked (source)
LEFT JOIN watermarks USING (source)
LEFT JOIN (
    SELECT source, array_agg(number) AS numbers, array_agg(dimension::text) AS dimensions,
           array_agg(value) AS values, array_agg(events) AS events
    FROM summed GROUP BY source
) AS figures USING (source)

-- name: facebook_rows
-- Counted once by the columns themselves; then named as the rollups name them.
WITH seen AS (
    SELECT number,
           CASE WHEN grouping(age) = 0 THEN 'age' WHEN grouping(gender) = 0 THEN 'gender' ELSE 'country' END AS dimension,
           age, gender, country, count(*) AS events
    FROM (
        SELECT coalesce($3, width_bucket(event_time, $4::timestamptz[])) AS number, age, gender, country
        FROM facebook_events
        WHERE event_time >= $1 AND event_time < $2
          AND ($6::funnel_stage IS NULL OR funnel_stage = $6)
          AND ($7::event_type IS NULL OR event_type = $7)
    ) AS event
    GROUP BY GROUPING SETS ((number, age), (number, gender), (number, country))
)
SELECT number, dimension,
       CASE dimension WHEN 'age' THEN age_band(age) WHEN 'gender' THEN gender::text ELSE known.country END AS value,
       sum(events)::bigint AS events
FROM seen LEFT JOIN known_countries known ON known.country = seen.country
WHERE dimension = ANY ($5::text[])
GROUP BY 1, 2, 3

-- name: tiktok_rows
-- Country and device stand on top-stage events alone.
WITH seen AS (
    SELECT number,
           CASE WHEN grouping(band) = 0 THEN 'followers' WHEN grouping(device) = 0 THEN 'device' ELSE 'country'
           END AS dimension,
           band, device, country, count(*) AS events
    FROM (
        SELECT coalesce($3, width_bucket(event_time, $4::timestamptz[])) AS number,
               followers_band(followers) AS band, device, country
        FROM tiktok_events
        WHERE event_time >= $1 AND event_time < $2
          AND ($6::funnel_stage IS NULL OR funnel_stage = $6)
          AND ($7::event_type IS NULL OR event_type = $7)
    ) AS event
    GROUP BY GROUPING SETS ((number, band), (number, device), (number, country))
)
SELECT number, dimension,
       CASE dimension WHEN 'followers' THEN band WHEN 'device' THEN device::text ELSE known.country END AS value,
       sum(events)::bigint AS events
FROM seen LEFT JOIN known_countries known ON known.country = seen.country
WHERE dimension = ANY ($5::text[]) AND (dimension = 'followers' OR device IS NOT NULL OR seen.country IS NOT NULL)
GROUP BY 1, 2, 3

-- name: cities
-- Each bucket's most frequent ones, or those in $7. A city is nearly unique to its event: no rollup could hold them.
SELECT number, city AS value, events
FROM (
    SELECT number, city, events, row_number() OVER (PARTITION BY number ORDER BY events DESC, city) AS place
    FROM (
        SELECT width_bucket(event_time, $3::timestamptz[]) AS number, city, count(*) AS events
        FROM facebook_events
        WHERE event_time >= $1 AND event_time < $2
          AND ($5::funnel_stage IS NULL OR funnel_stage = $5)
          AND ($6::event_type IS NULL OR event_type = $6)
          AND ($7::text[] IS NULL OR city = ANY ($7))
        GROUP BY 1, 2
    ) AS counted
) AS ranked
WHERE place <= $4
ORDER BY number, place
