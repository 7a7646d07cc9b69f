-- The pipeline's state, cheap enough to be asked every two seconds: no statement here reads more than a bounded number
-- of the newest receipts and dead letters, however many there are.

-- name: streams
-- One row a stream ($1, each with its source in $2: NULL for what the door rejected), of its newest messages: at most $3
-- that have a sequence number, of one day (receipts are kept longer, so none of them can be gone).
-- Rates are of the last $4 seconds, or less where $3 messages do not reach back so far; what was accepted is counted up
-- to the watermark, before which nothing accepted is missing. For the same reason a number without a receipt below one
-- that was published before the watermark is lost.
WITH life AS (
    SELECT asked.stream, asked.source, created, last_sequence, coalesce(stored_until, now()) AS stored_until
    FROM unnest($1::text[], $2::source[]) AS asked (stream, source)
    CROSS JOIN LATERAL (
        SELECT created, last_sequence FROM stream_lives
        WHERE stream_lives.stream = asked.stream ORDER BY created DESC LIMIT 1
    ) AS present
    LEFT JOIN watermarks ON watermarks.source = asked.source
), newest AS (
    SELECT life.*, stream_sequence, published_at, stored_at, events, stored, repeated, dead
    FROM life CROSS JOIN LATERAL (
        SELECT * FROM receipts
        WHERE receipts.stream = life.stream
          AND stream_sequence > life.last_sequence - $3 AND stream_sequence <= life.last_sequence + $3
          AND published_at >= greatest(life.created, now() - interval '24 hours')
    ) AS receipt
), summed AS (
    SELECT stream, max(last_sequence) AS last_sequence, count(*) AS receipts,
           min(stream_sequence) AS first, max(stream_sequence) AS last,
           max(stream_sequence) FILTER (WHERE published_at < stored_until) AS certain,
           sum(events) AS events, sum(stored) AS stored, sum(repeated) AS repeated, sum(dead) AS dead,
           CASE WHEN count(*) < $3 THEN $4::float8
                ELSE least($4, greatest(0.1, extract(epoch FROM now() - min(stored_at)))) END AS seconds,
           coalesce(sum(events) FILTER (WHERE published_at > stored_until - $4 * interval '1 second'
                                          AND published_at <= stored_until), 0) AS accepted_of_late,
           coalesce(sum(stored) FILTER (WHERE stored_at > now() - $4 * interval '1 second'), 0) AS stored_of_late
    FROM newest GROUP BY stream
), counted AS (
    SELECT newest.stream, count(*) AS below FROM newest JOIN summed USING (stream)
    WHERE stream_sequence <= certain GROUP BY newest.stream
)
SELECT asked.stream, coalesce(receipts, 0) AS receipts,
       coalesce(greatest(last_sequence, last) - first + 1, 0) AS messages,
       coalesce(certain - first + 1 - below, 0) AS lost,
       coalesce(events, 0)::bigint AS events, coalesce(stored, 0)::bigint AS stored,
       coalesce(repeated, 0)::bigint AS repeated, coalesce(dead, 0)::bigint AS dead,
       coalesce(accepted_of_late / seconds, 0)::float8 AS accepted_per_second,
       coalesce(stored_of_late / seconds, 0)::float8 AS stored_per_second
FROM unnest($1::text[]) AS asked (stream) LEFT JOIN summed USING (stream) LEFT JOIN counted USING (stream)

-- name: totals
-- All events that the reports count, by source: weeks alone, some rows for each.
SELECT source::text, sum(events)::bigint AS events FROM event_totals WHERE unit = 'week' GROUP BY source

-- name: dead_letters
-- Letters of the last 24 hours; $1 says "that many, or more". In order, so that it is the index that stops at $1.
SELECT (SELECT count(*) FROM (
            SELECT FROM rejected_events WHERE stored_at > now() - interval '24 hours' ORDER BY stored_at DESC LIMIT $1
        ) AS rejected) AS rejected,
       (SELECT count(*) FROM (
            SELECT FROM dead_letters WHERE stored_at > now() - interval '24 hours' ORDER BY stored_at DESC LIMIT $1
        ) AS dead) AS dead,
       now() AS read_at
