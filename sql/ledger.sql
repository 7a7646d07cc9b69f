-- The store's side of the ledger: durable facts only.

-- name: receipts
-- Sums of one stream's receipts since it was created ($2), including those past their retention.
SELECT coalesce(sum(messages), 0)::bigint AS messages, coalesce(sum(events), 0)::bigint AS events,
       coalesce(sum(stored), 0)::bigint AS stored, coalesce(sum(repeated), 0)::bigint AS repeated,
       coalesce(sum(dead), 0)::bigint AS dead
FROM (
    SELECT 1 AS messages, events, stored, repeated, dead FROM receipts WHERE stream = $1 AND published_at >= $2
    UNION ALL
    SELECT messages, events, stored, repeated, dead FROM receipt_totals WHERE stream = $1 AND stream_created >= $2
) AS life

-- name: stored_total
-- Events stored according to all receipts of a stream, including earlier lives of the stream.
SELECT coalesce(sum(stored), 0)::bigint
FROM (
    SELECT stored FROM receipts WHERE stream = $1
    UNION ALL
    SELECT stored FROM receipt_totals WHERE stream = $1
) AS lives

-- name: rolled_up
SELECT coalesce(sum(events), 0)::bigint FROM event_counts WHERE source = $1::text::source

-- name: rolled_up_from
SELECT coalesce(sum(events), 0)::bigint FROM event_counts
WHERE source = $1::text::source AND bucket >= (SELECT floor FROM partition_floors WHERE parent = $1 || '_events')

-- name: rows
-- Excludes days below the floor that could not be dropped; `rolled_up_from` excludes them, too.
SELECT count(*) FROM {table}
WHERE event_time >= (SELECT floor FROM partition_floors WHERE parent = '{table}')

-- name: lost
-- lost_before: messages without a receipt in earlier lives of the stream, which ended before $2, up to the last
-- sequence that a collector recorded. accepted_loss: lost messages, in any life, that an operator has accepted.
SELECT coalesce(sum(greatest(0, life.last_sequence - kept.messages - summed.messages)), 0)::bigint AS lost_before,
       (SELECT coalesce(sum(accepted_loss), 0)::bigint FROM stream_lives WHERE stream = $1) AS accepted_loss
FROM (
    SELECT created, last_sequence, lead(created, 1, $2) OVER (ORDER BY created) AS ended
    FROM stream_lives WHERE stream = $1 AND created < $2
) AS life, LATERAL (
    SELECT count(*) AS messages FROM receipts
    WHERE stream = $1 AND published_at >= life.created AND published_at < life.ended
) AS kept, LATERAL (
    SELECT coalesce(sum(messages), 0) AS messages FROM receipt_totals
    WHERE stream = $1 AND stream_created = life.created
) AS summed

-- name: accept_loss
INSERT INTO stream_lives AS kept (stream, created, last_sequence, accepted_loss)
VALUES ($1, $2, $3, $4)
ON CONFLICT (stream, created) DO UPDATE SET accepted_loss = kept.accepted_loss + excluded.accepted_loss

-- name: dead_total
SELECT coalesce(sum(dead), 0)::bigint
FROM (
    SELECT dead FROM receipts WHERE stream = $1
    UNION ALL
    SELECT dead FROM receipt_totals WHERE stream = $1
) AS lives

-- name: dead_letters
-- Outcomes of a stream's dead letters of one kind, including those past their retention.
SELECT coalesce(sum(dead_letters) FILTER (WHERE outcome = 'kept'), 0)::bigint AS kept,
       coalesce(sum(dead_letters) FILTER (WHERE outcome = 'replayed'), 0)::bigint AS replayed,
       coalesce(sum(dead_letters) FILTER (WHERE outcome = 'discarded'), 0)::bigint AS discarded
FROM (
    SELECT outcome, count(*) AS dead_letters FROM all_dead_letters WHERE kind = $1 AND stream = $2 GROUP BY outcome
    UNION ALL
    SELECT outcome, dead_letters FROM dead_letter_totals WHERE kind = $1 AND stream = $2
) AS every
