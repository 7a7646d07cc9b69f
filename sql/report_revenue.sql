-- Revenue is the amounts of one event type of each source ($8, in the order of the sources in $7).
-- Buckets, bounds and rollups are those of report_events.

-- name: rollups
WITH read_range AS (
    SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::integer[], $5::integer[])
        AS read_range (unit, lower, upper, bound, sign)
), summed AS (
    SELECT CASE WHEN bound IS NULL THEN width_bucket(start, $6::timestamptz[]) END AS bucket, bound, source,
           sum(sign * events)::bigint AS purchases, sum(sign * revenue) AS revenue
    FROM (
        SELECT bound, sign, bucket AS start, source, event_type, events, revenue
        FROM read_range JOIN event_totals total ON total.unit = read_range.unit::rollup_unit AND bucket >= lower AND bucket < upper
        WHERE read_range.unit <> 'quarter'
        UNION ALL
        SELECT bound, sign, bucket AS start, source, event_type, events, revenue
        FROM read_range JOIN event_counts ON bucket >= lower AND bucket < upper
        WHERE read_range.unit = 'quarter'
    ) AS counted
    WHERE source = ANY ($7::source[]) AND event_type = ($8::event_type[])[array_position($7::source[], source)]
    GROUP BY 1, 2, 3
)
SELECT source::text, stored_until, pending_messages, observed_at, statement_timestamp() AS read_at,
       bucket, bound, purchases, revenue
FROM unnest($7::source[]) AS requested (source)
LEFT JOIN watermarks USING (source)
LEFT JOIN (
    SELECT source, array_agg(bucket) AS bucket, array_agg(bound) AS bound, array_agg(purchases) AS purchases,
           array_agg(revenue) AS revenue
    FROM summed GROUP BY source
) AS figures USING (source)

-- name: rows
-- {table} is the partitioned table of a source, {purchase} the event type of its purchases.
SELECT CASE WHEN $3::integer IS NULL THEN width_bucket(event_time, $4::timestamptz[]) END AS bucket, $3::integer AS bound,
       count(*) AS purchases, coalesce(sum(purchase_amount), 0) AS revenue
FROM {table}
WHERE event_time >= $1 AND event_time < $2 AND event_type = '{purchase}'
GROUP BY 1, 2
