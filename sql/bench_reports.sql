-- The same answers as the typical reports, by plain grouping over the partitions: what the rollups are measured against.

-- name: events
SELECT source, date_trunc('day', event_time, 'UTC') AS day, count(*)::bigint AS figure
FROM (
    SELECT 'facebook' AS source, event_time FROM facebook_events WHERE event_time >= $1 AND event_time < $2
    UNION ALL
    SELECT 'tiktok', event_time FROM tiktok_events WHERE event_time >= $1 AND event_time < $2
) AS event
GROUP BY 1, 2

-- name: revenue
SELECT source, date_trunc('day', event_time, 'UTC') AS day, count(*)::bigint AS figure, sum(purchase_amount) AS revenue
FROM (
    SELECT 'facebook' AS source, event_time, purchase_amount FROM facebook_events
    WHERE event_time >= $1 AND event_time < $2 AND event_type = 'checkout.complete'
    UNION ALL
    SELECT 'tiktok', event_time, purchase_amount FROM tiktok_events
    WHERE event_time >= $1 AND event_time < $2 AND event_type = 'purchase'
) AS event
GROUP BY 1, 2

-- name: demographics
SELECT date_trunc('day', event_time, 'UTC') AS day, gender, count(*)::bigint AS figure
FROM facebook_events WHERE event_time >= $1 AND event_time < $2
GROUP BY 1, 2
