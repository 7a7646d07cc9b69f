#!/bin/sh
# The database and its roles, made once by the postgres image on an empty volume. Passwords come from the secrets: each
# stands in one file alone, in the DSN of the service that uses it. May be run again, to take over changed ones:
#   docker compose exec postgres sh /docker-entrypoint-initdb.d/roles.sh
set -eu
secrets=${SECRETS:-/run/secrets}
sql=${ROLES_FOLDER:-/etc/sluice/postgres}

password_in() { # postgresql://role:PASSWORD@host…
    sed -n 's#^postgresql://[^:/@]*:\([^@]*\)@.*#\1#p' "$secrets/$1" | grep . || {
        echo "$secrets/$1: not of the form postgresql://role:password@host:port/database" >&2
        return 1
    }
}

SLUICE_OWNER_PASSWORD=$(password_in owner_dsn)
SLUICE_COLLECTOR_PASSWORD=$(password_in collector_dsn)
SLUICE_REPORTER_PASSWORD=$(password_in reporter_dsn)
SLUICE_BI_PASSWORD=$(cat "$secrets/bi_password")
SLUICE_MONITOR_PASSWORD=$(cat "$secrets/monitor_password")
export SLUICE_OWNER_PASSWORD SLUICE_COLLECTOR_PASSWORD SLUICE_REPORTER_PASSWORD SLUICE_BI_PASSWORD SLUICE_MONITOR_PASSWORD

psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
    --file "$sql/roles.sql" --file "$sql/monitor.sql"
