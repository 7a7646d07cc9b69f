-- The first statements of every session.

-- name: backend
SELECT pg_backend_pid()

-- name: set
-- Set these settings ($1 names, $2 values) for the session, and return their values. They override those of the role,
-- the database, the DSN and the environment. synchronous_commit = remote_apply is kept: it is stronger than on.
SELECT name, set_config(name, CASE WHEN name = 'synchronous_commit' AND current_setting(name) = 'remote_apply'
                                   THEN 'remote_apply' ELSE value END, false) AS value
FROM unnest($1::text[], $2::text[]) AS wanted (name, value)

-- name: held
SELECT name, current_setting(name) AS value FROM unnest($1::text[]) AS requested (name)

-- name: timeline
-- The database cluster's identifier and its timeline, which is NULL on a standby. After a promotion the control file is
-- late, so the timeline comes from the name of the current WAL file.
SELECT (SELECT system_identifier::text FROM pg_control_system()) AS cluster,
       CASE WHEN NOT pg_is_in_recovery()
            THEN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer END AS timeline
