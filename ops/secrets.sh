#!/bin/sh
# Make the secrets that docker-compose.yml names in a folder (default: secrets). What is there stays. Passwords are
# random; what others give us (senders' secrets, tokens of pager and tickets) is empty, for you to fill in.
#
#   sh ops/secrets.sh [FOLDER]
#
# The folder is closed to others; the files in it are readable, because each container reads its own under a user of its
# own. A managed database: write its DSNs into owner_dsn, collector_dsn and reporter_dsn, and the password of the role
# sluice_bi into bi_password, before.
set -eu
folder=${1:-secrets}
mkdir -p "$folder"
chmod 700 "$folder"

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

keep() { # NAME VALUE
    if [ -e "$folder/$1" ]; then
        echo "kept  $folder/$1"
    else
        printf '%s\n' "$2" > "$folder/$1.new"
        chmod 444 "$folder/$1.new"
        mv "$folder/$1.new" "$folder/$1"
        echo "made  $folder/$1"
    fi
}

host=${POSTGRES_HOST:-postgres:5432}
for role in owner collector reporter; do
    keep "${role}_dsn" "postgresql://sluice_$role:$(random)@$host/sluice"
done
# NATS: where it is and as whom for clients, and for the server its own settings with who may connect.
keep nats_url "nats://sluice:$(random)@${NATS_HOST:-nats:4222}"
keep nats_users "include ./nats.conf
authorization { user: sluice, password: \"$(sed -n 's#^nats://[^:/@]*:\([^@]*\)@.*#\1#p' "$folder/nats_url")\" }"
# Who may read reports: NAME:TOKEN or NAME:TOKEN:SOURCE,SOURCE, one a line. reporter_token is that of `sluice report`.
keep reporter_token "$(random)"
keep reporter_tokens "operator:$(cat "$folder/reporter_token")
reader:$(random)"
for name in postgres monitor grafana bi; do
    keep "${name}_password" "$(random)"
done
# Production's, where they are already: openssl writes a key that only its owner can read.
for name in edge_certificate edge_certificate_key; do
    if [ -e "$folder/$name" ]; then chmod 444 "$folder/$name"; fi
done
for name in facebook_secrets tiktok_secrets meta_verify_token pager_token tickets_token; do
    keep "$name" ""
done
