-- Counts of events. Spans of whole units without a bound fall into buckets by themselves: a bucket is the number of
-- meeting points that they do not lie before. The others come by the number of their bound, -1 for the first (see
-- reporter/cover.py). A filter that is NULL lets everything pass; a column that is not grouped by comes as NULL.

-- name: rollups
WITH span AS (
    SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::integer[], $5::integer[])
        AS span (unit, lower, upper, number, sign)
)
SELECT coalesce(number, width_bucket(bucket, $6::timestamptz[])) AS number, source::text,
       CASE WHEN $10 THEN funnel_stage END::text AS funnel_stage,
       CASE WHEN $11 THEN event_type END::text AS event_type,
       sum(sign * events)::bigint AS events
FROM (
    SELECT number, sign, bucket, source, funnel_stage, event_type, events
    FROM span JOIN event_totals total ON total.unit = span.unit::rollup_unit AND bucket >= lower AND bucket < upper
    WHERE span.unit <> 'quarter'
    UNION ALL
    SELECT number, sign, bucket, source, funnel_stage, event_type, events
    FROM span JOIN event_counts ON bucket >= lower AND bucket < upper
    WHERE span.unit = 'quarter'
) AS counted
WHERE source = ANY ($7::source[])
  AND ($8::funnel_stage IS NULL OR funnel_stage = $8)
  AND ($9::event_type IS NULL OR event_type = $9)
GROUP BY 1, 2, 3, 4

-- name: facebook_rows
SELECT coalesce($3, width_bucket(event_time, $4::timestamptz[])) AS number,
       CASE WHEN $7 THEN funnel_stage END::text AS funnel_stage,
       CASE WHEN $8 THEN event_type END::text AS event_type,
       count(*) AS events
FROM facebook_events
WHERE event_time >= $1 AND event_time < $2
  AND ($5::funnel_stage IS NULL OR funnel_stage = $5)
  AND ($6::event_type IS NULL OR event_type = $6)
GROUP BY 1, 2, 3

-- name: tiktok_rows
SELECT coalesce($3, width_bucket(event_time, $4::timestamptz[])) AS number,
       CASE WHEN $7 THEN funnel_stage END::text AS funnel_stage,
       CASE WHEN $8 THEN event_type END::text AS event_type,
       count(*) AS events
FROM tiktok_events
WHERE event_time >= $1 AND event_time < $2
  AND ($5::funnel_stage IS NULL OR funnel_stage = $5)
  AND ($6::event_type IS NULL OR event_type = $6)
GROUP BY 1, 2, 3
