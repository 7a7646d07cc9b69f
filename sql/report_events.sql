-- Counts of events. Units of a range without a bound have a bucket: the number of bounds between buckets ($6) at or
-- before their start. Units of other ranges have the number of their bound and no bucket (see reporter/read_plan.py).
-- A filter is a list of values; NULL matches everything. A column that is not grouped by is NULL.
-- The result has one row for each source, with its watermark and an array for each column. One row for each figure
-- would take longer to send and decode than to count.

-- name: rollups
WITH read_range AS (
    SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::integer[], $5::integer[])
        AS read_range (unit, lower, upper, bound, sign)
), summed AS (
    SELECT CASE WHEN bound IS NULL THEN width_bucket(start, $6::timestamptz[]) END AS bucket, bound, source,
           CASE WHEN $10 THEN funnel_stage END::text AS funnel_stage,
           CASE WHEN $11 THEN event_type END::text AS event_type,
           sum(sign * events)::bigint AS events
    FROM (
        SELECT bound, sign, bucket AS start, source, funnel_stage, event_type, events
        FROM read_range JOIN event_totals total ON total.unit = read_range.unit::rollup_unit AND bucket >= lower AND bucket < upper
        WHERE read_range.unit <> 'quarter'
        UNION ALL
        SELECT bound, sign, bucket AS start, source, funnel_stage, event_type, events
        FROM read_range JOIN event_counts ON bucket >= lower AND bucket < upper
        WHERE read_range.unit = 'quarter'
    ) AS counted
    WHERE source = ANY ($7::source[])
      AND ($8::funnel_stage[] IS NULL OR funnel_stage = ANY ($8))
      AND ($9::event_type[] IS NULL OR event_type = ANY ($9))
    GROUP BY 1, 2, 3, 4, 5
)
SELECT source::text, stored_until, pending_messages, observed_at, statement_timestamp() AS read_at,
       bucket, bound, funnel_stage, event_type, events
FROM unnest($7::source[]) AS requested (source)
LEFT JOIN watermarks USING (source)
LEFT JOIN (
    SELECT source, array_agg(bucket) AS bucket, array_agg(bound) AS bound, array_agg(funnel_stage) AS funnel_stage,
           array_agg(event_type) AS event_type, array_agg(events) AS events
    FROM summed GROUP BY source
) AS figures USING (source)

-- name: rows
-- {table} is the partitioned table of a source.
SELECT CASE WHEN $3::integer IS NULL THEN width_bucket(event_time, $4::timestamptz[]) END AS bucket, $3::integer AS bound,
       CASE WHEN $7 THEN funnel_stage END::text AS funnel_stage,
       CASE WHEN $8 THEN event_type END::text AS event_type,
       count(*) AS events
FROM {table}
WHERE event_time >= $1 AND event_time < $2
  AND ($5::funnel_stage[] IS NULL OR funnel_stage = ANY ($5))
  AND ($6::event_type[] IS NULL OR event_type = ANY ($6))
GROUP BY 1, 2, 3, 4
