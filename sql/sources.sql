-- Written by `python -m ops.source_sql` from sql/templates.sql and core/sources: change those, then run it.
-- What a collector merges staged rows with, and what reports count of rows.

-- name: merge_facebook
-- Insert the staged rows into one day's leaf partition. The first copy of an event wins: later copies are repeats.
-- All writes are in key order, so that two collectors of the same day wait for each other instead of deadlocking.
-- The rollups count only the rows that were inserted.
WITH inserted AS (
    INSERT INTO {partition}
    SELECT * FROM staging ORDER BY event_time, event_id
    ON CONFLICT (event_time, event_id) DO NOTHING
    RETURNING stream_sequence, quarter_hour(event_time) AS bucket, funnel_stage, event_type, purchase_amount,
              CASE WHEN age < 120 THEN age::text
                    ELSE '120+' END AS age, gender, country
), counted AS (
    INSERT INTO event_counts AS kept (bucket, source, funnel_stage, event_type, shard, events, revenue)
    SELECT bucket, 'facebook', funnel_stage, event_type, $1, count(*),
           coalesce(sum(purchase_amount) FILTER (WHERE event_type = 'checkout.complete'), 0)
    FROM inserted
    GROUP BY bucket, funnel_stage, event_type
    ORDER BY bucket, funnel_stage, event_type
    ON CONFLICT (bucket, source, funnel_stage, event_type, shard)
    DO UPDATE SET events = kept.events + excluded.events, revenue = kept.revenue + excluded.revenue
), seen AS (
    SELECT bucket, CASE WHEN grouping(age) = 0 THEN 'age'
                    WHEN grouping(gender) = 0 THEN 'gender'
                    ELSE 'country' END::audience_dimension AS dimension,
           age, gender, country, count(*) AS events
    FROM inserted
    GROUP BY GROUPING SETS ((bucket, age), (bucket, gender), (bucket, country))
), valued AS (
    SELECT bucket, dimension, CASE WHEN dimension = 'age' THEN age::text
                    WHEN dimension = 'gender' THEN gender::text
                    ELSE known.country END AS value, sum(events) AS events
    FROM seen LEFT JOIN known_countries known ON seen.dimension = 'country' AND known.country = seen.country
    WHERE true
    GROUP BY 1, 2, 3
), counted_audience AS (
    INSERT INTO audience_counts AS kept (bucket, source, dimension, value, shard, events)
    SELECT bucket, 'facebook', dimension, value, $1, events FROM valued ORDER BY dimension, bucket, value
    ON CONFLICT (source, dimension, bucket, value, shard) DO UPDATE SET events = kept.events + excluded.events
)
SELECT stream_sequence, count(*) AS stored FROM inserted GROUP BY stream_sequence

-- name: audience_rows_facebook
-- The audience of rows: counted by the columns' values, then converted to the labels of the rollups.
WITH seen AS (
    SELECT bucket, CASE WHEN grouping(age) = 0 THEN 'age'
                    WHEN grouping(gender) = 0 THEN 'gender'
                    ELSE 'country' END AS dimension,
           age, gender, country, count(*) AS events
    FROM (
        SELECT CASE WHEN $3::integer IS NULL THEN width_bucket(event_time, $4::timestamptz[]) END AS bucket,
               CASE WHEN age < 120 THEN age::text
                    ELSE '120+' END AS age, gender, country
        FROM facebook_events
        WHERE event_time >= $1 AND event_time < $2
          AND ($6::funnel_stage[] IS NULL OR funnel_stage = ANY ($6))
          AND ($7::event_type[] IS NULL OR event_type = ANY ($7))
    ) AS event
    GROUP BY GROUPING SETS ((bucket, age), (bucket, gender), (bucket, country))
)
SELECT bucket, $3::integer AS bound, dimension, CASE WHEN dimension = 'age' THEN age::text
                    WHEN dimension = 'gender' THEN gender::text
                    ELSE known.country END AS value, sum(events)::bigint AS events
FROM seen LEFT JOIN known_countries known ON seen.dimension = 'country' AND known.country = seen.country
WHERE dimension = ANY ($5::text[]) AND true
GROUP BY 1, 2, 3, 4

-- name: merge_tiktok
-- Insert the staged rows into one day's leaf partition. The first copy of an event wins: later copies are repeats.
-- All writes are in key order, so that two collectors of the same day wait for each other instead of deadlocking.
-- The rollups count only the rows that were inserted.
WITH inserted AS (
    INSERT INTO {partition}
    SELECT * FROM staging ORDER BY event_time, event_id
    ON CONFLICT (event_time, event_id) DO NOTHING
    RETURNING stream_sequence, quarter_hour(event_time) AS bucket, funnel_stage, event_type, purchase_amount,
              CASE WHEN followers < 1000 THEN '0-999'
                    WHEN followers < 10000 THEN '1000-9999'
                    WHEN followers < 100000 THEN '10000-99999'
                    WHEN followers < 1000000 THEN '100000-999999'
                    ELSE '1000000+' END AS followers, country, device
), counted AS (
    INSERT INTO event_counts AS kept (bucket, source, funnel_stage, event_type, shard, events, revenue)
    SELECT bucket, 'tiktok', funnel_stage, event_type, $1, count(*),
           coalesce(sum(purchase_amount) FILTER (WHERE event_type = 'purchase'), 0)
    FROM inserted
    GROUP BY bucket, funnel_stage, event_type
    ORDER BY bucket, funnel_stage, event_type
    ON CONFLICT (bucket, source, funnel_stage, event_type, shard)
    DO UPDATE SET events = kept.events + excluded.events, revenue = kept.revenue + excluded.revenue
), seen AS (
    SELECT bucket, CASE WHEN grouping(followers) = 0 THEN 'followers'
                    WHEN grouping(country) = 0 THEN 'country'
                    ELSE 'device' END::audience_dimension AS dimension,
           followers, country, device, count(*) AS events
    FROM inserted
    GROUP BY GROUPING SETS ((bucket, followers), (bucket, country), (bucket, device))
), valued AS (
    SELECT bucket, dimension, CASE WHEN dimension = 'followers' THEN followers::text
                    WHEN dimension = 'country' THEN known.country
                    ELSE device::text END AS value, sum(events) AS events
    FROM seen LEFT JOIN known_countries known ON seen.dimension = 'country' AND known.country = seen.country
    WHERE (dimension <> 'country' OR seen.country IS NOT NULL) AND (dimension <> 'device' OR seen.device IS NOT NULL)
    GROUP BY 1, 2, 3
), counted_audience AS (
    INSERT INTO audience_counts AS kept (bucket, source, dimension, value, shard, events)
    SELECT bucket, 'tiktok', dimension, value, $1, events FROM valued ORDER BY dimension, bucket, value
    ON CONFLICT (source, dimension, bucket, value, shard) DO UPDATE SET events = kept.events + excluded.events
)
SELECT stream_sequence, count(*) AS stored FROM inserted GROUP BY stream_sequence

-- name: audience_rows_tiktok
-- The audience of rows: counted by the columns' values, then converted to the labels of the rollups.
WITH seen AS (
    SELECT bucket, CASE WHEN grouping(followers) = 0 THEN 'followers'
                    WHEN grouping(country) = 0 THEN 'country'
                    ELSE 'device' END AS dimension,
           followers, country, device, count(*) AS events
    FROM (
        SELECT CASE WHEN $3::integer IS NULL THEN width_bucket(event_time, $4::timestamptz[]) END AS bucket,
               CASE WHEN followers < 1000 THEN '0-999'
                    WHEN followers < 10000 THEN '1000-9999'
                    WHEN followers < 100000 THEN '10000-99999'
                    WHEN followers < 1000000 THEN '100000-999999'
                    ELSE '1000000+' END AS followers, country, device
        FROM tiktok_events
        WHERE event_time >= $1 AND event_time < $2
          AND ($6::funnel_stage[] IS NULL OR funnel_stage = ANY ($6))
          AND ($7::event_type[] IS NULL OR event_type = ANY ($7))
    ) AS event
    GROUP BY GROUPING SETS ((bucket, followers), (bucket, country), (bucket, device))
)
SELECT bucket, $3::integer AS bound, dimension, CASE WHEN dimension = 'followers' THEN followers::text
                    WHEN dimension = 'country' THEN known.country
                    ELSE device::text END AS value, sum(events)::bigint AS events
FROM seen LEFT JOIN known_countries known ON seen.dimension = 'country' AND known.country = seen.country
WHERE dimension = ANY ($5::text[]) AND (dimension <> 'country' OR seen.country IS NOT NULL) AND (dimension <> 'device' OR seen.device IS NOT NULL)
GROUP BY 1, 2, 3, 4

-- name: campaign
-- Purchases of campaign $4.
SELECT width_bucket(event_time, $3::timestamptz[]) AS bucket, source,
       count(*) AS purchases, coalesce(sum(purchase_amount), 0) AS revenue
FROM (
        SELECT 'facebook' AS source, event_time, purchase_amount
        FROM facebook_events
        WHERE hashtextextended(campaign_id, 0) = hashtextextended($4::text, 0) AND campaign_id = $4::text
          AND event_type = 'checkout.complete' AND event_time >= $1 AND event_time < $2 AND 'facebook' = ANY ($5::text[])
) AS purchase
GROUP BY 1, 2

-- name: campaigns
-- The $4 campaigns with most revenue, or those in $5 if it is not NULL. All other campaigns are summed as NULL.
WITH paid AS (
    SELECT width_bucket(event_time, $3::timestamptz[]) AS bucket, source, campaign,
           count(*) AS purchases, coalesce(sum(purchase_amount), 0) AS revenue
    FROM (
        SELECT 'facebook' AS source, event_time, campaign_id AS campaign, purchase_amount
        FROM facebook_events
        WHERE event_type = 'checkout.complete' AND event_time >= $1 AND event_time < $2 AND 'facebook' = ANY ($6::text[])
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

-- name: country_rows
-- The countries in the rows of one quarter-hour of the source `changed.source`.
        SELECT country AS country FROM facebook_events
        WHERE changed.source = 'facebook' AND event_time >= bucket AND event_time < bucket + interval '15 minutes'
        UNION ALL
        SELECT country AS country FROM tiktok_events
        WHERE changed.source = 'tiktok' AND event_time >= bucket AND event_time < bucket + interval '15 minutes'
