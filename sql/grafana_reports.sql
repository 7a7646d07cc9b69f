-- Queries of Grafana's dashboard Reports. Grafana replaces its macros ($__timeFrom(), $__timeTo()) and the variables of the
-- dashboard: ${source:sqlstring} and ${campaign:sqlstring} are lists of quoted texts, ${interval:sqlstring} and
-- ${zone:sqlstring} one quoted text. A bucket begins on a quarter-hour, so the interval `minute` is the quarter-hour itself.

-- name: variable_source
SELECT title AS __text, source AS __value FROM reports.sources ORDER BY title

-- name: variable_campaign
SELECT value FROM reports.ranked_values('campaign', $__timeFrom(), $__timeTo())
WHERE value IS NOT NULL AND source IN (${source:sqlstring})
GROUP BY value
ORDER BY sum(revenue) DESC, value
LIMIT 500

-- name: events
SELECT sum(events) AS "Events" FROM reports.report_events
WHERE bucket >= $__timeFrom() AND bucket < $__timeTo() AND source IN (${source:sqlstring})

-- name: purchases
SELECT sum(purchases) AS "Purchases" FROM reports.report_revenue
WHERE bucket >= $__timeFrom() AND bucket < $__timeTo() AND source IN (${source:sqlstring})

-- name: revenue
SELECT sum(revenue) AS "Revenue" FROM reports.report_revenue
WHERE bucket >= $__timeFrom() AND bucket < $__timeTo() AND source IN (${source:sqlstring})

-- name: average_order_value
SELECT sum(revenue) / nullif(sum(purchases), 0) AS "Average order value" FROM reports.report_revenue
WHERE bucket >= $__timeFrom() AND bucket < $__timeTo() AND source IN (${source:sqlstring})

-- name: age_of_data
SELECT max(behind_seconds) AS "Age of the data" FROM reports.report_freshness WHERE source IN (${source:sqlstring})

-- name: events_by_stage
SELECT date_trunc(${interval:sqlstring}, bucket, ${zone:sqlstring}) AS time, funnel_stage AS metric, sum(events) AS value
FROM reports.report_events
WHERE bucket >= $__timeFrom() AND bucket < $__timeTo() AND source IN (${source:sqlstring})
GROUP BY 1, 2
ORDER BY 1, 2

-- name: events_by_type
SELECT date_trunc(${interval:sqlstring}, bucket, ${zone:sqlstring}) AS time, event_type AS metric, sum(events) AS value
FROM reports.report_events
WHERE bucket >= $__timeFrom() AND bucket < $__timeTo() AND source IN (${source:sqlstring})
GROUP BY 1, 2
ORDER BY 1, 2

-- name: funnel
-- Events of each step, not people: one person may have several events of a step.
WITH step AS (
    SELECT source, title, event_type, place
    FROM reports.sources, unnest(funnel) WITH ORDINALITY AS step (event_type, place)
    WHERE source IN (${source:sqlstring})
), counted AS (
    SELECT source, event_type, sum(events) AS events FROM reports.report_events
    WHERE bucket >= $__timeFrom() AND bucket < $__timeTo()
    GROUP BY source, event_type
)
SELECT title || ': ' || event_type AS "Step", coalesce(events, 0) AS "Events",
       events / nullif(lag(events) OVER steps, 0) AS "Of the step before",
       events / nullif(first_value(events) OVER steps, 0) AS "Of the first step"
FROM step LEFT JOIN counted USING (source, event_type)
WINDOW steps AS (PARTITION BY source ORDER BY place)
ORDER BY title, place

-- name: revenue_by_source
SELECT date_trunc(${interval:sqlstring}, bucket, ${zone:sqlstring}) AS time, source AS metric, sum(revenue) AS value
FROM reports.report_revenue
WHERE bucket >= $__timeFrom() AND bucket < $__timeTo() AND source IN (${source:sqlstring})
GROUP BY 1, 2
ORDER BY 1, 2

-- name: order_value_by_source
SELECT date_trunc(${interval:sqlstring}, bucket, ${zone:sqlstring}) AS time, source AS metric,
       sum(revenue) / sum(purchases) AS value
FROM reports.report_revenue
WHERE bucket >= $__timeFrom() AND bucket < $__timeTo() AND source IN (${source:sqlstring})
GROUP BY 1, 2
ORDER BY 1, 2

-- name: campaigns
-- All campaigns that are not listed are one row. max_error is that of the events.
SELECT coalesce(value, '(other)') AS "Campaign", source AS "Source", sum(events) AS "Events",
       sum(purchases) AS "Purchases", sum(revenue) AS "Revenue",
       sum(revenue) / nullif(sum(purchases), 0) AS "Average order value", max(max_error) AS "Largest error of events"
FROM reports.ranked_values('campaign', $__timeFrom(), $__timeTo())
WHERE source IN (${source:sqlstring})
  AND ('(all)' IN (${campaign:sqlstring}) OR value IN (${campaign:sqlstring}))
GROUP BY value, source
ORDER BY sum(revenue) DESC, sum(events) DESC, value
LIMIT 50

-- name: age
WITH band AS (
    SELECT * FROM (VALUES (0, '0-17'), (18, '18-24'), (25, '25-34'), (35, '35-44'), (45, '45-54'), (55, '55-64'),
                          (65, '65+')) AS band (first, name)
), counted AS (
    SELECT CASE WHEN value = '120+' THEN 120 ELSE value::integer END AS age, events FROM reports.report_audience
    WHERE bucket >= $__timeFrom() AND bucket < $__timeTo() AND source IN (${source:sqlstring}) AND dimension = 'age'
)
SELECT (SELECT name FROM band WHERE first <= age ORDER BY first DESC LIMIT 1) AS "Age", sum(events) AS "Events"
FROM counted
GROUP BY 1
ORDER BY min(age)

-- name: audience
-- One dimension, the value with most events first.
SELECT coalesce(value, '(other)') AS "Value", sum(events) AS "Events" FROM reports.report_audience
WHERE bucket >= $__timeFrom() AND bucket < $__timeTo() AND source IN (${source:sqlstring}) AND dimension = '{dimension}'
GROUP BY value
ORDER BY sum(events) DESC, value
LIMIT 15

-- name: cities
SELECT coalesce(value, '(other)') AS "City", sum(events) AS "Events"
FROM reports.ranked_values('city', $__timeFrom(), $__timeTo())
WHERE source IN (${source:sqlstring})
GROUP BY value
ORDER BY sum(events) DESC, value
LIMIT 15

-- name: freshness
SELECT title AS "Source", stored_until AS "Complete up to", behind_seconds AS "Age", pending_messages AS "Waiting messages"
FROM reports.report_freshness
WHERE source IN (${source:sqlstring})
ORDER BY title
