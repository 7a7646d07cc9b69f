-- Between two runs of a benchmark: the tables that grow with events, emptied. {tables} are those of the sources.

-- name: empty
TRUNCATE {tables}, breakdown_buckets, breakdown_counts, breakdown_turns;
DELETE FROM receipts;
DELETE FROM event_counts;
DELETE FROM audience_counts

-- name: vacuum
VACUUM receipts, event_counts, audience_counts
