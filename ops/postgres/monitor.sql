-- The role of the exporter: it sees the server's own statistics and none of our rows. May be run as often as one likes.
\getenv monitor_password SLUICE_MONITOR_PASSWORD

SELECT 'CREATE ROLE sluice_monitor LOGIN'
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'sluice_monitor')
\gexec

ALTER ROLE sluice_monitor PASSWORD :'monitor_password';
GRANT pg_monitor TO sluice_monitor;
