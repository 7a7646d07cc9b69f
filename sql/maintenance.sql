-- Background maintenance of collectors.

-- name: today
-- The current day in UTC by the database's clock, which all its collectors share.
SELECT (now() AT TIME ZONE 'UTC')::date

-- name: terminate_stuck_sessions
-- A client that stalls during a COPY holds its locks, and no server time-out applies. Terminates only sessions of the
-- current role with a collector's name. A long transaction that makes progress is not terminated: state_change is the
-- instant of its last statement.
SELECT pid, pg_terminate_backend(pid) AS terminated
FROM pg_stat_activity
WHERE usename = current_user AND datname = current_database() AND application_name LIKE 'sluice-collector-%'
  AND wait_event = 'ClientRead' AND xact_start IS NOT NULL AND state_change < now() - $1::interval

-- name: sum_old_receipts
-- Receipts past their retention are summed per life of the stream. $3 is the start of the current life (-infinity:
-- unknown), $4 the stream's first sequence. Receipts of messages that the stream still holds are kept: they will be
-- redelivered.
WITH old AS (
    DELETE FROM receipts
    WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM receipts
        WHERE stream = $1 AND stored_at < now() - $2::interval AND (published_at < $3 OR stream_sequence < $4)
        LIMIT 50000 FOR UPDATE SKIP LOCKED))
    RETURNING CASE WHEN published_at >= $3 THEN $3 ELSE coalesce(
                  (SELECT max(created) FROM stream_lives WHERE stream_lives.stream = $1 AND created <= published_at),
                  '-infinity') END AS stream_created,
              events, stored, repeated, dead
)
INSERT INTO receipt_totals AS kept (stream, stream_created, messages, events, stored, repeated, dead)
SELECT $1, stream_created, count(*), sum(events), sum(stored), sum(repeated), sum(dead)
FROM old GROUP BY stream_created
ON CONFLICT (stream, stream_created) DO UPDATE
SET messages = kept.messages + excluded.messages, events = kept.events + excluded.events,
    stored = kept.stored + excluded.stored, repeated = kept.repeated + excluded.repeated,
    dead = kept.dead + excluded.dead

-- name: delete_old_dead_letters
WITH old AS (
    DELETE FROM dead_letters
    WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM dead_letters WHERE stored_at < now() - $1::interval LIMIT 10000))
    RETURNING stream, outcome
)
INSERT INTO dead_letter_totals AS kept (kind, stream, outcome, dead_letters)
SELECT 'dead', stream, outcome, count(*) FROM old GROUP BY stream, outcome ORDER BY stream, outcome
ON CONFLICT (kind, stream, outcome) DO UPDATE SET dead_letters = kept.dead_letters + excluded.dead_letters

-- name: delete_old_rejected_events
WITH old AS (
    DELETE FROM rejected_events
    WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM rejected_events WHERE stored_at < now() - $1::interval LIMIT 10000))
    RETURNING 'REJECTED' AS stream, outcome
)
INSERT INTO dead_letter_totals AS kept (kind, stream, outcome, dead_letters)
SELECT 'rejected', stream, outcome, count(*) FROM old GROUP BY stream, outcome ORDER BY stream, outcome
ON CONFLICT (kind, stream, outcome) DO UPDATE SET dead_letters = kept.dead_letters + excluded.dead_letters

-- name: advance_watermark
-- Several collectors of a source write the watermark. It never moves back: an older instant changes nothing.
INSERT INTO watermarks AS kept (source, stored_until, pending_messages)
VALUES ($1::text::source, $2, $3)
ON CONFLICT (source) DO UPDATE
SET stored_until = excluded.stored_until, pending_messages = excluded.pending_messages, observed_at = now()
WHERE excluded.stored_until >= kept.stored_until

-- name: record_stream_life
-- Records the stream's last sequence, which is not known otherwise after the stream is deleted.
INSERT INTO stream_lives AS kept (stream, created, last_sequence)
VALUES ($1, $2, $3)
ON CONFLICT (stream, created) DO UPDATE SET last_sequence = excluded.last_sequence, observed_at = now()
WHERE excluded.last_sequence > kept.last_sequence
