-- Templates of the statements that differ between sources. [[placeholders]] are replaced by parts of the source's
-- declaration. `python -m ops.source_sql` renders them into sql/sources.sql. {partition} is filled in by the collector.

-- name: merge
-- Insert the staged rows into one day's leaf partition. The first copy of an event wins: later copies are repeats.
-- All writes are in key order, so that two collectors of the same day wait for each other instead of deadlocking.
-- The rollups count only the rows that were inserted.
WITH inserted AS (
    INSERT INTO {partition}
    SELECT * FROM staging ORDER BY event_time, event_id
    ON CONFLICT (event_time, event_id) DO NOTHING
    RETURNING stream_sequence, quarter_hour(event_time) AS bucket, funnel_stage, event_type, purchase_amount,
              [[values]]
), counted AS (
    INSERT INTO event_counts AS kept (bucket, source, funnel_stage, event_type, shard, events, revenue)
    SELECT bucket, '[[source]]', funnel_stage, event_type, $1, count(*),
           coalesce(sum(purchase_amount) FILTER (WHERE event_type = '[[purchase]]'), 0)
    FROM inserted
    GROUP BY bucket, funnel_stage, event_type
    ORDER BY bucket, funnel_stage, event_type
    ON CONFLICT (bucket, source, funnel_stage, event_type, shard)
    DO UPDATE SET events = kept.events + excluded.events, revenue = kept.revenue + excluded.revenue
), seen AS (
    SELECT bucket, [[dimension]]::audience_dimension AS dimension,
           [[columns]], count(*) AS events
    FROM inserted
    GROUP BY GROUPING SETS ([[buckets]])
), valued AS (
    SELECT bucket, dimension, [[value]] AS value, sum(events) AS events
    FROM seen [[registry]]
    WHERE [[known]]
    GROUP BY 1, 2, 3
), counted_audience AS (
    INSERT INTO audience_counts AS kept (bucket, source, dimension, value, shard, events)
    SELECT bucket, '[[source]]', dimension, value, $1, events FROM valued ORDER BY dimension, bucket, value
    ON CONFLICT (source, dimension, bucket, value, shard) DO UPDATE SET events = kept.events + excluded.events
)
SELECT stream_sequence, count(*) AS stored FROM inserted GROUP BY stream_sequence

-- name: audience_rows
-- The audience of rows: counted by the columns' values, then converted to the labels of the rollups.
WITH seen AS (
    SELECT bucket, [[dimension]] AS dimension,
           [[columns]], count(*) AS events
    FROM (
        SELECT CASE WHEN $3::integer IS NULL THEN width_bucket(event_time, $4::timestamptz[]) END AS bucket,
               [[values]]
        FROM [[source]]_events
        WHERE event_time >= $1 AND event_time < $2
          AND ($6::funnel_stage[] IS NULL OR funnel_stage = ANY ($6))
          AND ($7::event_type[] IS NULL OR event_type = ANY ($7))
    ) AS event
    GROUP BY GROUPING SETS ([[buckets]])
)
SELECT bucket, $3::integer AS bound, dimension, [[value]] AS value, sum(events)::bigint AS events
FROM seen [[registry]]
WHERE dimension = ANY ($5::text[]) AND [[known]]
GROUP BY 1, 2, 3, 4

-- name: purchases_of_campaign
-- Uses the index of each day, on the campaign's hash and the event time, with the purchase type as its condition.
SELECT '[[source]]' AS source, event_time, purchase_amount
FROM [[source]]_events
WHERE hashtextextended([[campaign]], 0) = hashtextextended($4::text, 0) AND [[campaign]] = $4::text
  AND event_type = '[[purchase]]' AND event_time >= $1 AND event_time < $2 AND '[[source]]' = ANY ($5::text[])

-- name: campaign
-- Purchases of campaign $4.
SELECT width_bucket(event_time, $3::timestamptz[]) AS bucket, source,
       count(*) AS purchases, coalesce(sum(purchase_amount), 0) AS revenue
FROM (
[[purchases_of_campaign]]
) AS purchase
GROUP BY 1, 2

-- name: countries_of
SELECT [[country]] AS country FROM [[source]]_events
WHERE changed.source = '[[source]]' AND event_time >= bucket AND event_time < bucket + interval '15 minutes'

-- name: country_rows
-- The countries in the rows of one quarter-hour of the source `changed.source`.
[[countries_of]]

-- name: count_breakdowns
-- Count a quarter-hour ($1, its start) by every breakdown, from its rows, in one scan; list at most $2 values of each.
-- A breakdown is its number here. A dimension that is part of a pair is counted with the pair. Integers: their sums are
-- cheap. Returns how many rows there are: the caller compares that with the rollups, and commits only if they are equal.
WITH grouped AS MATERIALIZED (
    SELECT [[number]] AS number, event_type, [[columns]],
           count(*)::integer AS events, sum(purchase_amount) FILTER (WHERE event_type = '[[purchase]]') AS revenue
    FROM (
        SELECT event_type, purchase_amount, [[values]]
        FROM [[source]]_events
        WHERE event_time >= $1 AND event_time < $1::timestamptz + interval '15 minutes'
    ) AS event
    GROUP BY GROUPING SETS ([[sets]])
), named AS (
[[named]]
), valued AS MATERIALIZED (
    SELECT number, value, second, sum(events) AS total, coalesce(sum(revenue), 0) AS revenue,
           [[pivoted]]
    FROM named
    GROUP BY number, value, second
), carried AS (
    SELECT 0 AS number, 0::bigint AS events, 0::numeric AS revenue WHERE false
), unit AS (
    SELECT 'quarter'::breakdown_unit AS unit
), [[fold]]
SELECT coalesce(sum(events), 0)::bigint FROM grouped WHERE number = 1

-- name: total_breakdowns
-- Add the buckets of a finer unit ($3, from $1 to $4) up to the one of unit $5 that starts at $1; list at most $2 values.
-- A value that a finer bucket does not list may have events there: `carried` bounds how many.
WITH finer AS MATERIALIZED (
    SELECT array_position(ARRAY[[[names]]], breakdown) AS number, breakdown_counts.* FROM breakdown_counts
    WHERE source = '[[source]]' AND unit = $3::text::breakdown_unit AND bucket >= $1 AND bucket < $4
      AND breakdown IN ([[names]])
), valued AS MATERIALIZED (
    SELECT number, value, second, sum(total)::bigint AS total, sum(listed.revenue) AS revenue,
           [[summed]]
    FROM finer, LATERAL unnest(
        finer.values, finer.seconds, finer.totals, finer.revenue,
        [[slices]]
    ) AS listed (value, second, total, revenue, [[counts]])
    GROUP BY number, value, second
), carried AS (
    SELECT number, sum(unlisted_error)::bigint AS events, sum(unlisted_revenue_error) AS revenue
    FROM finer GROUP BY number
), unit AS (
    SELECT $5::text::breakdown_unit AS unit
), [[fold]]
SELECT count(*) FROM written

-- name: fold
-- The values with most events, and all others as one. `cut` is the first value that is not listed.
top AS MATERIALIZED (
    SELECT top.*, row_number() OVER (PARTITION BY number) AS place
    FROM generate_series(1, cardinality(ARRAY[[[names]]])) AS breakdown
    CROSS JOIN LATERAL (
        SELECT * FROM valued WHERE number = breakdown AND value IS NOT NULL
        ORDER BY total DESC, revenue DESC, value COLLATE "C", second COLLATE "C"
        LIMIT $2::integer + 1
    ) AS top
), cut AS (
    SELECT * FROM top WHERE place = $2::integer + 1
), other AS (
    SELECT number, sum(total)::bigint AS total, sum(revenue) AS revenue, max(revenue) FILTER (WHERE value IS NOT NULL) AS most,
           [[summed]]
    FROM (
        SELECT valued.* FROM cut JOIN valued USING (number)
        WHERE valued.value IS NOT NULL AND
              (-valued.total, -valued.revenue, valued.value COLLATE "C", coalesce(valued.second, '') COLLATE "C")
              >= (-cut.total, -cut.revenue, cut.value COLLATE "C", coalesce(cut.second, '') COLLATE "C")
        UNION ALL
        SELECT * FROM valued WHERE value IS NULL
    ) AS valued
    GROUP BY number
), packed AS (
    SELECT number, array_agg(value) AS values, array_agg(second) AS seconds, array_agg(total) AS totals,
           ARRAY[[[arrays]]] AS events, array_agg(revenue) AS revenue
    FROM (
        SELECT number, place, value, second, total, revenue, [[counts]] FROM top WHERE place <= $2::integer
        UNION ALL
        SELECT number, $2::integer + 1, NULL, NULL, total, revenue, [[counts]] FROM other
        ORDER BY number, place
    ) AS folded
    GROUP BY number
), written AS (
    INSERT INTO breakdown_counts (source, breakdown, unit, bucket, event_types, values, seconds, totals, events, revenue,
                                  listed_error, unlisted_error, listed_revenue_error, unlisted_revenue_error)
    SELECT '[[source]]', (ARRAY[[[names]]])[number], unit, $1, ARRAY[[[types]]]::event_type[], packed.values,
           CASE WHEN number = ANY (ARRAY[[[pairs]]]::integer[]) THEN packed.seconds END,
           packed.totals, packed.events, packed.revenue,
           coalesce(carried.events, 0), coalesce(carried.events, 0) + coalesce(cut.total, 0),
           coalesce(carried.revenue, 0),
           coalesce(carried.revenue, 0) + CASE WHEN cut.total IS NULL THEN 0 ELSE other.most END
    FROM unit, packed LEFT JOIN carried USING (number) LEFT JOIN cut USING (number) LEFT JOIN other USING (number)
    ON CONFLICT (source, breakdown, unit, bucket) DO UPDATE
    SET event_types = excluded.event_types, values = excluded.values, seconds = excluded.seconds,
        totals = excluded.totals, events = excluded.events, revenue = excluded.revenue,
        listed_error = excluded.listed_error, unlisted_error = excluded.unlisted_error,
        listed_revenue_error = excluded.listed_revenue_error, unlisted_revenue_error = excluded.unlisted_revenue_error
    RETURNING 1
)

-- name: breakdown
-- One breakdown of `grouped`.
    SELECT [[breakdown]] AS number, event_type, [[value]]::text AS value, [[second]]::text AS second, events, revenue
    FROM grouped WHERE number = [[set]] AND [[value]] IS NOT NULL[[and]]

-- name: breakdown_rows
-- The rows of a source, with the values of one breakdown: a part of `read` in sql/report_breakdowns.sql.
SELECT event_time, event_type, [[one_value]]::text AS value, [[one_second]]::text AS second,
       CASE WHEN event_type = '[[purchase]]' THEN purchase_amount END AS amount
FROM [[source]]_events
