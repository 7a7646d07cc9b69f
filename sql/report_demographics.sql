-- Events by audience dimension. A country that has no rollup of its own has the value NULL, which means other.
-- Buckets, bounds and rollups are those of report_events.

-- name: rollups
WITH read_range AS (
    SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::integer[], $5::integer[])
        AS read_range (unit, lower, upper, bound, sign)
), summed AS (
    SELECT CASE WHEN bound IS NULL THEN width_bucket(start, $6::timestamptz[]) END AS bucket, bound, source,
           dimension, value, sum(sign * events)::bigint AS events
    FROM (
        SELECT bound, sign, bucket AS start, source, dimension, value, events
        FROM read_range JOIN audience_totals total ON total.unit = read_range.unit::rollup_unit AND bucket >= lower AND bucket < upper
        WHERE read_range.unit <> 'quarter' AND source = ANY ($7::source[]) AND dimension = ANY ($8::audience_dimension[])
        UNION ALL
        SELECT bound, sign, bucket AS start, source, dimension, value, events
        FROM read_range JOIN audience_counts ON bucket >= lower AND bucket < upper
        WHERE read_range.unit = 'quarter' AND source = ANY ($7::source[]) AND dimension = ANY ($8::audience_dimension[])
    ) AS counted
    GROUP BY 1, 2, 3, 4, 5
)
SELECT source::text, stored_until, pending_messages, observed_at, statement_timestamp() AS read_at,
       bucket, bound, dimension, value, events
FROM unnest($7::source[]) AS requested (source)
LEFT JOIN watermarks USING (source)
LEFT JOIN (
    SELECT source, array_agg(bucket) AS bucket, array_agg(bound) AS bound, array_agg(dimension::text) AS dimension,
           array_agg(value) AS value, array_agg(events) AS events
    FROM summed GROUP BY source
) AS figures USING (source)
