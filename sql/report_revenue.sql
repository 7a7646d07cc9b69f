-- Revenue comes from checkout.complete (facebook) and purchase (tiktok) alone. Numbers and rollups as in report_events.

-- name: rollups
WITH span AS (
    SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::integer[], $5::integer[])
        AS span (unit, lower, upper, number, sign)
), summed AS (
    SELECT coalesce(number, width_bucket(bucket, $6::timestamptz[])) AS number, source,
           sum(sign * events)::bigint AS purchases, sum(sign * revenue) AS revenue
    FROM (
        SELECT number, sign, bucket, source, event_type, events, revenue
        FROM span JOIN event_totals total ON total.unit = span.unit::rollup_unit AND bucket >= lower AND bucket < upper
        WHERE span.unit <> 'quarter'
        UNION ALL
        SELECT number, sign, bucket, source, event_type, events, revenue
        FROM span JOIN event_counts ON bucket >= lower AND bucket < upper
        WHERE span.unit = 'quarter'
    ) AS counted
    WHERE source = ANY ($7::source[]) AND event_type IN ('checkout.complete', 'purchase')
    GROUP BY 1, 2
)
SELECT source::text, stored_until, pending_messages, observed_at, statement_timestamp() AS read_at,
       numbers, purchases, revenue
FROM unnest($7::source[]) AS asked (source)
LEFT JOIN watermarks USING (source)
LEFT JOIN (
    SELECT source, array_agg(number) AS numbers, array_agg(purchases) AS purchases, array_agg(revenue) AS revenue
    FROM summed GROUP BY source
) AS figures USING (source)

-- name: facebook_rows
SELECT coalesce($3, width_bucket(event_time, $4::timestamptz[])) AS number,
       count(*) AS purchases, coalesce(sum(purchase_amount), 0) AS revenue
FROM facebook_events
WHERE event_time >= $1 AND event_time < $2 AND event_type = 'checkout.complete'
GROUP BY 1

-- name: tiktok_rows
SELECT coalesce($3, width_bucket(event_time, $4::timestamptz[])) AS number,
       count(*) AS purchases, coalesce(sum(purchase_amount), 0) AS revenue
FROM tiktok_events
WHERE event_time >= $1 AND event_time < $2 AND event_type = 'purchase'
GROUP BY 1

-- name: campaign
-- By the index of each day: its key is the campaign's hash and the instant, its condition the event type.
SELECT width_bucket(event_time, $3::timestamptz[]) AS number,
       count(*) AS purchases, coalesce(sum(purchase_amount), 0) AS revenue
FROM facebook_events
WHERE hashtextextended(campaign_id, 0) = hashtextextended($4::text, 0) AND campaign_id = $4::text
  AND event_type = 'checkout.complete' AND event_time >= $1 AND event_time < $2
GROUP BY 1

-- name: campaigns
-- The campaigns with most revenue, or those in $5 where they are known, and the rest as NULL.
WITH paid AS (
    SELECT width_bucket(event_time, $3::timestamptz[]) AS number, campaign_id,
           count(*) AS purchases, coalesce(sum(purchase_amount), 0) AS revenue
    FROM facebook_events
    WHERE event_type = 'checkout.complete' AND event_time >= $1 AND event_time < $2
    GROUP BY 1, 2
), top AS (
    SELECT campaign_id AS campaign FROM paid
    WHERE $5::text[] IS NULL OR campaign_id = ANY ($5)
    GROUP BY campaign_id ORDER BY sum(revenue) DESC, campaign_id LIMIT $4
)
SELECT number, campaign, sum(purchases)::bigint AS purchases, sum(revenue) AS revenue
FROM paid LEFT JOIN top ON campaign = campaign_id
GROUP BY 1, 2
