#!/bin/sh
# What the postgres image does before it starts the server, for tests without an engine: on an empty volume a new
# database and its first scripts, through the socket alone. As a user of its own, never as root.
set -eu
PGDATA=/var/lib/postgresql/18/docker
as_postgres() { setpriv --reuid 65534 --regid 65534 --clear-groups -- "$@"; }

mkdir -p "$PGDATA" /var/run/postgresql
chmod 700 "$PGDATA"
chown -R 65534:65534 /var/lib/postgresql /var/run/postgresql
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    password=$(cat "$POSTGRES_PASSWORD_FILE")
    printf '%s\n' "$password" > /run/password
    chmod 444 /run/password
    # shellcheck disable=SC2086  # several options
    as_postgres initdb --pgdata "$PGDATA" --username postgres --pwfile /run/password --auth-local trust \
        --auth-host scram-sha-256 $POSTGRES_INITDB_ARGS > /dev/null
    rm /run/password
    echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
    as_postgres pg_ctl --pgdata "$PGDATA" --wait --silent --options "$(shift; echo "$*") -c listen_addresses=''" start
    for script in /docker-entrypoint-initdb.d/*.sh; do
        as_postgres env PGHOST=/var/run/postgresql "$script"  # as the image does with executable ones
    done
    as_postgres pg_ctl --pgdata "$PGDATA" --wait --silent --mode fast stop
fi
exec setpriv --reuid 65534 --regid 65534 --clear-groups --pdeathsig KILL -- env PGDATA="$PGDATA" "$@"
