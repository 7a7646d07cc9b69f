-- Totals of the rollups by hour, day and week (UTC), so that a report of a month reads weeks and not quarter-hours.
-- Triggers keep them in the transaction that writes a rollup, whoever writes it: they equal the quarter-hours' sums at
-- every moment, late events and corrections included, and no report needs to know what is closed.

CREATE TYPE rollup_unit AS ENUM ('hour', 'day', 'week');

-- The start of the unit (UTC) that holds this instant. Weeks begin on Monday.
CREATE FUNCTION unit_start(unit rollup_unit, moment timestamptz) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT date_bin(CASE unit WHEN 'hour' THEN interval '1 hour' WHEN 'day' THEN interval '24 hours'
                              ELSE interval '168 hours' END, moment, '2000-01-03 00:00+00') $$;

CREATE TABLE event_totals (
    unit         rollup_unit NOT NULL,
    bucket       timestamptz NOT NULL,
    source       source NOT NULL,
    funnel_stage funnel_stage NOT NULL,
    event_type   event_type NOT NULL,
    shard        smallint NOT NULL,
    events       bigint NOT NULL,
    revenue      numeric(20, 2) NOT NULL,
    PRIMARY KEY (unit, bucket, source, funnel_stage, event_type, shard)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE TABLE audience_totals (
    unit      rollup_unit NOT NULL,
    bucket    timestamptz NOT NULL,
    source    source NOT NULL,
    dimension audience_dimension NOT NULL,
    value     text COLLATE "C",
    shard     smallint NOT NULL,
    events    bigint NOT NULL,
    CONSTRAINT audience_totals_key UNIQUE NULLS NOT DISTINCT (unit, source, dimension, bucket, value, shard)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- Written in key order, as the rollups are: two writers of one shard wait for each other and do not deadlock.
-- As their owner: who may write rollups need not be able to write totals.
CREATE FUNCTION count_event_totals() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
DECLARE
    sign integer := TG_ARGV[0];
BEGIN
    INSERT INTO event_totals AS kept (unit, bucket, source, funnel_stage, event_type, shard, events, revenue)
    SELECT unit, unit_start(unit, bucket) AS start, source, funnel_stage, event_type, shard, sign * sum(events), sign * sum(revenue)
    FROM counted, unnest(enum_range(NULL::rollup_unit)) AS unit
    GROUP BY unit, start, source, funnel_stage, event_type, shard
    ORDER BY unit, start, source, funnel_stage, event_type, shard
    ON CONFLICT (unit, bucket, source, funnel_stage, event_type, shard)
    DO UPDATE SET events = kept.events + excluded.events, revenue = kept.revenue + excluded.revenue;
    RETURN NULL;
END $$;

CREATE FUNCTION change_event_totals() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO event_totals AS kept (unit, bucket, source, funnel_stage, event_type, shard, events, revenue)
    SELECT unit, unit_start(unit, bucket) AS start, source, funnel_stage, event_type, shard,
           sum(change.events), sum(change.revenue)
    FROM (
        SELECT bucket, source, funnel_stage, event_type, shard, events, revenue FROM added
        UNION ALL
        SELECT bucket, source, funnel_stage, event_type, shard, -events, -revenue FROM removed
    ) AS change, unnest(enum_range(NULL::rollup_unit)) AS unit
    GROUP BY unit, start, source, funnel_stage, event_type, shard
    ORDER BY unit, start, source, funnel_stage, event_type, shard
    ON CONFLICT (unit, bucket, source, funnel_stage, event_type, shard)
    DO UPDATE SET events = kept.events + excluded.events, revenue = kept.revenue + excluded.revenue;
    RETURN NULL;
END $$;

CREATE FUNCTION count_audience_totals() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
DECLARE
    sign integer := TG_ARGV[0];
BEGIN
    INSERT INTO audience_totals AS kept (unit, bucket, source, dimension, value, shard, events)
    SELECT unit, unit_start(unit, bucket) AS start, source, dimension, value, shard, sign * sum(events)
    FROM counted, unnest(enum_range(NULL::rollup_unit)) AS unit
    GROUP BY unit, start, source, dimension, value, shard
    ORDER BY unit, source, dimension, start, value, shard
    ON CONFLICT (unit, source, dimension, bucket, value, shard) DO UPDATE SET events = kept.events + excluded.events;
    RETURN NULL;
END $$;

CREATE FUNCTION change_audience_totals() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp AS $$
BEGIN
    INSERT INTO audience_totals AS kept (unit, bucket, source, dimension, value, shard, events)
    SELECT unit, unit_start(unit, bucket) AS start, source, dimension, value, shard, sum(change.events)
    FROM (
        SELECT bucket, source, dimension, value, shard, events FROM added
        UNION ALL
        SELECT bucket, source, dimension, value, shard, -events FROM removed
    ) AS change, unnest(enum_range(NULL::rollup_unit)) AS unit
    GROUP BY unit, start, source, dimension, value, shard
    ORDER BY unit, source, dimension, start, value, shard
    ON CONFLICT (unit, source, dimension, bucket, value, shard) DO UPDATE SET events = kept.events + excluded.events;
    RETURN NULL;
END $$;

-- Nothing would follow a TRUNCATE.
CREATE FUNCTION refuse_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is not truncated: its totals would stay', TG_TABLE_NAME
        USING ERRCODE = 'object_not_in_prerequisite_state';
END $$;

CREATE TRIGGER totals_added AFTER INSERT ON event_counts
    REFERENCING NEW TABLE AS counted FOR EACH STATEMENT EXECUTE FUNCTION count_event_totals('1');
CREATE TRIGGER totals_changed AFTER UPDATE ON event_counts
    REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION change_event_totals();
CREATE TRIGGER totals_removed AFTER DELETE ON event_counts
    REFERENCING OLD TABLE AS counted FOR EACH STATEMENT EXECUTE FUNCTION count_event_totals('-1');
CREATE TRIGGER totals_kept BEFORE TRUNCATE ON event_counts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();
CREATE TRIGGER totals_added AFTER INSERT ON audience_counts
    REFERENCING NEW TABLE AS counted FOR EACH STATEMENT EXECUTE FUNCTION count_audience_totals('1');
CREATE TRIGGER totals_changed AFTER UPDATE ON audience_counts
    REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION change_audience_totals();
CREATE TRIGGER totals_removed AFTER DELETE ON audience_counts
    REFERENCING OLD TABLE AS counted FOR EACH STATEMENT EXECUTE FUNCTION count_audience_totals('-1');
CREATE TRIGGER totals_kept BEFORE TRUNCATE ON audience_counts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

-- The rollups that stand already. Nobody writes them while the schema changes: the triggers above hold their locks.
INSERT INTO event_totals
SELECT unit, unit_start(unit, bucket), source, funnel_stage, event_type, shard, sum(events), sum(revenue)
FROM event_counts, unnest(enum_range(NULL::rollup_unit)) AS unit
GROUP BY 1, 2, 3, 4, 5, 6;
INSERT INTO audience_totals
SELECT unit, unit_start(unit, bucket), source, dimension, value, shard, sum(events)
FROM audience_counts, unnest(enum_range(NULL::rollup_unit)) AS unit
GROUP BY 1, 2, 3, 4, 5, 6;

GRANT SELECT ON event_totals, audience_totals TO sluice_reporter, sluice_collector;
