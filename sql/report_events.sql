-- Counts of events. A bucket is the number of bounds inside the report that its events do not lie before; the
-- report's own ends are not among them, so what lies outside falls into the nearest bucket.
-- A filter that is NULL lets everything pass; a column that is not grouped by comes as NULL.

-- name: rollups
SELECT width_bucket(bucket, $5::timestamptz[]) AS bucket, source,
       CASE WHEN $8 THEN funnel_stage END AS funnel_stage,
       CASE WHEN $9 THEN event_type END AS event_type,
       sum(events)::bigint AS events
FROM event_counts
WHERE bucket >= $1 AND bucket < $2 AND bucket <> ALL ($3::timestamptz[])
  AND source = ANY ($4::source[])
  AND ($6::funnel_stage IS NULL OR funnel_stage = $6)
  AND ($7::event_type IS NULL OR event_type = $7)
GROUP BY 1, 2, 3, 4

-- name: facebook_rows
SELECT width_bucket(event_time, $3::timestamptz[]) AS bucket,
       CASE WHEN $6 THEN funnel_stage END AS funnel_stage,
       CASE WHEN $7 THEN event_type END AS event_type,
       count(*) AS events
FROM facebook_events
WHERE event_time >= $1 AND event_time < $2
  AND ($4::funnel_stage IS NULL OR funnel_stage = $4)
  AND ($5::event_type IS NULL OR event_type = $5)
GROUP BY 1, 2, 3

-- name: tiktok_rows
SELECT width_bucket(event_time, $3::timestamptz[]) AS bucket,
       CASE WHEN $6 THEN funnel_stage END AS funnel_stage,
       CASE WHEN $7 THEN event_type END AS event_type,
       count(*) AS events
FROM tiktok_events
WHERE event_time >= $1 AND event_time < $2
  AND ($4::funnel_stage IS NULL OR funnel_stage = $4)
  AND ($5::event_type IS NULL OR event_type = $5)
GROUP BY 1, 2, 3
