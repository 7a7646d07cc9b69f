-- The house of the events. Written by the owner; the collector's role writes rows, the reporter's role only reads.
-- Times that are not the event's own are ours: received_at is the gateway's clock, stored_at the database's.

CREATE TYPE source AS ENUM ('facebook', 'tiktok');
CREATE TYPE funnel_stage AS ENUM ('top', 'bottom');
-- One list for all sources: a type alone does not name its source.
CREATE TYPE event_type AS ENUM (
    'ad.view', 'page.like', 'comment', 'video.view', 'ad.click', 'form.submission', 'checkout.complete',
    'like', 'share', 'profile.visit', 'purchase', 'follow'
);
CREATE TYPE gender AS ENUM ('male', 'female', 'non-binary');
CREATE TYPE referrer AS ENUM ('newsfeed', 'marketplace', 'groups');
CREATE TYPE click_position AS ENUM ('top_left', 'bottom_right', 'center');
CREATE TYPE facebook_device AS ENUM ('mobile', 'desktop');
CREATE TYPE browser AS ENUM ('Chrome', 'Firefox', 'Safari');
CREATE TYPE tiktok_device AS ENUM ('Android', 'iOS', 'Desktop');
CREATE TYPE audience_dimension AS ENUM ('age', 'gender', 'country', 'followers', 'device');
CREATE TYPE letter_outcome AS ENUM ('kept', 'replayed', 'discarded');

-- How the bounded audience dimensions name their values. A report that counts rows uses the same functions.
CREATE FUNCTION age_band(age smallint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT CASE WHEN age < 120 THEN age::text ELSE '120+' END $$;
CREATE FUNCTION followers_band(followers integer) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN followers < 1000 THEN '0-999'
                WHEN followers < 10000 THEN '1000-9999'
                WHEN followers < 100000 THEN '10000-99999'
                WHEN followers < 1000000 THEN '100000-999999'
                ELSE '1000000+' END $$;
-- The quarter-hour a rollup counts an event under.
CREATE FUNCTION quarter_hour(moment timestamptz) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT date_bin('15 minutes', moment, '2000-01-01 00:00+00') $$;

-- Events, one partition a day (UTC) of their own timestamp. Fixed-width columns first: less padding in a row.
-- There is no DEFAULT partition: a row without its day is an error, never a row in the wrong place.
CREATE TABLE facebook_events (
    event_time      timestamptz NOT NULL,
    action_time     timestamptz,
    received_at     timestamptz NOT NULL,
    stored_at       timestamptz NOT NULL DEFAULT now(),
    stream_sequence bigint NOT NULL,
    funnel_stage    funnel_stage NOT NULL,
    event_type      event_type NOT NULL,
    gender          gender NOT NULL,
    referrer        referrer,
    click_position  click_position,
    device          facebook_device,
    browser         browser,
    age             smallint NOT NULL,
    event_id        text COLLATE "C" NOT NULL,
    user_id         text COLLATE "C" NOT NULL,
    user_name       text NOT NULL,
    country         text COLLATE "C" NOT NULL,
    city            text COLLATE "C" NOT NULL,
    video_id        text COLLATE "C",
    ad_id           text COLLATE "C",
    campaign_id     text COLLATE "C",
    purchase_amount numeric(12, 2),
    correlation_id  text COLLATE "C" NOT NULL,
    PRIMARY KEY (event_time, event_id)
) PARTITION BY RANGE (event_time);

-- A campaign's text may be 8 KiB, more than a B-tree entry holds; a hash is 4 bytes whatever the text.
CREATE INDEX facebook_events_campaign ON facebook_events USING hash (campaign_id)
    WHERE event_type = 'checkout.complete';

CREATE TABLE tiktok_events (
    event_time         timestamptz NOT NULL,
    action_time        timestamptz,
    received_at        timestamptz NOT NULL,
    stored_at          timestamptz NOT NULL DEFAULT now(),
    stream_sequence    bigint NOT NULL,
    funnel_stage       funnel_stage NOT NULL,
    event_type         event_type NOT NULL,
    device             tiktok_device,
    followers          integer NOT NULL,
    watch_time         integer,
    percentage_watched smallint,
    event_id           text COLLATE "C" NOT NULL,
    user_id            text COLLATE "C" NOT NULL,
    username           text NOT NULL,
    country            text COLLATE "C",
    video_id           text COLLATE "C",
    profile_id         text COLLATE "C",
    purchased_item     text,
    purchase_amount    numeric(12, 2),
    correlation_id     text COLLATE "C" NOT NULL,
    PRIMARY KEY (event_time, event_id)
) PARTITION BY RANGE (event_time);

-- Nothing below the floor is stored or re-made: the first day (UTC) that still has, or may get, a partition.
CREATE TABLE partition_floors (
    parent text PRIMARY KEY,
    floor  date NOT NULL
);
INSERT INTO partition_floors VALUES ('facebook_events', '2000-01-01'), ('tiktok_events', '2000-01-01');

-- One row a message: the store's side of the ledger, and what makes a redelivery harmless.
-- published_at is JetStream's own instant of the message: it tells a message of a stream that was deleted and
-- made again from the one that had its number before.
CREATE TABLE receipts (
    stream          text COLLATE "C" NOT NULL,
    stream_sequence bigint NOT NULL,
    published_at    timestamptz NOT NULL,
    events          integer NOT NULL,
    stored          integer NOT NULL,
    repeated        integer NOT NULL DEFAULT 0,
    dead            integer NOT NULL DEFAULT 0,
    stored_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stream, stream_sequence, published_at),
    CONSTRAINT receipts_balance CHECK (events = stored + repeated + dead)
);
CREATE INDEX receipts_stored_at ON receipts USING brin (stored_at);

-- Receipts past their retention, summed by the stream's life (-infinity: before the present one): the ledger still
-- balances after they are gone.
CREATE TABLE receipt_totals (
    stream         text COLLATE "C" NOT NULL,
    stream_created timestamptz NOT NULL,
    messages       bigint NOT NULL,
    events         bigint NOT NULL,
    stored         bigint NOT NULL,
    repeated       bigint NOT NULL,
    dead           bigint NOT NULL,
    PRIMARY KEY (stream, stream_created)
);

-- Rollups, written in the transaction that inserts the rows they count. A shard is one collector's slot, so that
-- collectors do not wait for each other; whoever reads sums over it.
CREATE TABLE event_counts (
    bucket       timestamptz NOT NULL,
    source       source NOT NULL,
    funnel_stage funnel_stage NOT NULL,
    event_type   event_type NOT NULL,
    shard        smallint NOT NULL,
    events       bigint NOT NULL,
    revenue      numeric(20, 2) NOT NULL,
    PRIMARY KEY (bucket, source, funnel_stage, event_type, shard)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- value is NULL for all that is past the dimension's bound: the row keeps its own text, the rollup counts it
-- as other.
CREATE TABLE audience_counts (
    bucket    timestamptz NOT NULL,
    source    source NOT NULL,
    dimension audience_dimension NOT NULL,
    value     text COLLATE "C",
    shard     smallint NOT NULL,
    events    bigint NOT NULL,
    CONSTRAINT audience_counts_key UNIQUE NULLS NOT DISTINCT (source, dimension, bucket, value, shard)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- The countries that have a rollup of their own: the first 1,000 of at most 64 characters that came. It only
-- grows, up to that bound, so a country is either in it from its first event on or never.
CREATE TABLE known_countries (
    country text COLLATE "C" PRIMARY KEY CHECK (length(country) <= 64)
);

-- Up to which instant (JetStream's clock) everything accepted is stored.
CREATE TABLE watermarks (
    source           source PRIMARY KEY,
    stored_until     timestamptz NOT NULL,
    pending_messages bigint NOT NULL,
    observed_at      timestamptz NOT NULL DEFAULT now()
);

-- Events that were accepted and could not be stored.
CREATE TABLE dead_letters (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stored_at       timestamptz NOT NULL DEFAULT now(),
    received_at     timestamptz,
    published_at    timestamptz NOT NULL,
    stream_sequence bigint NOT NULL,
    stream          text COLLATE "C" NOT NULL,
    source          text COLLATE "C" NOT NULL,
    position        integer NOT NULL, -- of the event in its message, from 0; -1: the whole message
    reason          text COLLATE "C" NOT NULL,
    path            text NOT NULL,
    detail          text NOT NULL,
    correlation_id  text COLLATE "C",
    event           bytea NOT NULL,
    outcome         letter_outcome NOT NULL DEFAULT 'kept',
    outcome_at      timestamptz,
    UNIQUE (stream, stream_sequence, published_at, position)
);
CREATE INDEX dead_letters_stored_at ON dead_letters (stored_at);

-- Events that were refused at the door. event holds at most the first 64 KiB; length and sha256 are the whole's.
CREATE TABLE refused_events (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stored_at       timestamptz NOT NULL DEFAULT now(),
    received_at     timestamptz NOT NULL,
    stream_sequence bigint NOT NULL,
    length          bigint NOT NULL,
    source          source,
    reason          text COLLATE "C" NOT NULL,
    path            text NOT NULL,
    detail          text NOT NULL,
    event_id        text COLLATE "C",
    correlation_id  text COLLATE "C" NOT NULL,
    sha256          bytea NOT NULL,
    event           bytea NOT NULL,
    outcome         letter_outcome NOT NULL DEFAULT 'kept',
    outcome_at      timestamptz
);
CREATE INDEX refused_events_stored_at ON refused_events (stored_at);

-- Make one day's partition of a parent. True if it was made, false if it stood already.
-- A table of its own is made and then attached: CREATE … PARTITION OF would lock the parent against writers.
-- Raises check_violation where the day lies below the floor.
CREATE FUNCTION ensure_partition(parent text, day date) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    leaf text := parent || to_char(day, '_YYYYMMDD');
    lower timestamptz := day::timestamp AT TIME ZONE 'UTC';
    upper timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('sluice.partitions'), hashtext(parent));
    IF day < (SELECT floor FROM partition_floors f WHERE f.parent = ensure_partition.parent) THEN
        RAISE EXCEPTION 'partition of % for % lies below the floor', parent, day USING ERRCODE = 'check_violation';
    END IF;
    IF to_regclass(leaf) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL, CONSTRAINT day CHECK (event_time >= %L AND event_time < %L))',
                   leaf, parent, lower, upper);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, leaf, lower, upper);
    EXECUTE format('ALTER TABLE %I DROP CONSTRAINT day', leaf);
    EXECUTE format('GRANT SELECT, INSERT ON %I TO sluice_collector', leaf);
    RETURN true;
END $$;

-- Drop all partitions of days before the new floor and raise the floor, in one step. The count of those dropped.
-- Rollups of dropped days stay. Waits at most 2 s for a report that reads the table: try again later.
CREATE FUNCTION drop_partitions(parent text, new_floor date) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    leaf text;
    dropped integer := 0;
BEGIN
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

REVOKE ALL ON FUNCTION ensure_partition, drop_partitions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_partition, drop_partitions TO sluice_collector;

GRANT SELECT ON ALL TABLES IN SCHEMA public TO sluice_reporter;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO sluice_collector;
GRANT INSERT ON facebook_events, tiktok_events TO sluice_collector;
GRANT INSERT, UPDATE, DELETE ON receipts, receipt_totals TO sluice_collector;
GRANT INSERT, UPDATE ON event_counts, audience_counts, watermarks TO sluice_collector;
GRANT INSERT ON known_countries TO sluice_collector;
GRANT INSERT, DELETE ON dead_letters, refused_events TO sluice_collector;
