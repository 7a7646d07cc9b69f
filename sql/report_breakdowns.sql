-- Breakdowns for reports: one statement reads valid buckets, and rows for all others. In one statement all is of one moment.
-- {rows} is the statement breakdown_rows of the source and the breakdown; {pair} says whether that is by two columns.

-- name: read
-- The values with most events (or revenue, $11) of one breakdown ($8) of a source ($7), and all others as NULL.
-- $1 to $5 are spans (unit, start, end, bound, sign), $6 where buckets meet, as in report_events. $9 are the event types
-- that count (NULL: all), $10 the number of the last bound. The first $12 values after $13 are listed, or those in $14
-- (and $15, for a pair) if it is not NULL.
-- error and revenue_error: the figure of a listed value is off by at most so much, up or down (0: exact). The row of NULL
-- has the figure of a value that no bucket lists; so has a value without a row in a bucket.
-- rows_since is the earliest instant that was read from rows (NULL: none): they are not kept below the partition floor.
WITH piece AS MATERIALIZED (
    SELECT *, CASE WHEN bound IS NULL AND unit <> 'rows' THEN width_bucket(lower, $6::timestamptz[]) END AS bucket
    FROM breakdown_pieces($7::text::source, $8::text, $1::text[], $2::timestamptz[], $3::timestamptz[], $4::integer[],
                          $5::integer[])
), counted AS MATERIALIZED (
    SELECT piece.bucket, piece.bound, piece.sign, counts.*
    FROM piece CROSS JOIN LATERAL (
        SELECT * FROM breakdown_counts
        WHERE source = $7::text::source AND breakdown = $8::text AND unit = piece.unit::breakdown_unit
          AND breakdown_counts.bucket = piece.lower
        OFFSET 0
    ) AS counts (source, breakdown, unit, starts, event_types, values, seconds, totals, events, revenue,
                 listed_error, unlisted_error, listed_revenue_error, unlisted_revenue_error)
    WHERE piece.unit <> 'rows'
), figures AS MATERIALIZED (
    -- error: what may be missing of a value that no bucket lists (value NULL), and how much less it is because one lists it.
    SELECT bucket, bound, value, coalesce(second, '') AS second, sum(events)::bigint AS events, sum(revenue) AS revenue,
           sum(error)::bigint AS error, sum(revenue_error) AS revenue_error
    FROM (
        SELECT bucket, bound, NULL AS value, NULL AS second, 0::bigint AS events, 0::numeric AS revenue,
               unlisted_error AS error, unlisted_revenue_error AS revenue_error
        FROM counted
        UNION ALL
        SELECT bucket, bound, listed.value, listed.second, sign * listed.events, sign * listed.revenue,
               CASE WHEN first AND value IS NOT NULL THEN listed_error - unlisted_error END,
               CASE WHEN first AND value IS NOT NULL THEN listed_revenue_error - unlisted_revenue_error END
        FROM counted
        CROSS JOIN LATERAL (
            SELECT 0 AS place, true AS first, true AS paid WHERE $9::text[] IS NULL
            UNION ALL
            SELECT place, row_number() OVER (ORDER BY place) = 1, type = '{purchase}'
            FROM unnest(event_types::text[]) WITH ORDINALITY AS known (type, place) WHERE type = ANY ($9)
        ) AS type
        CROSS JOIN LATERAL unnest(
            values, seconds, CASE WHEN type.place = 0 THEN totals ELSE counted.events[type.place:type.place] END,
            CASE WHEN paid THEN counted.revenue END
        ) AS listed (value, second, events, revenue)
        UNION ALL
        SELECT bucket, bound, value, second, sign * events, sign * revenue, 0, 0
        FROM (
            SELECT CASE WHEN bound IS NULL THEN width_bucket(event_time, $6::timestamptz[]) END AS bucket, bound, sign,
                   value, second, count(*) AS events, sum(amount) AS revenue
            FROM piece CROSS JOIN LATERAL (
                SELECT * FROM ({rows}) AS event
                WHERE event_time >= piece.lower AND event_time < piece.upper
                OFFSET 0
            ) AS event
            WHERE piece.unit = 'rows' AND value IS NOT NULL AND (second IS NOT NULL OR NOT {pair})
              AND ($9::text[] IS NULL OR event_type::text = ANY ($9))
            GROUP BY 1, 2, 3, 4, 5
        ) AS kept
    ) AS part
    GROUP BY bucket, bound, value, coalesce(second, '')
), ranked AS (
    SELECT value, second FROM (
        SELECT value, second,
               sum(CASE WHEN bound IS NULL THEN 1 WHEN bound = 0 THEN -1 WHEN bound = $10 THEN 1 ELSE 0 END
                   * CASE WHEN $11 = 'revenue' THEN revenue ELSE events END) AS figure
        FROM figures WHERE value IS NOT NULL GROUP BY value, second
    ) AS summed
    WHERE $14::text[] IS NULL OR (value, second) IN (SELECT * FROM unnest($14, $15::text[]))
    ORDER BY figure DESC NULLS LAST, value COLLATE "C", second COLLATE "C"
    LIMIT $12 OFFSET $13
), listed AS (
    SELECT bucket, bound, CASE WHEN hit THEN value END AS value, CASE WHEN hit THEN second END AS second,
           sum(events)::bigint AS events, sum(revenue) AS revenue,
           sum(error) FILTER (WHERE hit OR value IS NULL) AS error,
           sum(revenue_error) FILTER (WHERE hit OR value IS NULL) AS revenue_error
    FROM (
        SELECT *, value IS NOT NULL AND (value, second) IN (SELECT value, second FROM ranked) AS hit FROM figures
    ) AS figures
    GROUP BY 1, 2, 3, 4
), bounded AS (
    SELECT bucket, bound, value, CASE WHEN {pair} THEN second END AS second, events, coalesce(revenue, 0) AS revenue,
           coalesce(sum(error) FILTER (WHERE value IS NULL) OVER same, 0)
           + CASE WHEN value IS NULL THEN 0 ELSE coalesce(error, 0) END AS error,
           coalesce(sum(revenue_error) FILTER (WHERE value IS NULL) OVER same, 0)
           + CASE WHEN value IS NULL THEN 0 ELSE coalesce(revenue_error, 0) END AS revenue_error
    FROM listed
    WINDOW same AS (PARTITION BY bucket, bound)
)
SELECT bucket, bound, value, second, events, revenue, error::bigint AS error, revenue_error,
       (SELECT min(lower) FROM piece WHERE unit = 'rows') AS rows_since
FROM (SELECT) AS always LEFT JOIN bounded ON true

-- name: pieces
-- Which buckets are read for spans, and for which ranges rows are.
SELECT unit, lower, upper, bound, sign
FROM breakdown_pieces($6::text::source, $7::text, $1::text[], $2::timestamptz[], $3::timestamptz[], $4::integer[], $5::integer[])
ORDER BY bound NULLS FIRST, lower
