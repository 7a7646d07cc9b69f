-- Operators' queries of dead letters. $1 to $7 of the first three are the parameters of filter_dead_letters.

-- name: groups
SELECT kind, source, reason, outcome::text, count(*) AS dead_letters, min(stored_at) AS oldest, max(stored_at) AS newest,
       max(id) AS last
FROM filter_dead_letters($1, $2, $3, $4, $5, $6, $7)
GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3, 4

-- name: newest
SELECT kind, id, stored_at, source, reason, path, detail, event_id, correlation_id, length, outcome::text
FROM filter_dead_letters($1, $2, $3, $4, $5, $6, $7)
ORDER BY stored_at DESC, kind, id DESC
LIMIT $8

-- name: page
-- Ordered by id, so that dead letters that stay open are not returned again. Up to $9, so that dead letters that the
-- replay itself produces are not included.
SELECT kind, id, received_at, source, stream, position, length, correlation_id, event
FROM filter_dead_letters($1, $2, $3, $4, $5, $6, $7)
WHERE id > $8 AND id <= $9
ORDER BY id
LIMIT $10

-- name: by_id
SELECT *, outcome::text AS current_outcome FROM all_dead_letters WHERE kind = $1 AND id = $2

-- name: lock
-- Only one session at a time may replay or discard. The lock lasts until the session ends.
SELECT pg_try_advisory_lock(hashtext('sluice.dead_letters'))

-- name: close_dead
UPDATE dead_letters SET outcome = $2, outcome_at = now(), replayed_as = $3 WHERE id = ANY ($1) AND outcome = 'kept'

-- name: close_rejected
UPDATE rejected_events SET outcome = $2, outcome_at = now(), replayed_as = $3 WHERE id = ANY ($1) AND outcome = 'kept'

-- name: receipt_counts
-- Sums of the receipts of these messages, in the stream's current life, which began at $3.
SELECT count(*) AS messages, coalesce(sum(stored), 0)::bigint AS stored, coalesce(sum(repeated), 0)::bigint AS repeated,
       coalesce(sum(dead), 0)::bigint AS dead
FROM receipts
WHERE stream = $1 AND stream_sequence = ANY ($2) AND published_at >= $3
