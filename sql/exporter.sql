-- PostgreSQL's statistics under the metric names of postgres_exporter: one row per sample.

-- name: metrics
WITH here AS (SELECT * FROM pg_stat_database WHERE datname = current_database())
SELECT name, type, help, labels::text, value::float8
FROM (
    SELECT 'pg_database_size_bytes' AS name, 'gauge' AS type, 'Bytes on disk' AS help,
           jsonb_build_object('datname', datname) AS labels, pg_database_size(datid)::float8 AS value FROM here
    UNION ALL
    SELECT 'pg_stat_database_' || figure, 'counter', 'Since the statistics were reset',
           jsonb_build_object('datname', datname), counted::float8
    FROM here, LATERAL (VALUES ('xact_commit', xact_commit), ('xact_rollback', xact_rollback),
                               ('tup_inserted', tup_inserted), ('blks_hit', blks_hit), ('blks_read', blks_read),
                               ('deadlocks', deadlocks)) AS of_database (figure, counted)
    UNION ALL
    SELECT 'pg_stat_activity_count', 'gauge', 'Sessions by state',
           jsonb_build_object('datname', datname, 'state', state), count(*)::float8
    FROM pg_stat_activity WHERE datname = current_database() AND state IS NOT NULL GROUP BY datname, state
    UNION ALL
    SELECT 'pg_settings_max_connections', 'gauge', 'Most sessions', '{}', current_setting('max_connections')::float8
) AS figures
