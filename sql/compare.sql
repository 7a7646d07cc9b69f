-- Compare the rows of one day (UTC) with its rollups. A day below the floor gives 0 for both: its rows are dropped, but
-- its rollups are kept.

-- name: today
SELECT (now() AT TIME ZONE 'UTC')::date

-- name: day
-- For the source {source}, whose purchases have the event type {purchase}.
-- differing: number of (stage, type) pairs whose events or revenue differ.
WITH day AS (
    SELECT $1::date::timestamp AT TIME ZONE 'UTC' AS since, ($1::date + 1)::timestamp AT TIME ZONE 'UTC' AS until
    WHERE $1::date >= (SELECT floor FROM partition_floors WHERE parent = '{table}')
), stored AS (
    SELECT funnel_stage, event_type, count(*) AS events,
           coalesce(sum(purchase_amount) FILTER (WHERE event_type = '{purchase}'), 0) AS revenue
    FROM {table}
    WHERE event_time >= (SELECT since FROM day) AND event_time < (SELECT until FROM day)
    GROUP BY funnel_stage, event_type
), counted AS (
    SELECT funnel_stage, event_type, sum(events)::bigint AS events, sum(revenue) AS revenue
    FROM event_counts
    WHERE source = '{source}' AND bucket >= (SELECT since FROM day) AND bucket < (SELECT until FROM day)
    GROUP BY funnel_stage, event_type
    HAVING sum(events) <> 0 OR sum(revenue) <> 0
)
SELECT coalesce(sum(stored.events), 0)::bigint AS rows, coalesce(sum(counted.events), 0)::bigint AS counted,
       count(*) FILTER (WHERE (stored.events, stored.revenue) IS DISTINCT FROM (counted.events, counted.revenue))
           AS differing
FROM stored FULL JOIN counted USING (funnel_stage, event_type)
