-- Partitions by membership, not by name: a table of a leaf's name that is detached is no partition, and rows written into
-- it are in no report. Only the table <parent>_YYYYMMDD is a leaf of ours: any other partition is left alone.

-- The day of a leaf, or NULL for a table of another name.
CREATE FUNCTION leaf_day(parent text, leaf regclass) RETURNS date
    LANGUAGE sql STABLE SET search_path = public, pg_temp AS $$
    SELECT to_date(right(relname, 8), 'YYYYMMDD') FROM pg_class
    WHERE oid = leaf AND relname ~ ('^' || parent || '_\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])$') $$;

-- Make one day's partition of a parent, or attach its table again: 'made', 'attached', or 'existed' if nothing was to do.
-- A table of its own is made and then attached: CREATE … PARTITION OF would lock the parent against writers.
-- Raises check_violation where the day lies below the floor, lock_not_available after 2 s, and operator_intervention
-- where a table has the leaf's name and cannot be attached: an operator has to rename or repair that one.
CREATE FUNCTION ensure_day(parent text, day date) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    name text := parent || to_char(day, '_YYYYMMDD');
    lower timestamptz := day::timestamp AT TIME ZONE 'UTC';
    upper timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
    leaf regclass;
    pending boolean;
    done text := 'attached';
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('sluice.partitions'), hashtext(parent));
    IF day < (SELECT floor FROM partition_floors f WHERE f.parent = ensure_day.parent) THEN
        RAISE EXCEPTION 'partition of % for % lies below the floor', parent, day USING ERRCODE = 'check_violation';
    END IF;
    leaf := (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname = name); -- no temporary one
    IF leaf IS NULL THEN
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL, CONSTRAINT day CHECK (event_time >= %L AND event_time < %L))',
                       name, parent, lower, upper);
        done := 'made';
    END IF;
    SELECT inhdetachpending INTO pending FROM pg_inherits WHERE inhparent = parent::regclass AND inhrelid = leaf;
    IF NOT pending THEN
        RETURN 'existed';
    END IF;
    BEGIN
        IF pending THEN -- a DETACH … CONCURRENTLY that was broken off: it can only be completed
            EXECUTE format('ALTER TABLE %I DETACH PARTITION %I FINALIZE', parent, name);
        END IF;
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, name, lower, upper);
        IF done = 'made' THEN
            EXECUTE format('ALTER TABLE %I DROP CONSTRAINT day', name);
        END IF;
        EXECUTE format('GRANT SELECT, INSERT ON %I TO sluice_collector', name);
    EXCEPTION
        WHEN lock_not_available THEN
            RAISE;
        WHEN OTHERS THEN
            RAISE EXCEPTION 'table % is not attached to % and cannot be: %', name, parent, SQLERRM
                USING ERRCODE = 'operator_intervention',
                      HINT = format('Rename or repair it: ALTER TABLE %I RENAME TO …; then: python -m ops partitions ensure', name);
    END;
    RETURN done;
END $$;

-- Raises undefined_table where one of these tables is no partition of the parent, or is being detached. Asked after rows
-- were written: the locks of those hold up a DETACH until they are committed.
CREATE FUNCTION require_attached(parent text, leaves text[]) RETURNS void
    LANGUAGE plpgsql STABLE SET search_path = public, pg_temp AS $$
DECLARE
    stray text;
BEGIN
    SELECT name INTO stray FROM unnest(leaves) AS name
    WHERE NOT EXISTS (SELECT FROM pg_inherits
                      WHERE inhparent = parent::regclass AND inhrelid = to_regclass(name) AND NOT inhdetachpending)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'table % is not attached to %', stray, parent USING ERRCODE = 'undefined_table';
    END IF;
END $$;

-- Raise the floor and drop the partitions of all days before it, each day by itself: a day that cannot be dropped, because
-- a view rests on it for instance, stays with its error, and the others go. Rollups of dropped days stay.
-- Raises lock_not_available after 2 s behind a report that reads the table: nothing is changed then.
-- It takes no floor that retention cannot ask for: RETENTION_DAYS is at least 5 (core/settings.py).
CREATE FUNCTION drop_days(parent text, new_floor date) RETURNS TABLE (day date, error text)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    latest date := (now() AT TIME ZONE 'UTC')::date - 5;
    leaf regclass;
    reason text;
BEGIN
    IF new_floor > latest THEN
        RAISE EXCEPTION 'partitions of % before % are not dropped: the latest floor is %', parent, new_floor, latest
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('sluice.partitions'), hashtext(parent));
    UPDATE partition_floors f SET floor = greatest(f.floor, new_floor) WHERE f.parent = drop_days.parent;
    FOR leaf, day IN
        SELECT inhrelid::regclass, leaf_day(parent, inhrelid) FROM pg_inherits
        WHERE inhparent = parent::regclass AND leaf_day(parent, inhrelid) < new_floor
        ORDER BY 2
    LOOP
        error := NULL;
        BEGIN
            EXECUTE format('DROP TABLE %s', leaf);
        EXCEPTION
            WHEN lock_not_available THEN
                RAISE;
            WHEN OTHERS THEN
                GET STACKED DIAGNOSTICS reason = PG_EXCEPTION_DETAIL;
                error := concat_ws(': ', SQLERRM, nullif(reason, ''));
        END;
        RETURN NEXT;
    END LOOP;
END $$;

-- For programs of the version before, which call these.
CREATE OR REPLACE FUNCTION ensure_partition(parent text, day date) RETURNS boolean
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$ SELECT ensure_day(parent, day) <> 'existed' $$;
CREATE OR REPLACE FUNCTION drop_partitions(parent text, new_floor date) RETURNS integer
    LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT count(*) FILTER (WHERE error IS NULL)::integer FROM drop_days(parent, new_floor) $$;

REVOKE ALL ON FUNCTION ensure_day, drop_days FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_day, drop_days TO sluice_collector;
