-- Reports as views for Grafana and BI tools, in a schema of their own: one row a quarter-hour and group. They read the
-- rollups and breakdowns that reports read, so their figures are those of reports. Views read with the rights of their
-- owner: the role sluice_bi reads them, and no table of events.

CREATE SCHEMA reports;
COMMENT ON SCHEMA reports IS 'Reports as views, for BI tools. See docs/bi.md.';

-- What views need to know of a source. Text and not enum types: a new label cannot be used before its commit.
CREATE TABLE reports.sources (
    source        text COLLATE "C" PRIMARY KEY,
    title         text NOT NULL,
    purchase_type text NOT NULL,
    funnel        text[] NOT NULL
);
COMMENT ON TABLE reports.sources IS 'The declared sources';
COMMENT ON COLUMN reports.sources.source IS 'Name of the source, as in events';
COMMENT ON COLUMN reports.sources.title IS 'Name of the source for people';
COMMENT ON COLUMN reports.sources.purchase_type IS 'The event type that is a purchase; its amounts are revenue';
COMMENT ON COLUMN reports.sources.funnel IS 'Event types, in the order of the steps of the default funnel';

-- The breakdowns with too many values for a rollup of their own, and the column that has the values.
CREATE TABLE reports.ranked_columns (
    source      text COLLATE "C" NOT NULL REFERENCES reports.sources,
    breakdown   text COLLATE "C" NOT NULL,
    column_name text NOT NULL,
    PRIMARY KEY (source, breakdown)
);
COMMENT ON TABLE reports.ranked_columns IS 'Dimensions with many values: campaigns and cities';
COMMENT ON COLUMN reports.ranked_columns.source IS 'Name of the source';
COMMENT ON COLUMN reports.ranked_columns.breakdown IS 'Name of the dimension; campaign is that of the campaign';
COMMENT ON COLUMN reports.ranked_columns.column_name IS 'Column of the table of events that has the values';

INSERT INTO reports.sources VALUES
    ('facebook', 'Facebook', 'checkout.complete', '{ad.view,ad.click,checkout.complete}'),
    ('tiktok', 'TikTok', 'purchase', '{video.view,profile.visit,purchase}');
INSERT INTO reports.ranked_columns VALUES ('facebook', 'campaign', 'campaign_id'), ('facebook', 'city', 'city');

-- Counts of a quarter-hour by a ranked column, from its rows, for a quarter-hour that is not counted. The last parameter
-- is not used: it makes the planner call the function only after it knows what is counted.
CREATE FUNCTION reports.rows_of_quarter(source text, breakdown text, bucket timestamptz, counted_events bigint)
    RETURNS TABLE (value text, event_type text, events bigint, revenue numeric)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp COST 1000000 AS $$
DECLARE
    ranked record;
BEGIN
    SELECT r.column_name, s.purchase_type INTO ranked
    FROM reports.ranked_columns r JOIN reports.sources s USING (source)
    WHERE r.source = rows_of_quarter.source AND r.breakdown = rows_of_quarter.breakdown;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE format(
        'SELECT %1$I::text, event_type::text, count(*),
                coalesce(sum(purchase_amount) FILTER (WHERE event_type::text = $2), 0)
         FROM %2$I
         WHERE event_time >= $1 AND event_time < $1 + interval ''15 minutes'' AND %1$I IS NOT NULL
         GROUP BY 1, 2', ranked.column_name, source || '_events') USING bucket, ranked.purchase_type;
END $$;

-- Ranked values by quarter-hour: from the breakdown if it is valid (see breakdown_buckets), otherwise from rows.
CREATE VIEW reports.ranked_quarters AS
SELECT counts.bucket, ranked.source, ranked.breakdown, listed.value, type.event_type::text, listed.events,
       CASE WHEN type.event_type::text = declared.purchase_type THEN listed.events ELSE 0 END AS purchases,
       CASE WHEN type.event_type::text = declared.purchase_type THEN listed.revenue ELSE 0 END AS revenue,
       counts.listed_error AS max_error
FROM breakdown_counts counts
JOIN reports.ranked_columns ranked ON ranked.source = counts.source::text AND ranked.breakdown = counts.breakdown
JOIN reports.sources declared ON declared.source = ranked.source
JOIN breakdown_buckets counted ON counted.source = counts.source AND counted.unit = 'quarter'
                              AND counted.bucket = counts.bucket AND counts.breakdown = ANY (counted.breakdowns)
CROSS JOIN LATERAL unnest(counts.event_types) WITH ORDINALITY AS type (event_type, place)
CROSS JOIN LATERAL unnest(counts.values, counts.events[type.place:type.place], counts.revenue)
    AS listed (value, events, revenue)
WHERE counts.unit = 'quarter' AND listed.events <> 0
  AND counted.events = (SELECT sum(exact.events) FROM event_counts exact
                        WHERE exact.bucket = counts.bucket AND exact.source = counts.source)
UNION ALL
SELECT exact.bucket, ranked.source, ranked.breakdown, rows.value, rows.event_type, rows.events,
       CASE WHEN rows.event_type = declared.purchase_type THEN rows.events ELSE 0 END, rows.revenue, 0
FROM (SELECT bucket, source, sum(events)::bigint AS events FROM event_counts GROUP BY bucket, source) AS exact
JOIN reports.ranked_columns ranked ON ranked.source = exact.source::text
JOIN reports.sources declared ON declared.source = ranked.source
LEFT JOIN breakdown_buckets counted ON counted.source = exact.source AND counted.unit = 'quarter'
                                   AND counted.bucket = exact.bucket AND ranked.breakdown = ANY (counted.breakdowns)
CROSS JOIN LATERAL reports.rows_of_quarter(ranked.source, ranked.breakdown, exact.bucket, counted.events) AS rows
WHERE exact.events <> 0 AND counted.events IS DISTINCT FROM exact.events;

CREATE VIEW reports.report_events AS
SELECT bucket, source::text, funnel_stage::text, event_type::text, sum(events)::bigint AS events
FROM event_counts
GROUP BY event_counts.bucket, event_counts.source, event_counts.funnel_stage, event_counts.event_type
HAVING sum(events) <> 0;

CREATE VIEW reports.report_revenue AS
SELECT counts.bucket, declared.source, sum(counts.events)::bigint AS purchases, sum(counts.revenue) AS revenue
FROM event_counts counts
JOIN reports.sources declared ON declared.source = counts.source::text AND declared.purchase_type = counts.event_type::text
GROUP BY counts.bucket, declared.source
HAVING sum(counts.events) <> 0;

CREATE VIEW reports.report_audience AS
SELECT bucket, source::text, dimension::text, value, sum(events)::bigint AS events
FROM audience_counts
GROUP BY audience_counts.bucket, audience_counts.source, audience_counts.dimension, audience_counts.value
HAVING sum(events) <> 0
UNION ALL
SELECT bucket, source, breakdown, value, sum(events)::bigint
FROM reports.ranked_quarters
WHERE breakdown <> 'campaign'
GROUP BY bucket, source, breakdown, value;

CREATE VIEW reports.report_campaigns AS
SELECT bucket, source, value AS campaign_id, event_type, events, purchases, revenue, max_error
FROM reports.ranked_quarters
WHERE breakdown = 'campaign';

CREATE VIEW reports.report_freshness AS
SELECT declared.source, declared.title, stored_until,
       greatest(0, extract(epoch FROM statement_timestamp() - stored_until))::double precision AS behind_seconds,
       pending_messages, observed_at
FROM reports.sources declared LEFT JOIN watermarks ON watermarks.source::text = declared.source;

-- Sums of a ranked dimension over the quarter-hours that begin in a range, from the longest units that are valid. The
-- views give the same figures, but they read each quarter-hour.
CREATE FUNCTION reports.ranked_values(breakdown text, since timestamptz, until timestamptz)
    RETURNS TABLE (source text, value text, event_type text, events bigint, purchases bigint, revenue numeric,
                   max_error bigint)
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    WITH unit AS (
        SELECT * FROM (VALUES ('week', interval '168 hours', 1), ('day', '24 hours', 2), ('hour', '1 hour', 3),
                              ('quarter', '15 minutes', 4)) AS unit (name, step, place)
    ), range AS (
        SELECT date_bin('15 minutes', $2 + interval '15 minutes' - interval '1 microsecond', '2000-01-03 00:00+00') AS lower,
               date_bin('15 minutes', $3 + interval '15 minutes' - interval '1 microsecond', '2000-01-03 00:00+00') AS upper
    ), whole AS (
        -- The part of the range that whole units cover. The part of a longer unit lies within that of a shorter one.
        SELECT name, place,
               date_bin(step, lower + step - interval '1 microsecond', '2000-01-03 00:00+00') AS lower,
               date_bin(step, upper, '2000-01-03 00:00+00') AS upper
        FROM unit, range
    ), nested AS (
        SELECT name, lower, upper, lag(lower) OVER longest_first AS inner_lower, lag(upper) OVER longest_first AS inner_upper
        FROM whole WINDOW longest_first AS (ORDER BY place)
    ), span AS (
        SELECT name, lower, CASE WHEN inner_lower < inner_upper THEN inner_lower ELSE upper END AS upper
        FROM nested WHERE lower < upper
        UNION ALL
        SELECT name, inner_upper, upper FROM nested WHERE inner_lower < inner_upper
    ), piece AS MATERIALIZED (
        SELECT ranked.source, ranked.breakdown, piece.unit, piece.lower, piece.upper
        FROM reports.ranked_columns ranked
        CROSS JOIN (
            SELECT array_agg(name) AS units, array_agg(lower) AS lowers, array_agg(upper) AS uppers,
                   array_agg(0) AS bounds, array_agg(1) AS signs
            FROM span WHERE lower < upper
        ) AS spans
        CROSS JOIN LATERAL breakdown_pieces(ranked.source::source, ranked.breakdown, spans.units, spans.lowers,
                                            spans.uppers, spans.bounds, spans.signs) AS piece
        WHERE ranked.breakdown = $1
    ), counted AS MATERIALIZED (
        SELECT piece.source AS name, counts.*
        FROM piece JOIN breakdown_counts counts
            ON counts.source = piece.source::source AND counts.breakdown = piece.breakdown
           AND counts.unit = piece.unit::breakdown_unit AND counts.bucket = piece.lower
        WHERE piece.unit <> 'rows'
    ), part AS (
        SELECT counted.name, listed.value, type.event_type::text, listed.events, listed.revenue
        FROM counted
        CROSS JOIN LATERAL unnest(counted.event_types) WITH ORDINALITY AS type (event_type, place)
        CROSS JOIN LATERAL unnest(counted.values, counted.events[type.place:type.place], counted.revenue)
            AS listed (value, events, revenue)
        WHERE listed.events <> 0
        UNION ALL
        SELECT piece.source, rows.value, rows.event_type, rows.events, rows.revenue
        FROM piece CROSS JOIN LATERAL reports.rows_of_quarter(piece.source, piece.breakdown, piece.lower, 0) AS rows
        WHERE piece.unit = 'rows'
    ), missing AS (
        -- What may be missing of a value that no bucket lists, and how much less that is because one lists it.
        SELECT name, sum(unlisted_error) AS error FROM counted GROUP BY name
    ), found AS (
        SELECT name, value, sum(listed_error - unlisted_error) AS error
        FROM counted CROSS JOIN LATERAL unnest(counted.values) AS listed (value)
        WHERE unlisted_error <> 0 AND value IS NOT NULL
        GROUP BY name, value
    ), summed AS (
        SELECT name, value, event_type, sum(events)::bigint AS events, sum(revenue) AS revenue
        FROM part GROUP BY name, value, event_type
    )
    SELECT summed.name, summed.value, summed.event_type, summed.events,
           CASE WHEN summed.event_type = declared.purchase_type THEN summed.events ELSE 0 END,
           CASE WHEN summed.event_type = declared.purchase_type THEN summed.revenue ELSE 0 END,
           (coalesce(missing.error, 0) + coalesce(found.error, 0))::bigint
    FROM summed
    JOIN reports.sources declared ON declared.source = summed.name
    LEFT JOIN missing ON missing.name = summed.name
    LEFT JOIN found ON found.name = summed.name AND found.value = summed.value
$$;
COMMENT ON FUNCTION reports.ranked_values IS
    'Sums by value of campaign or city over the quarter-hours that begin in a range (since <= bucket < until). Columns as in report_campaigns; value NULL is all values that are not listed.';

COMMENT ON VIEW reports.report_events IS 'Events: one row a quarter-hour, source, funnel stage and event type';
COMMENT ON COLUMN reports.report_events.bucket IS 'Start of the quarter-hour of the events'' own timestamps';
COMMENT ON COLUMN reports.report_events.source IS 'Source: facebook, tiktok';
COMMENT ON COLUMN reports.report_events.funnel_stage IS 'Funnel stage: top or bottom';
COMMENT ON COLUMN reports.report_events.event_type IS 'Event type, such as ad.view';
COMMENT ON COLUMN reports.report_events.events IS 'Number of events';

COMMENT ON VIEW reports.report_revenue IS 'Revenue: one row a quarter-hour and source with purchases';
COMMENT ON COLUMN reports.report_revenue.bucket IS 'Start of the quarter-hour of the events'' own timestamps';
COMMENT ON COLUMN reports.report_revenue.source IS 'Source: facebook, tiktok';
COMMENT ON COLUMN reports.report_revenue.purchases IS 'Number of purchases; average order value = sum(revenue) / sum(purchases)';
COMMENT ON COLUMN reports.report_revenue.revenue IS 'Sum of their amounts as received; events have no currency';

COMMENT ON VIEW reports.report_audience IS
    'Audience: one row a quarter-hour, source, dimension and value. Each dimension counts every event that has a value; do not add dimensions up';
COMMENT ON COLUMN reports.report_audience.bucket IS 'Start of the quarter-hour of the events'' own timestamps';
COMMENT ON COLUMN reports.report_audience.source IS 'Source: facebook, tiktok';
COMMENT ON COLUMN reports.report_audience.dimension IS
    'Dimension of the source: age, gender, country, city (facebook); followers, country, device (tiktok)';
COMMENT ON COLUMN reports.report_audience.value IS 'Value of the dimension; NULL is all values that are not listed';
COMMENT ON COLUMN reports.report_audience.events IS 'Number of events with this value';

COMMENT ON VIEW reports.report_campaigns IS 'Campaigns: one row a quarter-hour, source, campaign and event type';
COMMENT ON COLUMN reports.report_campaigns.bucket IS 'Start of the quarter-hour of the events'' own timestamps';
COMMENT ON COLUMN reports.report_campaigns.source IS 'Source with campaigns: facebook';
COMMENT ON COLUMN reports.report_campaigns.campaign_id IS 'Campaign, as sent; NULL is all campaigns that are not listed';
COMMENT ON COLUMN reports.report_campaigns.event_type IS 'Event type, such as ad.click';
COMMENT ON COLUMN reports.report_campaigns.events IS 'Number of events';
COMMENT ON COLUMN reports.report_campaigns.purchases IS 'Number of purchases: the events if the type is the purchase of the source, otherwise 0';
COMMENT ON COLUMN reports.report_campaigns.revenue IS 'Sum of the amounts of the purchases';
COMMENT ON COLUMN reports.report_campaigns.max_error IS
    'The campaign has at most so many events more than shown; 0 unless the quarter-hour has more campaigns than are kept';

COMMENT ON VIEW reports.report_freshness IS 'Freshness: one row a source';
COMMENT ON COLUMN reports.report_freshness.source IS 'Source: facebook, tiktok';
COMMENT ON COLUMN reports.report_freshness.title IS 'Name of the source for people';
COMMENT ON COLUMN reports.report_freshness.stored_until IS 'Every event accepted before this instant is stored; NULL if unknown';
COMMENT ON COLUMN reports.report_freshness.behind_seconds IS 'Age of stored_until in seconds';
COMMENT ON COLUMN reports.report_freshness.pending_messages IS 'Messages that wait in the stream';
COMMENT ON COLUMN reports.report_freshness.observed_at IS 'When a collector wrote this row';

REVOKE ALL ON FUNCTION reports.rows_of_quarter, reports.ranked_values FROM PUBLIC;
-- ops/postgres/roles.sql makes the role, and grants this too: either may run first.
CREATE PROCEDURE reports.grant_to(role name) LANGUAGE plpgsql AS $$
DECLARE
    readable text;
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA reports TO %I', role);
    FOREACH readable IN ARRAY ARRAY['sources', 'report_events', 'report_revenue', 'report_audience', 'report_campaigns',
                                    'report_freshness'] LOOP
        EXECUTE format('GRANT SELECT ON reports.%I TO %I', readable, role);
    END LOOP;
    -- The views call this function with the rights of the reader.
    EXECUTE format('GRANT EXECUTE ON FUNCTION reports.rows_of_quarter, reports.ranked_values TO %I', role);
END $$;
COMMENT ON PROCEDURE reports.grant_to IS 'Let a role read the reports';
REVOKE ALL ON PROCEDURE reports.grant_to FROM PUBLIC;
DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'sluice_bi') THEN
        CALL reports.grant_to('sluice_bi');
    END IF;
END $$;
