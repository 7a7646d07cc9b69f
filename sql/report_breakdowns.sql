-- Breakdowns for reports: one statement reads valid buckets, and rows for all others. In one statement all is of one moment.
-- reporter/breakdowns.py fills in {rows}, the statement breakdown_rows of the source and the breakdown; {keys} and {second},
-- which differ for a pair; and the order: {columns}, with their {figures} of a bucket and {row_figures}.

-- name: read
-- The values with the largest figure of one breakdown ($8) of a source ($7), and all others as NULL.
-- $1 to $5 are ranges (unit, start, end, bound, sign), $6 where buckets meet, as in report_events. $9 are the event types
-- that count (NULL: all), $10 the number of the last bound. The first $11 values after $12 are listed, or those in $13
-- (and $14, for a pair) if it is not NULL.
-- error and revenue_error: the figure of a listed value is off by at most so much, up or down (0: exact). The row of NULL
-- has the figure of a value that no bucket lists; so has a value without a row in a bucket.
-- rows_since is the earliest instant that was read from rows (NULL: none): they are not kept below the partition floor.
WITH piece AS MATERIALIZED (
    -- weight: what a piece adds to the whole range. Inner bounds add nothing: what one bucket gets the next one loses.
    SELECT *, CASE WHEN bound IS NULL AND unit <> 'rows' THEN width_bucket(lower, $6::timestamptz[]) END AS bucket,
           sign * CASE WHEN bound IS NULL THEN 1 WHEN bound = 0 THEN -1 WHEN bound = $10 THEN 1 ELSE 0 END AS weight
    FROM breakdown_pieces($7::text::source, $8::text, $1::text[], $2::timestamptz[], $3::timestamptz[], $4::integer[],
                          $5::integer[])
), counted AS MATERIALIZED (
    SELECT piece.bucket, bound, sign, weight, type.*, values, seconds, totals, events, revenue,
           unlisted_error AS error, CASE WHEN first THEN listed_error - unlisted_error END AS less_error,
           unlisted_revenue_error AS revenue_error,
           CASE WHEN first THEN listed_revenue_error - unlisted_revenue_error END AS less_revenue_error
    FROM piece
    CROSS JOIN LATERAL (
        SELECT * FROM breakdown_counts
        WHERE source = $7::text::source AND breakdown = $8::text AND unit = piece.unit::breakdown_unit
          AND breakdown_counts.bucket = piece.lower
        OFFSET 0
    ) AS counts (source, breakdown, unit, starts, event_types, values, seconds, totals, events, revenue,
                 listed_error, unlisted_error, listed_revenue_error, unlisted_revenue_error)
    CROSS JOIN LATERAL (
        -- One row for all types, or one for each that counts; place is a row of `events`.
        SELECT 0 AS place, true AS first, true AS paid WHERE $9::text[] IS NULL
        UNION ALL
        SELECT place, row_number() OVER (ORDER BY place) = 1, type = '{purchase}'
        FROM unnest(event_types::text[]) WITH ORDINALITY AS known (type, place) WHERE type = ANY ($9)
    ) AS type
    WHERE piece.unit <> 'rows'
), kept AS MATERIALIZED (
    SELECT CASE WHEN bound IS NULL THEN width_bucket(event_time, $6::timestamptz[]) END AS bucket, bound, sign, weight,
           {keys}, count(*) AS events, coalesce(sum(amount), 0) AS revenue
    FROM piece CROSS JOIN LATERAL (
        SELECT * FROM ({rows}) AS event
        WHERE event_time >= piece.lower AND event_time < piece.upper
        OFFSET 0
    ) AS event
    WHERE piece.unit = 'rows' AND ({keys}) IS NOT NULL AND ($9::text[] IS NULL OR event_type::text = ANY ($9))
    GROUP BY 1, 2, 3, 4, {keys}
), ranked AS MATERIALIZED (
    SELECT {keys}
    FROM (
        SELECT {keys}, coalesce(sum(weight * figure), 0) AS figure
        FROM (
            SELECT {keys}, weight, {columns}
            FROM (
                -- In the list, not in FROM: a function in FROM stores its rows before they are read.
                SELECT weight, {unnested}, {figures} FROM counted WHERE weight <> 0
            ) AS listed
            WHERE value IS NOT NULL
            UNION ALL
            SELECT {keys}, weight, {row_figures} FROM kept WHERE weight <> 0
        ) AS part
        GROUP BY {keys}
        HAVING sum(weight * {events}) <> 0  -- a value without events is not listed
    ) AS summed
    WHERE $13::text[] IS NULL OR (value, {second}) IN (SELECT * FROM unnest($13, $14::text[]))
    ORDER BY figure DESC, value COLLATE "C", {second} COLLATE "C"
    LIMIT $11 OFFSET $12
), figures AS (
    SELECT bucket, bound, CASE WHEN hit THEN value END AS value, CASE WHEN hit AND {pair} THEN second END AS second,
           sum((sign * events)::float8)::bigint AS events,
           coalesce(sum(revenue) FILTER (WHERE sign > 0), 0) - coalesce(sum(revenue) FILTER (WHERE sign < 0), 0) AS revenue,
           sum(error) FILTER (WHERE hit OR is_base) AS error,
           sum(revenue_error) FILTER (WHERE hit OR is_base) AS revenue_error
    FROM (
        SELECT *, NOT is_base AND value IS NOT NULL AND ({keys}) IN (SELECT {keys} FROM ranked) AS hit
        FROM (
            -- What may be missing of a value that no bucket lists, and how much less that is because one lists it.
            SELECT bucket, bound, sign, true AS is_base, NULL AS value, NULL AS second, 0 AS events, 0 AS revenue,
                   error, revenue_error
            FROM counted WHERE first
            UNION ALL
            SELECT bucket, bound, sign, false, value, {second}, events, revenue, less_error, less_revenue_error
            FROM (
                SELECT bucket, bound, sign, less_error, less_revenue_error,
                       {unnested}, unnest(CASE WHEN place = 0 THEN totals ELSE events[place:place] END) AS events,
                       unnest(CASE WHEN paid THEN revenue END) AS revenue
                FROM counted
            ) AS listed
            UNION ALL
            SELECT bucket, bound, sign, false, value, {second}, events, revenue, 0, 0 FROM kept
        ) AS part
        OFFSET 0
    ) AS part
    GROUP BY 1, 2, 3, 4
), bounded AS (
    SELECT bucket, bound, value, second, events, coalesce(revenue, 0) AS revenue,
           coalesce(sum(error) FILTER (WHERE value IS NULL) OVER same, 0)
           + CASE WHEN value IS NULL THEN 0 ELSE coalesce(error, 0) END AS error,
           coalesce(sum(revenue_error) FILTER (WHERE value IS NULL) OVER same, 0)
           + CASE WHEN value IS NULL THEN 0 ELSE coalesce(revenue_error, 0) END AS revenue_error
    FROM figures
    WINDOW same AS (PARTITION BY bucket, bound)
)
SELECT bucket, bound, value, second, events, revenue, error::bigint AS error, revenue_error,
       (SELECT min(lower) FROM piece WHERE unit = 'rows') AS rows_since
FROM (SELECT) AS always LEFT JOIN bounded ON true

-- name: pieces
-- Which buckets are read for ranges, and between which instants rows are.
SELECT unit, lower, upper, bound, sign
FROM breakdown_pieces($6::text::source, $7::text, $1::text[], $2::timestamptz[], $3::timestamptz[], $4::integer[], $5::integer[])
ORDER BY bound NULLS FIRST, lower

-- name: rows_length
-- How long the ranges are, added up, that are read from rows.
SELECT coalesce(sum(upper - lower), interval '0')
FROM breakdown_pieces($6::text::source, $7::text, $1::text[], $2::timestamptz[], $3::timestamptz[], $4::integer[], $5::integer[])
WHERE unit = 'rows'
