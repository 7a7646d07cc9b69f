-- The results of the typical reports by GROUP BY over the partitions: the baseline that rollups are compared with.
-- {rows} is the UNION ALL of the statement `rows` of each source.

-- name: rows
SELECT '{source}' AS source, event_time, event_type = '{purchase}' AS purchase, purchase_amount
FROM {table} WHERE event_time >= $1 AND event_time < $2

-- name: events
SELECT source, date_trunc('day', event_time, 'UTC') AS day, count(*)::bigint AS figure
FROM ({rows}) AS event
GROUP BY 1, 2

-- name: revenue
SELECT source, date_trunc('day', event_time, 'UTC') AS day, count(*)::bigint AS figure, sum(purchase_amount) AS revenue
FROM ({rows}) AS event
WHERE purchase
GROUP BY 1, 2

-- name: demographics
SELECT date_trunc('day', event_time, 'UTC') AS day, {dimension}, count(*)::bigint AS figure
FROM {table} WHERE event_time >= $1 AND event_time < $2
GROUP BY 1, 2
