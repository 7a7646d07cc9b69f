-- The four roles and the database, made by a superuser with psql; may be run as often as one likes.
-- Passwords come from the environment. What each role may do is granted by the migrations, which the owner runs.
\getenv owner_password SLUICE_OWNER_PASSWORD
\getenv collector_password SLUICE_COLLECTOR_PASSWORD
\getenv reporter_password SLUICE_REPORTER_PASSWORD
\getenv bi_password SLUICE_BI_PASSWORD

SELECT format('CREATE ROLE %I LOGIN', wanted)
FROM unnest(ARRAY['sluice_owner', 'sluice_collector', 'sluice_reporter', 'sluice_bi']) AS wanted
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted)
\gexec

ALTER ROLE sluice_owner PASSWORD :'owner_password';
ALTER ROLE sluice_collector PASSWORD :'collector_password';
ALTER ROLE sluice_reporter PASSWORD :'reporter_password';
ALTER ROLE sluice_bi PASSWORD :'bi_password';

-- Grafana and BI tools: people write their queries. A long one must not hold up storing, so its time is bounded.
ALTER ROLE sluice_bi CONNECTION LIMIT 20;
ALTER ROLE sluice_bi SET default_transaction_read_only = on;
ALTER ROLE sluice_bi SET statement_timeout = '60s';
ALTER ROLE sluice_bi SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE sluice_bi SET search_path = reports;

-- CREATE DATABASE knows no IF NOT EXISTS and runs in no transaction.
SELECT 'CREATE DATABASE sluice OWNER sluice_owner'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'sluice')
\gexec

-- By default every role may create temporary tables. Only a collector needs them.
REVOKE TEMPORARY ON DATABASE sluice FROM PUBLIC;
GRANT TEMPORARY ON DATABASE sluice TO sluice_collector;

-- The migrations grant this, too, if the role exists before them.
\connect sluice
SELECT 'CALL reports.grant_to(''sluice_bi'')'
WHERE EXISTS (SELECT FROM pg_namespace WHERE nspname = 'reports')
\gexec
