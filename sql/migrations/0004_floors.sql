-- drop_partitions runs as the owner, and a floor never sinks: by one call with a date far ahead, whoever holds the
-- collector's password would drop every day and lock the house. So it takes no floor that retention cannot ask for:
-- RETENTION_DAYS is at least 5 (core/settings.py).
CREATE OR REPLACE FUNCTION drop_partitions(parent text, new_floor date) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    latest date := (now() AT TIME ZONE 'UTC')::date - 5;
    leaf text;
    dropped integer := 0;
BEGIN
    IF new_floor > latest THEN
        RAISE EXCEPTION 'partitions of % before % are not dropped: the latest floor is %', parent, new_floor, latest
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('sluice.partitions'), hashtext(parent));
    UPDATE partition_floors f SET floor = greatest(f.floor, new_floor) WHERE f.parent = drop_partitions.parent;
    FOR leaf IN
        SELECT inhrelid::regclass::text FROM pg_inherits
        WHERE inhparent = parent::regclass
          AND right(inhrelid::regclass::text, 8) < to_char(new_floor, 'YYYYMMDD')
    LOOP
        EXECUTE format('DROP TABLE %I', leaf);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;

-- Sums of receipts are added to; nobody deletes one.
REVOKE DELETE ON receipt_totals FROM sluice_collector;
