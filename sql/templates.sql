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

-- name: purchases
-- Purchases of one source, with their campaigns. $6: the requested sources.
SELECT '[[source]]' AS source, event_time, [[campaign]] AS campaign, purchase_amount
FROM [[source]]_events
WHERE event_type = '[[purchase]]' AND event_time >= $1 AND event_time < $2 AND '[[source]]' = ANY ($6::text[])

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

-- name: campaigns
-- The $4 campaigns with most revenue, or those in $5 if it is not NULL. All other campaigns are summed as NULL.
WITH paid AS (
    SELECT width_bucket(event_time, $3::timestamptz[]) AS bucket, source, campaign,
           count(*) AS purchases, coalesce(sum(purchase_amount), 0) AS revenue
    FROM (
[[purchases]]
    ) AS purchase
    GROUP BY 1, 2, 3
), top AS (
    SELECT campaign FROM paid
    WHERE $5::text[] IS NULL OR campaign = ANY ($5)
    GROUP BY campaign ORDER BY sum(revenue) DESC, campaign LIMIT $4
)
SELECT bucket, source, top.campaign, sum(purchases)::bigint AS purchases, sum(revenue) AS revenue
FROM paid LEFT JOIN top ON top.campaign = paid.campaign
GROUP BY 1, 2, 3

-- name: countries_of
SELECT [[country]] AS country FROM [[source]]_events
WHERE changed.source = '[[source]]' AND event_time >= bucket AND event_time < bucket + interval '15 minutes'

-- name: country_rows
-- The countries in the rows of one quarter-hour of the source `changed.source`.
[[countries_of]]
