-- The store's side of the ledger: durable facts only.

-- name: receipts
-- One stream's receipts since it was made ($2), those past their retention included.
SELECT coalesce(sum(messages), 0)::bigint AS messages, coalesce(sum(events), 0)::bigint AS events,
       coalesce(sum(stored), 0)::bigint AS stored, coalesce(sum(repeated), 0)::bigint AS repeated,
       coalesce(sum(dead), 0)::bigint AS dead
FROM (
    SELECT 1 AS messages, events, stored, repeated, dead FROM receipts WHERE stream = $1 AND published_at >= $2
    UNION ALL
    SELECT messages, events, stored, repeated, dead FROM receipt_totals WHERE stream = $1 AND stream_created >= $2
) AS life

-- name: stored_in_all
-- What all receipts of a stream say was stored, whatever became of the stream.
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

-- name: rows_facebook
SELECT count(*) FROM facebook_events

-- name: rows_tiktok
SELECT count(*) FROM tiktok_events
