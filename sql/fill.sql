-- What fills a database with made events, beside what collectors store with (store.sql).

-- name: receipt
-- One for all events of a source and day. Its instant lies before the life of any stream: of the ledger's lines it
-- stands on the store's alone.
INSERT INTO receipts (stream, stream_sequence, published_at, events, stored) VALUES ($1, $2, $3, $4, $4)

-- name: floor
-- The first day that both sources may have.
SELECT max(floor) FROM partition_floors
