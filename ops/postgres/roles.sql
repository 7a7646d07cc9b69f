-- The three roles and the database, made by a superuser with psql; may be run as often as one likes.
-- Passwords come from the environment. What each role may do is granted by the migrations, which the owner runs.
\getenv owner_password SLUICE_OWNER_PASSWORD
\getenv collector_password SLUICE_COLLECTOR_PASSWORD
\getenv reporter_password SLUICE_REPORTER_PASSWORD

SELECT format('CREATE ROLE %I LOGIN', wanted)
FROM unnest(ARRAY['sluice_owner', 'sluice_collector', 'sluice_reporter']) AS wanted
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted)
\gexec

ALTER ROLE sluice_owner PASSWORD :'owner_password';
ALTER ROLE sluice_collector PASSWORD :'collector_password';
ALTER ROLE sluice_reporter PASSWORD :'reporter_password';

-- CREATE DATABASE knows no IF NOT EXISTS and runs in no transaction.
SELECT 'CREATE DATABASE sluice OWNER sluice_owner'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'sluice')
\gexec

-- By default every role may create temporary tables. Only a collector needs them.
REVOKE TEMPORARY ON DATABASE sluice FROM PUBLIC;
GRANT TEMPORARY ON DATABASE sluice TO sluice_collector;
