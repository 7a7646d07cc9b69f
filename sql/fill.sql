-- Statements of `fill`, in addition to those of collectors (store.sql).

-- name: insert_receipt
-- One receipt for all events of a source and day. Its instant is before the life of any stream, so the ledger counts it
-- in the store, but in no stream.
INSERT INTO receipts (stream, stream_sequence, published_at, events, stored) VALUES ($1, $2, $3, $4, $4)

-- name: floor
-- The first day that is above the floor of every source.
SELECT max(floor) FROM partition_floors
