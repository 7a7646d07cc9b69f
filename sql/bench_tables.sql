-- Empty the tables that grow with events, between two runs of a benchmark. {tables} are the tables of the sources.

-- name: empty
TRUNCATE {tables}, breakdown_buckets, breakdown_counts, breakdown_turns;
DELETE FROM receipts;
DELETE FROM event_counts;
DELETE FROM audience_counts

-- name: vacuum
VACUUM receipts, event_counts, audience_counts
