-- What every session of ours asks first.

-- name: backend
SELECT pg_backend_pid()

-- name: set
-- Settings ($1 names, $2 values) for this session, whatever role, database, DSN and environment say; and what each is then.
-- remote_apply stays: it promises more than on.
SELECT name, set_config(name, CASE WHEN name = 'synchronous_commit' AND current_setting(name) = 'remote_apply'
                                   THEN 'remote_apply' ELSE value END, false) AS value
FROM unnest($1::text[], $2::text[]) AS wanted (name, value)

-- name: held
SELECT name, current_setting(name) AS value FROM unnest($1::text[]) AS asked (name)

-- name: timeline
-- Which database cluster this is, and its timeline; NULL of a standby. The control file is late after a promotion: the
-- name of the log's present file is not.
SELECT (SELECT system_identifier::text FROM pg_control_system()) AS cluster,
       CASE WHEN NOT pg_is_in_recovery()
            THEN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer END AS timeline
