-- The pipeline's state, as recorded by collectors and gateways (see core/state.py).

-- name: record_source_state
INSERT INTO source_states AS kept (name, stream_bytes, stream_max_bytes, paused)
VALUES ($1, $2, $3, $4)
ON CONFLICT (name) DO UPDATE
SET stream_bytes = excluded.stream_bytes, stream_max_bytes = excluded.stream_max_bytes, paused = excluded.paused,
    observed_at = now()

-- name: record_stopped
UPDATE source_states SET stopped_why = $2, stopped_at = now() WHERE name = $1

-- name: record_gateway_state
-- $2: seconds since a gateway last reported; NULL: none since this collector started.
INSERT INTO gateway_state AS kept (turned_away, heard_at)
VALUES ($1, now() - $2::float8 * interval '1 second')
ON CONFLICT (only_row) DO UPDATE
SET turned_away = excluded.turned_away, heard_at = greatest(kept.heard_at, excluded.heard_at), observed_at = now()

-- name: sources
-- A source without a row was never recorded. silent_seconds is the time since a collector recorded it. stopped is the
-- reason why a collector was stopped within the last $1 seconds, otherwise NULL.
SELECT name, stream_bytes, stream_max_bytes, paused,
       greatest(extract(epoch FROM now() - observed_at), 0)::float8 AS silent_seconds,
       CASE WHEN stopped_at > now() - $1::float8 * interval '1 second' THEN stopped_why END AS stopped
FROM source_states

-- name: gateways
-- silent_seconds: the time since a gateway reported (NULL: never); record_age_seconds: since the rejected-collector recorded
-- the row.
SELECT turned_away, greatest(extract(epoch FROM now() - heard_at), 0)::float8 AS silent_seconds,
       greatest(extract(epoch FROM now() - observed_at), 0)::float8 AS record_age_seconds
FROM gateway_state

-- name: dead
-- Dead letters of the last 24 hours that are still open, by source and reason: at most $1 are counted.
SELECT source, reason, count(*)::bigint AS events
FROM (SELECT source, reason, outcome FROM dead_letters WHERE stored_at > now() - interval '24 hours'
      ORDER BY stored_at DESC LIMIT $1) AS newest
WHERE outcome = 'kept' GROUP BY source, reason ORDER BY events DESC, source, reason
