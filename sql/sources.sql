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

-- name: country_rows
-- The countries in the rows of one quarter-hour of the source `changed.source`.
        SELECT country AS country FROM facebook_events
        WHERE changed.source = 'facebook' AND event_time >= bucket AND event_time < bucket + interval '15 minutes'
        UNION ALL
        SELECT country AS country FROM tiktok_events
        WHERE changed.source = 'tiktok' AND event_time >= bucket AND event_time < bucket + interval '15 minutes'

-- name: count_breakdowns_facebook
-- Count a quarter-hour ($1, its start) by every breakdown, from its rows, in one scan; list at most $2 values of each.
-- A breakdown is its number here. A dimension that is part of a pair is counted with the pair. Integers: their sums are
-- cheap. Returns how many rows there are: the caller compares that with the rollups, and commits only if they are equal.
WITH grouped AS MATERIALIZED (
    SELECT CASE WHEN grouping(campaign) = 0 THEN 1
                    WHEN grouping(age) = 0 AND grouping(gender) = 0 THEN 2
                    WHEN grouping(country) = 0 THEN 3
                    ELSE 4 END AS number, event_type, campaign, age, gender, country, city,
           count(*)::integer AS events, sum(purchase_amount) FILTER (WHERE event_type = 'checkout.complete') AS revenue
    FROM (
        SELECT event_type, purchase_amount, campaign_id AS campaign, CASE WHEN age < 120 THEN age::text
                    ELSE '120+' END AS age, gender, country, city
        FROM facebook_events
        WHERE event_time >= $1 AND event_time < $1::timestamptz + interval '15 minutes'
    ) AS event
    GROUP BY GROUPING SETS ((event_type, campaign), (event_type, age, gender), (event_type, country), (event_type, city))
), named AS (
    SELECT 1 AS number, event_type, campaign::text AS value, NULL::text AS second, events, revenue
    FROM grouped WHERE number = 1 AND campaign IS NOT NULL
    UNION ALL
    SELECT 2 AS number, event_type, age::text AS value, NULL::text AS second, events, revenue
    FROM grouped WHERE number = 2 AND age IS NOT NULL
    UNION ALL
    SELECT 3 AS number, event_type, gender::text AS value, NULL::text AS second, events, revenue
    FROM grouped WHERE number = 2 AND gender IS NOT NULL
    UNION ALL
    SELECT 4 AS number, event_type, country::text AS value, NULL::text AS second, events, revenue
    FROM grouped WHERE number = 3 AND country IS NOT NULL
    UNION ALL
    SELECT 5 AS number, event_type, city::text AS value, NULL::text AS second, events, revenue
    FROM grouped WHERE number = 4 AND city IS NOT NULL
    UNION ALL
    SELECT 6 AS number, event_type, age::text AS value, gender::text AS second, events, revenue
    FROM grouped WHERE number = 2 AND age IS NOT NULL AND gender IS NOT NULL
), valued AS MATERIALIZED (
    SELECT number, value, second, sum(events) AS total, coalesce(sum(revenue), 0) AS revenue,
           coalesce(sum(events) FILTER (WHERE event_type = 'ad.view'), 0) AS events_1,
           coalesce(sum(events) FILTER (WHERE event_type = 'page.like'), 0) AS events_2,
           coalesce(sum(events) FILTER (WHERE event_type = 'comment'), 0) AS events_3,
           coalesce(sum(events) FILTER (WHERE event_type = 'video.view'), 0) AS events_4,
           coalesce(sum(events) FILTER (WHERE event_type = 'ad.click'), 0) AS events_5,
           coalesce(sum(events) FILTER (WHERE event_type = 'form.submission'), 0) AS events_6,
           coalesce(sum(events) FILTER (WHERE event_type = 'checkout.complete'), 0) AS events_7
    FROM named
    GROUP BY number, value, second
), carried AS (
    SELECT 0 AS number, 0::bigint AS events, 0::numeric AS revenue WHERE false
), unit AS (
    SELECT 'quarter'::breakdown_unit AS unit
), top AS MATERIALIZED (
    SELECT top.*, row_number() OVER (PARTITION BY number) AS place
    FROM generate_series(1, cardinality(ARRAY['campaign', 'age', 'gender', 'country', 'city', 'age,gender'])) AS breakdown
    CROSS JOIN LATERAL (
        SELECT * FROM valued WHERE number = breakdown AND value IS NOT NULL
        ORDER BY total DESC, revenue DESC, value COLLATE "C", second COLLATE "C"
        LIMIT $2::integer + 1
    ) AS top
), cut AS (
    SELECT * FROM top WHERE place = $2::integer + 1
), other AS (
    SELECT number, sum(total)::bigint AS total, sum(revenue) AS revenue, max(revenue) FILTER (WHERE value IS NOT NULL) AS most,
           coalesce(sum(events_1), 0)::bigint AS events_1,
           coalesce(sum(events_2), 0)::bigint AS events_2,
           coalesce(sum(events_3), 0)::bigint AS events_3,
           coalesce(sum(events_4), 0)::bigint AS events_4,
           coalesce(sum(events_5), 0)::bigint AS events_5,
           coalesce(sum(events_6), 0)::bigint AS events_6,
           coalesce(sum(events_7), 0)::bigint AS events_7
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
           ARRAY[array_agg(events_1), array_agg(events_2), array_agg(events_3), array_agg(events_4), array_agg(events_5), array_agg(events_6), array_agg(events_7)] AS events, array_agg(revenue) AS revenue
    FROM (
        SELECT number, place, value, second, total, revenue, events_1, events_2, events_3, events_4, events_5, events_6, events_7 FROM top WHERE place <= $2::integer
        UNION ALL
        SELECT number, $2::integer + 1, NULL, NULL, total, revenue, events_1, events_2, events_3, events_4, events_5, events_6, events_7 FROM other
        ORDER BY number, place
    ) AS folded
    GROUP BY number
), written AS (
    INSERT INTO breakdown_counts (source, breakdown, unit, bucket, event_types, values, seconds, totals, events, revenue,
                                  listed_error, unlisted_error, listed_revenue_error, unlisted_revenue_error)
    SELECT 'facebook', (ARRAY['campaign', 'age', 'gender', 'country', 'city', 'age,gender'])[number], unit, $1, ARRAY['ad.view', 'page.like', 'comment', 'video.view', 'ad.click', 'form.submission', 'checkout.complete']::event_type[], packed.values,
           CASE WHEN number = ANY (ARRAY[6]::integer[]) THEN packed.seconds END,
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
SELECT coalesce(sum(events), 0)::bigint FROM grouped WHERE number = 1

-- name: total_breakdowns_facebook
-- Add the buckets of a finer unit ($3, from $1 to $4) up to the one of unit $5 that starts at $1; list at most $2 values.
-- A value that a finer bucket does not list may have events there: `carried` bounds how many.
WITH finer AS MATERIALIZED (
    SELECT array_position(ARRAY['campaign', 'age', 'gender', 'country', 'city', 'age,gender'], breakdown) AS number, breakdown_counts.* FROM breakdown_counts
    WHERE source = 'facebook' AND unit = $3::text::breakdown_unit AND bucket >= $1 AND bucket < $4
      AND breakdown IN ('campaign', 'age', 'gender', 'country', 'city', 'age,gender')
), valued AS MATERIALIZED (
    SELECT number, value, second, sum(total)::bigint AS total, sum(listed.revenue) AS revenue,
           coalesce(sum(events_1), 0)::bigint AS events_1,
           coalesce(sum(events_2), 0)::bigint AS events_2,
           coalesce(sum(events_3), 0)::bigint AS events_3,
           coalesce(sum(events_4), 0)::bigint AS events_4,
           coalesce(sum(events_5), 0)::bigint AS events_5,
           coalesce(sum(events_6), 0)::bigint AS events_6,
           coalesce(sum(events_7), 0)::bigint AS events_7
    FROM finer, LATERAL unnest(
        finer.values, finer.seconds, finer.totals, finer.revenue,
        finer.events[array_position(event_types, 'ad.view'):array_position(event_types, 'ad.view')],
        finer.events[array_position(event_types, 'page.like'):array_position(event_types, 'page.like')],
        finer.events[array_position(event_types, 'comment'):array_position(event_types, 'comment')],
        finer.events[array_position(event_types, 'video.view'):array_position(event_types, 'video.view')],
        finer.events[array_position(event_types, 'ad.click'):array_position(event_types, 'ad.click')],
        finer.events[array_position(event_types, 'form.submission'):array_position(event_types, 'form.submission')],
        finer.events[array_position(event_types, 'checkout.complete'):array_position(event_types, 'checkout.complete')]
    ) AS listed (value, second, total, revenue, events_1, events_2, events_3, events_4, events_5, events_6, events_7)
    GROUP BY number, value, second
), carried AS (
    SELECT number, sum(unlisted_error)::bigint AS events, sum(unlisted_revenue_error) AS revenue
    FROM finer GROUP BY number
), unit AS (
    SELECT $5::text::breakdown_unit AS unit
), top AS MATERIALIZED (
    SELECT top.*, row_number() OVER (PARTITION BY number) AS place
    FROM generate_series(1, cardinality(ARRAY['campaign', 'age', 'gender', 'country', 'city', 'age,gender'])) AS breakdown
    CROSS JOIN LATERAL (
        SELECT * FROM valued WHERE number = breakdown AND value IS NOT NULL
        ORDER BY total DESC, revenue DESC, value COLLATE "C", second COLLATE "C"
        LIMIT $2::integer + 1
    ) AS top
), cut AS (
    SELECT * FROM top WHERE place = $2::integer + 1
), other AS (
    SELECT number, sum(total)::bigint AS total, sum(revenue) AS revenue, max(revenue) FILTER (WHERE value IS NOT NULL) AS most,
           coalesce(sum(events_1), 0)::bigint AS events_1,
           coalesce(sum(events_2), 0)::bigint AS events_2,
           coalesce(sum(events_3), 0)::bigint AS events_3,
           coalesce(sum(events_4), 0)::bigint AS events_4,
           coalesce(sum(events_5), 0)::bigint AS events_5,
           coalesce(sum(events_6), 0)::bigint AS events_6,
           coalesce(sum(events_7), 0)::bigint AS events_7
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
           ARRAY[array_agg(events_1), array_agg(events_2), array_agg(events_3), array_agg(events_4), array_agg(events_5), array_agg(events_6), array_agg(events_7)] AS events, array_agg(revenue) AS revenue
    FROM (
        SELECT number, place, value, second, total, revenue, events_1, events_2, events_3, events_4, events_5, events_6, events_7 FROM top WHERE place <= $2::integer
        UNION ALL
        SELECT number, $2::integer + 1, NULL, NULL, total, revenue, events_1, events_2, events_3, events_4, events_5, events_6, events_7 FROM other
        ORDER BY number, place
    ) AS folded
    GROUP BY number
), written AS (
    INSERT INTO breakdown_counts (source, breakdown, unit, bucket, event_types, values, seconds, totals, events, revenue,
                                  listed_error, unlisted_error, listed_revenue_error, unlisted_revenue_error)
    SELECT 'facebook', (ARRAY['campaign', 'age', 'gender', 'country', 'city', 'age,gender'])[number], unit, $1, ARRAY['ad.view', 'page.like', 'comment', 'video.view', 'ad.click', 'form.submission', 'checkout.complete']::event_type[], packed.values,
           CASE WHEN number = ANY (ARRAY[6]::integer[]) THEN packed.seconds END,
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
SELECT count(*) FROM written

-- name: count_breakdowns_tiktok
-- Count a quarter-hour ($1, its start) by every breakdown, from its rows, in one scan; list at most $2 values of each.
-- A breakdown is its number here. A dimension that is part of a pair is counted with the pair. Integers: their sums are
-- cheap. Returns how many rows there are: the caller compares that with the rollups, and commits only if they are equal.
WITH grouped AS MATERIALIZED (
    SELECT CASE WHEN grouping(followers) = 0 THEN 1
                    WHEN grouping(country) = 0 THEN 2
                    ELSE 3 END AS number, event_type, followers, country, device,
           count(*)::integer AS events, sum(purchase_amount) FILTER (WHERE event_type = 'purchase') AS revenue
    FROM (
        SELECT event_type, purchase_amount, CASE WHEN followers < 1000 THEN '0-999'
                    WHEN followers < 10000 THEN '1000-9999'
                    WHEN followers < 100000 THEN '10000-99999'
                    WHEN followers < 1000000 THEN '100000-999999'
                    ELSE '1000000+' END AS followers, country, device
        FROM tiktok_events
        WHERE event_time >= $1 AND event_time < $1::timestamptz + interval '15 minutes'
    ) AS event
    GROUP BY GROUPING SETS ((event_type, followers), (event_type, country), (event_type, device))
), named AS (
    SELECT 1 AS number, event_type, followers::text AS value, NULL::text AS second, events, revenue
    FROM grouped WHERE number = 1 AND followers IS NOT NULL
    UNION ALL
    SELECT 2 AS number, event_type, country::text AS value, NULL::text AS second, events, revenue
    FROM grouped WHERE number = 2 AND country IS NOT NULL
    UNION ALL
    SELECT 3 AS number, event_type, device::text AS value, NULL::text AS second, events, revenue
    FROM grouped WHERE number = 3 AND device IS NOT NULL
), valued AS MATERIALIZED (
    SELECT number, value, second, sum(events) AS total, coalesce(sum(revenue), 0) AS revenue,
           coalesce(sum(events) FILTER (WHERE event_type = 'video.view'), 0) AS events_1,
           coalesce(sum(events) FILTER (WHERE event_type = 'like'), 0) AS events_2,
           coalesce(sum(events) FILTER (WHERE event_type = 'share'), 0) AS events_3,
           coalesce(sum(events) FILTER (WHERE event_type = 'comment'), 0) AS events_4,
           coalesce(sum(events) FILTER (WHERE event_type = 'profile.visit'), 0) AS events_5,
           coalesce(sum(events) FILTER (WHERE event_type = 'purchase'), 0) AS events_6,
           coalesce(sum(events) FILTER (WHERE event_type = 'follow'), 0) AS events_7
    FROM named
    GROUP BY number, value, second
), carried AS (
    SELECT 0 AS number, 0::bigint AS events, 0::numeric AS revenue WHERE false
), unit AS (
    SELECT 'quarter'::breakdown_unit AS unit
), top AS MATERIALIZED (
    SELECT top.*, row_number() OVER (PARTITION BY number) AS place
    FROM generate_series(1, cardinality(ARRAY['followers', 'country', 'device'])) AS breakdown
    CROSS JOIN LATERAL (
        SELECT * FROM valued WHERE number = breakdown AND value IS NOT NULL
        ORDER BY total DESC, revenue DESC, value COLLATE "C", second COLLATE "C"
        LIMIT $2::integer + 1
    ) AS top
), cut AS (
    SELECT * FROM top WHERE place = $2::integer + 1
), other AS (
    SELECT number, sum(total)::bigint AS total, sum(revenue) AS revenue, max(revenue) FILTER (WHERE value IS NOT NULL) AS most,
           coalesce(sum(events_1), 0)::bigint AS events_1,
           coalesce(sum(events_2), 0)::bigint AS events_2,
           coalesce(sum(events_3), 0)::bigint AS events_3,
           coalesce(sum(events_4), 0)::bigint AS events_4,
           coalesce(sum(events_5), 0)::bigint AS events_5,
           coalesce(sum(events_6), 0)::bigint AS events_6,
           coalesce(sum(events_7), 0)::bigint AS events_7
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
           ARRAY[array_agg(events_1), array_agg(events_2), array_agg(events_3), array_agg(events_4), array_agg(events_5), array_agg(events_6), array_agg(events_7)] AS events, array_agg(revenue) AS revenue
    FROM (
        SELECT number, place, value, second, total, revenue, events_1, events_2, events_3, events_4, events_5, events_6, events_7 FROM top WHERE place <= $2::integer
        UNION ALL
        SELECT number, $2::integer + 1, NULL, NULL, total, revenue, events_1, events_2, events_3, events_4, events_5, events_6, events_7 FROM other
        ORDER BY number, place
    ) AS folded
    GROUP BY number
), written AS (
    INSERT INTO breakdown_counts (source, breakdown, unit, bucket, event_types, values, seconds, totals, events, revenue,
                                  listed_error, unlisted_error, listed_revenue_error, unlisted_revenue_error)
    SELECT 'tiktok', (ARRAY['followers', 'country', 'device'])[number], unit, $1, ARRAY['video.view', 'like', 'share', 'comment', 'profile.visit', 'purchase', 'follow']::event_type[], packed.values,
           CASE WHEN number = ANY (ARRAY[]::integer[]) THEN packed.seconds END,
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
SELECT coalesce(sum(events), 0)::bigint FROM grouped WHERE number = 1

-- name: total_breakdowns_tiktok
-- Add the buckets of a finer unit ($3, from $1 to $4) up to the one of unit $5 that starts at $1; list at most $2 values.
-- A value that a finer bucket does not list may have events there: `carried` bounds how many.
WITH finer AS MATERIALIZED (
    SELECT array_position(ARRAY['followers', 'country', 'device'], breakdown) AS number, breakdown_counts.* FROM breakdown_counts
    WHERE source = 'tiktok' AND unit = $3::text::breakdown_unit AND bucket >= $1 AND bucket < $4
      AND breakdown IN ('followers', 'country', 'device')
), valued AS MATERIALIZED (
    SELECT number, value, second, sum(total)::bigint AS total, sum(listed.revenue) AS revenue,
           coalesce(sum(events_1), 0)::bigint AS events_1,
           coalesce(sum(events_2), 0)::bigint AS events_2,
           coalesce(sum(events_3), 0)::bigint AS events_3,
           coalesce(sum(events_4), 0)::bigint AS events_4,
           coalesce(sum(events_5), 0)::bigint AS events_5,
           coalesce(sum(events_6), 0)::bigint AS events_6,
           coalesce(sum(events_7), 0)::bigint AS events_7
    FROM finer, LATERAL unnest(
        finer.values, finer.seconds, finer.totals, finer.revenue,
        finer.events[array_position(event_types, 'video.view'):array_position(event_types, 'video.view')],
        finer.events[array_position(event_types, 'like'):array_position(event_types, 'like')],
        finer.events[array_position(event_types, 'share'):array_position(event_types, 'share')],
        finer.events[array_position(event_types, 'comment'):array_position(event_types, 'comment')],
        finer.events[array_position(event_types, 'profile.visit'):array_position(event_types, 'profile.visit')],
        finer.events[array_position(event_types, 'purchase'):array_position(event_types, 'purchase')],
        finer.events[array_position(event_types, 'follow'):array_position(event_types, 'follow')]
    ) AS listed (value, second, total, revenue, events_1, events_2, events_3, events_4, events_5, events_6, events_7)
    GROUP BY number, value, second
), carried AS (
    SELECT number, sum(unlisted_error)::bigint AS events, sum(unlisted_revenue_error) AS revenue
    FROM finer GROUP BY number
), unit AS (
    SELECT $5::text::breakdown_unit AS unit
), top AS MATERIALIZED (
    SELECT top.*, row_number() OVER (PARTITION BY number) AS place
    FROM generate_series(1, cardinality(ARRAY['followers', 'country', 'device'])) AS breakdown
    CROSS JOIN LATERAL (
        SELECT * FROM valued WHERE number = breakdown AND value IS NOT NULL
        ORDER BY total DESC, revenue DESC, value COLLATE "C", second COLLATE "C"
        LIMIT $2::integer + 1
    ) AS top
), cut AS (
    SELECT * FROM top WHERE place = $2::integer + 1
), other AS (
    SELECT number, sum(total)::bigint AS total, sum(revenue) AS revenue, max(revenue) FILTER (WHERE value IS NOT NULL) AS most,
           coalesce(sum(events_1), 0)::bigint AS events_1,
           coalesce(sum(events_2), 0)::bigint AS events_2,
           coalesce(sum(events_3), 0)::bigint AS events_3,
           coalesce(sum(events_4), 0)::bigint AS events_4,
           coalesce(sum(events_5), 0)::bigint AS events_5,
           coalesce(sum(events_6), 0)::bigint AS events_6,
           coalesce(sum(events_7), 0)::bigint AS events_7
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
           ARRAY[array_agg(events_1), array_agg(events_2), array_agg(events_3), array_agg(events_4), array_agg(events_5), array_agg(events_6), array_agg(events_7)] AS events, array_agg(revenue) AS revenue
    FROM (
        SELECT number, place, value, second, total, revenue, events_1, events_2, events_3, events_4, events_5, events_6, events_7 FROM top WHERE place <= $2::integer
        UNION ALL
        SELECT number, $2::integer + 1, NULL, NULL, total, revenue, events_1, events_2, events_3, events_4, events_5, events_6, events_7 FROM other
        ORDER BY number, place
    ) AS folded
    GROUP BY number
), written AS (
    INSERT INTO breakdown_counts (source, breakdown, unit, bucket, event_types, values, seconds, totals, events, revenue,
                                  listed_error, unlisted_error, listed_revenue_error, unlisted_revenue_error)
    SELECT 'tiktok', (ARRAY['followers', 'country', 'device'])[number], unit, $1, ARRAY['video.view', 'like', 'share', 'comment', 'profile.visit', 'purchase', 'follow']::event_type[], packed.values,
           CASE WHEN number = ANY (ARRAY[]::integer[]) THEN packed.seconds END,
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
SELECT count(*) FROM written

-- name: breakdown_rows_facebook_campaign
-- The rows of a source, with the values of one breakdown: a part of `read` in sql/report_breakdowns.sql.
SELECT event_time, event_type, (campaign_id)::text AS value, NULL::text AS second,
       CASE WHEN event_type = 'checkout.complete' THEN purchase_amount END AS amount
FROM facebook_events

-- name: breakdown_rows_facebook_age
-- The rows of a source, with the values of one breakdown: a part of `read` in sql/report_breakdowns.sql.
SELECT event_time, event_type, (CASE WHEN age < 120 THEN age::text
                    ELSE '120+' END)::text AS value, NULL::text AS second,
       CASE WHEN event_type = 'checkout.complete' THEN purchase_amount END AS amount
FROM facebook_events

-- name: breakdown_rows_facebook_gender
-- The rows of a source, with the values of one breakdown: a part of `read` in sql/report_breakdowns.sql.
SELECT event_time, event_type, (gender)::text AS value, NULL::text AS second,
       CASE WHEN event_type = 'checkout.complete' THEN purchase_amount END AS amount
FROM facebook_events

-- name: breakdown_rows_facebook_country
-- The rows of a source, with the values of one breakdown: a part of `read` in sql/report_breakdowns.sql.
SELECT event_time, event_type, (country)::text AS value, NULL::text AS second,
       CASE WHEN event_type = 'checkout.complete' THEN purchase_amount END AS amount
FROM facebook_events

-- name: breakdown_rows_facebook_city
-- The rows of a source, with the values of one breakdown: a part of `read` in sql/report_breakdowns.sql.
SELECT event_time, event_type, (city)::text AS value, NULL::text AS second,
       CASE WHEN event_type = 'checkout.complete' THEN purchase_amount END AS amount
FROM facebook_events

-- name: breakdown_rows_facebook_age_gender
-- The rows of a source, with the values of one breakdown: a part of `read` in sql/report_breakdowns.sql.
SELECT event_time, event_type, (CASE WHEN age < 120 THEN age::text
                    ELSE '120+' END)::text AS value, (gender)::text AS second,
       CASE WHEN event_type = 'checkout.complete' THEN purchase_amount END AS amount
FROM facebook_events

-- name: breakdown_rows_tiktok_followers
-- The rows of a source, with the values of one breakdown: a part of `read` in sql/report_breakdowns.sql.
SELECT event_time, event_type, (CASE WHEN followers < 1000 THEN '0-999'
                    WHEN followers < 10000 THEN '1000-9999'
                    WHEN followers < 100000 THEN '10000-99999'
                    WHEN followers < 1000000 THEN '100000-999999'
                    ELSE '1000000+' END)::text AS value, NULL::text AS second,
       CASE WHEN event_type = 'purchase' THEN purchase_amount END AS amount
FROM tiktok_events

-- name: breakdown_rows_tiktok_country
-- The rows of a source, with the values of one breakdown: a part of `read` in sql/report_breakdowns.sql.
SELECT event_time, event_type, (country)::text AS value, NULL::text AS second,
       CASE WHEN event_type = 'purchase' THEN purchase_amount END AS amount
FROM tiktok_events

-- name: breakdown_rows_tiktok_device
-- The rows of a source, with the values of one breakdown: a part of `read` in sql/report_breakdowns.sql.
SELECT event_time, event_type, (device)::text AS value, NULL::text AS second,
       CASE WHEN event_type = 'purchase' THEN purchase_amount END AS amount
FROM tiktok_events
