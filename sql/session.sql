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
