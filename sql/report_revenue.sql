-- Revenue comes from checkout.complete (facebook) and purchase (tiktok) alone. Buckets as in report_events.

-- name: rollups
SELECT width_bucket(bucket, $5::timestamptz[]) AS bucket, source,
       sum(events)::bigint AS purchases, sum(revenue) AS revenue
FROM event_counts
WHERE bucket >= $1 AND bucket < $2 AND bucket <> ALL ($3::timestamptz[])
  AND source = ANY ($4::source[])
  AND event_type IN ('checkout.complete', 'purchase')
GROUP BY 1, 2

-- name: facebook_rows
SELECT width_bucket(event_time, $3::timestamptz[]) AS bucket,
       count(*) AS purchases, coalesce(sum(purchase_amount), 0) AS revenue
FROM facebook_events
WHERE event_time >= $1 AND event_time < $2 AND event_type = 'checkout.complete'
GROUP BY 1

-- name: tiktok_rows
SELECT width_bucket(event_time, $3::timestamptz[]) AS bucket,
       count(*) AS purchases, coalesce(sum(purchase_amount), 0) AS revenue
FROM tiktok_events
WHERE event_time >= $1 AND event_time < $2 AND event_type = 'purchase'
GROUP BY 1

-- name: campaign
-- By the hash index of each day; its condition is the event type.
SELECT width_bucket(event_time, $3::timestamptz[]) AS bucket,
       count(*) AS purchases, coalesce(sum(purchase_amount), 0) AS revenue
FROM facebook_events
WHERE campaign_id = $4 AND event_type = 'checkout.complete' AND event_time >= $1 AND event_time < $2
GROUP BY 1
