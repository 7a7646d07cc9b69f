-- State of the pipeline. Clients poll it every two seconds, so each statement reads a bounded number of the newest
-- receipts and dead letters, whatever the tables hold.

-- name: streams
-- One row for each stream in $1; $2 has its source, or NULL for the stream of rejected events. Reads the newest
-- messages: at most $3 sequence numbers of the last day. Receipts are kept longer, so none of them can be deleted.
-- Rates cover the last $4 seconds, or less if $3 messages cover less time. Accepted events are counted up to the
-- watermark, because only before it is every receipt present. For the same reason, a sequence number without a receipt
-- is lost if it is below one that was published before the watermark.
WITH life AS (
    SELECT requested.stream, requested.source, created, last_sequence, coalesce(stored_until, now()) AS stored_until
    FROM unnest($1::text[], $2::source[]) AS requested (stream, source)
    CROSS JOIN LATERAL (
        SELECT created, last_sequence FROM stream_lives
        WHERE stream_lives.stream = requested.stream ORDER BY created DESC LIMIT 1
    ) AS present
    LEFT JOIN watermarks ON watermarks.source = requested.source
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
                                          AND published_at <= stored_until), 0) AS accepted_recently,
           coalesce(sum(stored) FILTER (WHERE stored_at > now() - $4 * interval '1 second'), 0) AS stored_recently
    FROM newest GROUP BY stream
), counted AS (
    SELECT newest.stream, count(*) AS below FROM newest JOIN summed USING (stream)
    WHERE stream_sequence <= certain GROUP BY newest.stream
)
SELECT requested.stream, coalesce(receipts, 0) AS receipts,
       coalesce(greatest(last_sequence, last) - first + 1, 0) AS messages,
       coalesce(certain - first + 1 - below, 0) AS lost,
       coalesce(events, 0)::bigint AS events, coalesce(stored, 0)::bigint AS stored,
       coalesce(repeated, 0)::bigint AS repeated, coalesce(dead, 0)::bigint AS dead,
       coalesce(accepted_recently / seconds, 0)::float8 AS accepted_per_second,
       coalesce(stored_recently / seconds, 0)::float8 AS stored_per_second
FROM unnest($1::text[]) AS requested (stream) LEFT JOIN summed USING (stream) LEFT JOIN counted USING (stream)

-- name: totals
-- All events that reports count, by source: only the weeks, which are a few rows for each source.
SELECT source::text, sum(events)::bigint AS events FROM event_totals WHERE unit = 'week' GROUP BY source

-- name: dead_letters
-- Rejected events and dead letters of the last 24 hours, counted up to $1. ORDER BY lets the index scan stop at $1.
SELECT (SELECT count(*) FROM (
            SELECT FROM rejected_events WHERE stored_at > now() - interval '24 hours' ORDER BY stored_at DESC LIMIT $1
        ) AS rejected) AS rejected,
       (SELECT count(*) FROM (
            SELECT FROM dead_letters WHERE stored_at > now() - interval '24 hours' ORDER BY stored_at DESC LIMIT $1
        ) AS dead) AS dead,
       now() AS read_at
