-- What doctor asks of PostgreSQL itself.

-- name: durability
SELECT current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('full_page_writes') AS full_page_writes

-- name: clock
SELECT clock_timestamp()
