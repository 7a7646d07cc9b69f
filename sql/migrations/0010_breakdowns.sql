-- Breakdowns: counts of a source's events by the values of one or two columns, by event type, with revenue. Collectors
-- count a quarter-hour after it has ended, from its rows, and add quarter-hours up to hours, days and weeks (UTC).

CREATE TYPE breakdown_unit AS ENUM ('quarter', 'hour', 'day', 'week');

-- The events that the breakdowns of a bucket count. A bucket is valid while this equals the events of the same bucket in
-- event_counts (a quarter-hour) or event_totals (longer units), in the reader's snapshot: rows are only ever added, so
-- equal sums are equal sets. A late event makes its buckets invalid, until they are counted again. breakdowns are those
-- that were counted: for one that a source declares later, older buckets are counted again.
CREATE TABLE breakdown_buckets (
    source     source NOT NULL,
    unit       breakdown_unit NOT NULL,
    bucket     timestamptz NOT NULL,
    events     bigint NOT NULL,
    breakdowns text[] COLLATE "C" NOT NULL,
    counted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, unit, bucket)
) WITH (fillfactor = 90);

-- One row holds one breakdown of one bucket: arrays with an element a value, the value with most events first. Arrays
-- take a tenth of the space of a row a value, are written at once, and are read by one key.
--   values, seconds   the values; seconds of a breakdown by two columns (a pair), else NULL. A value of NULL is last: it
--                     is the sum of all values that are not listed. Rows without a value are not counted.
--   totals            events of all types, by value
--   events            events by event type (the order of event_types), and by value
--   revenue           by value
-- What is not exact, if values were cut off; otherwise all four are 0:
--   listed_error      a listed value has at most so many events more than are shown
--   unlisted_error    a value that is not listed has at most so many events
CREATE TABLE breakdown_counts (
    source                 source NOT NULL,
    breakdown              text COLLATE "C" NOT NULL,
    unit                   breakdown_unit NOT NULL,
    bucket                 timestamptz NOT NULL,
    event_types            event_type[] NOT NULL,
    values                 text[] COLLATE "C" NOT NULL,
    seconds                text[] COLLATE "C",
    totals                 bigint[] NOT NULL,
    events                 bigint[] NOT NULL,
    revenue                numeric[] NOT NULL,
    listed_error           bigint NOT NULL,
    unlisted_error         bigint NOT NULL,
    listed_revenue_error   numeric NOT NULL,
    unlisted_revenue_error numeric NOT NULL,
    PRIMARY KEY (source, breakdown, unit, bucket)
);

-- LZ4 is several times as fast as the default to write and to read; not every PostgreSQL is built with it.
DO $$ BEGIN
    ALTER TABLE breakdown_counts
        ALTER COLUMN values SET COMPRESSION lz4, ALTER COLUMN seconds SET COMPRESSION lz4,
        ALTER COLUMN totals SET COMPRESSION lz4, ALTER COLUMN events SET COMPRESSION lz4,
        ALTER COLUMN revenue SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN NULL;
END $$;

-- All collectors of a source share the work: before this instant none of them counts.
CREATE TABLE breakdown_turns (
    source     source PRIMARY KEY,
    rest_until timestamptz NOT NULL
) WITH (fillfactor = 50);

-- The buckets to read for ranges of whole units: one row a bucket, in the longest units that are valid. A bucket that is not valid becomes
-- its parts, and a quarter-hour that is not valid becomes 'rows' (lower <= event_time < upper). Buckets without events
-- have no row. bound and sign are those of the range (see reporter/read_plan.py).
CREATE FUNCTION breakdown_pieces(source source, breakdown text, units text[], lowers timestamptz[],
                                 uppers timestamptz[], bounds integer[], signs integer[])
    RETURNS TABLE (unit text, lower timestamptz, upper timestamptz, bound integer, sign integer)
    LANGUAGE sql STABLE AS $$
    WITH span AS (
        SELECT * FROM unnest(units, lowers, uppers, bounds, signs) AS span (unit, lower, upper, bound, sign)
    ), week AS (
        SELECT start, bound, sign,
               (SELECT sum(e.events) FROM event_totals e WHERE e.unit = 'week' AND e.bucket = start AND e.source = $1) AS exact,
               (SELECT b.events FROM breakdown_buckets b
                WHERE b.source = $1 AND b.unit = 'week' AND b.bucket = start AND $2 = ANY (b.breakdowns)) AS counted
        FROM span, generate_series(lower, upper - interval '168 hours', interval '168 hours') AS start
        WHERE unit = 'week'
    ), day AS (
        SELECT start, bound, sign,
               (SELECT sum(e.events) FROM event_totals e WHERE e.unit = 'day' AND e.bucket = start AND e.source = $1) AS exact,
               (SELECT b.events FROM breakdown_buckets b
                WHERE b.source = $1 AND b.unit = 'day' AND b.bucket = start AND $2 = ANY (b.breakdowns)) AS counted
        FROM (
            SELECT generate_series(lower, upper - interval '24 hours', interval '24 hours') AS start, bound, sign
            FROM span WHERE unit = 'day'
            UNION ALL
            SELECT generate_series(start, start + interval '144 hours', interval '24 hours'), bound, sign
            FROM week WHERE exact <> 0 AND exact IS DISTINCT FROM counted
        ) AS wanted
    ), hour AS (
        SELECT start, bound, sign,
               (SELECT sum(e.events) FROM event_totals e WHERE e.unit = 'hour' AND e.bucket = start AND e.source = $1) AS exact,
               (SELECT b.events FROM breakdown_buckets b
                WHERE b.source = $1 AND b.unit = 'hour' AND b.bucket = start AND $2 = ANY (b.breakdowns)) AS counted
        FROM (
            SELECT generate_series(lower, upper - interval '1 hour', interval '1 hour') AS start, bound, sign
            FROM span WHERE unit = 'hour'
            UNION ALL
            SELECT generate_series(start, start + interval '23 hours', interval '1 hour'), bound, sign
            FROM day WHERE exact <> 0 AND exact IS DISTINCT FROM counted
        ) AS wanted
    ), quarter AS (
        SELECT start, bound, sign,
               (SELECT sum(e.events) FROM event_counts e WHERE e.bucket = start AND e.source = $1) AS exact,
               (SELECT b.events FROM breakdown_buckets b
                WHERE b.source = $1 AND b.unit = 'quarter' AND b.bucket = start AND $2 = ANY (b.breakdowns)) AS counted
        FROM (
            SELECT generate_series(lower, upper - interval '15 minutes', interval '15 minutes') AS start, bound, sign
            FROM span WHERE unit = 'quarter'
            UNION ALL
            SELECT generate_series(start, start + interval '45 minutes', interval '15 minutes'), bound, sign
            FROM hour WHERE exact <> 0 AND exact IS DISTINCT FROM counted
        ) AS wanted
    )
    SELECT 'week', start, start + interval '168 hours', bound, sign FROM week WHERE exact = counted AND exact <> 0
    UNION ALL
    SELECT 'day', start, start + interval '24 hours', bound, sign FROM day WHERE exact = counted AND exact <> 0
    UNION ALL
    SELECT 'hour', start, start + interval '1 hour', bound, sign FROM hour WHERE exact = counted AND exact <> 0
    UNION ALL
    SELECT 'quarter', start, start + interval '15 minutes', bound, sign FROM quarter WHERE exact = counted AND exact <> 0
    UNION ALL
    SELECT 'rows', start, start + interval '15 minutes', bound, sign FROM quarter
    WHERE exact <> 0 AND exact IS DISTINCT FROM counted
    UNION ALL
    SELECT 'rows', lower, upper, bound, sign FROM span WHERE unit = 'rows' AND lower < upper
$$;

GRANT SELECT ON breakdown_buckets, breakdown_counts, breakdown_turns TO sluice_reporter, sluice_collector;
GRANT INSERT, UPDATE ON breakdown_buckets, breakdown_counts, breakdown_turns TO sluice_collector;
