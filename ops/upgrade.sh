#!/bin/sh
# Upgrade a running compose project without losing an event: replace containers one by one, and wait for each.
#
#   export COMPOSE_FILE=docker-compose.yml:docker-compose.production.yml SLUICE_IMAGE=…:NEW
#   sh ops/upgrade.sh                    the schema, then collectors, the reporter and the gateways, and what watches
#   sh ops/upgrade.sh gateway            these services alone
#   sh ops/upgrade.sh edge nats postgres servers that exist once: restarted if their image or settings changed
#
# A gateway or collector is replaced by starting a new container beside the old ones, waiting until it is healthy, and
# then stopping an old one, which drains. A container that already runs the new image and settings is kept, so that the
# script can be run again after an interruption. `docker compose up` would replace all replicas at once.
set -eu
cd "$(dirname "$0")/.."

EDGE_SECONDS=5  # nginx looks gateways up every 2 s: within this time it knows a new one
HEALTHY_SECONDS=${HEALTHY_SECONDS:-180}

log() { printf '%s upgrade: %s\n' "$(date -u +%H:%M:%S)" "$*" >&2; }
fail() { log "$*"; exit 1; }
compose() { docker compose "$@"; }
ids() { compose ps --quiet --no-trunc "$1" | sort; }

# Whether a container runs the image and the settings that the files name now. Equal settings name the same image, but
# its tag may have moved.
is_current() { # SERVICE CONTAINER
    wanted=$(compose config --hash "$1" | cut -d ' ' -f 2)
    image=$(docker image inspect --format '{{.Id}}' "$(docker inspect --format '{{.Config.Image}}' "$2")" 2> /dev/null)
    found=$(docker inspect --format '{{index .Config.Labels "com.docker.compose.config-hash"}} {{.Image}}' "$2")
    [ "$found" = "$wanted $image" ]
}

await_healthy() { # CONTAINER
    end=$(($(date +%s) + HEALTHY_SECONDS))
    while [ "$(date +%s)" -lt "$end" ]; do
        case $(docker inspect --format '{{.State.Status}} {{.State.Health.Status}}' "$1") in
            'running healthy') return ;;
            exited*|dead*) break ;;
        esac
        sleep 0.5
    done
    docker logs --tail 20 "$1" >&2 || true
    docker rm --force "$1" > /dev/null
    fail "the new container was not healthy within $HEALTHY_SECONDS s and is removed: the old ones still run"
}

roll() { # SERVICE
    old=''
    for id in $(ids "$1"); do
        if is_current "$1" "$id"; then log "$1: $(short "$id") is up to date"; else old="$old $id"; fi
    done
    count=$(ids "$1" | wc -l)
    for id in $old; do
        before=$(ids "$1")
        compose up --detach --no-deps --no-recreate --no-build --quiet-pull --scale "$1=$((count + 1))" "$1" >&2
        new=$(ids "$1" | grep -vxF "$before" || true)
        [ -n "$new" ] || fail "$1: no new container was started"
        await_healthy "$new"
        if [ "$1" = gateway ]; then sleep "$EDGE_SECONDS"; fi
        log "$1: $(short "$new") is healthy; stopping $(short "$id")"
        docker stop --time "$(grace "$id")" "$id" > /dev/null
        docker rm "$id" > /dev/null
    done
    compose up --detach --no-deps --no-recreate --no-build "$1" >&2  # as many as the files say
}

short() { printf '%.12s' "$1"; }
grace() { docker inspect --format '{{with .Config.StopTimeout}}{{.}}{{else}}10{{end}}' "$1"; }

replace() { # SERVICE: exists once; its clients wait and retry
    id=$(ids "$1")
    if [ -n "$id" ] && is_current "$1" "$id"; then
        log "$1: $(short "$id") is up to date"
        return
    fi
    started=$(date +%s)
    compose up --detach --wait --no-deps --no-build "$1" >&2
    log "$1: ready after $(($(date +%s) - started)) s"
}

compose config --quiet
running=$(compose ps --services --status running)
[ -n "$running" ] || fail "nothing runs here: start it with docker compose up --detach"
services=$*
if [ -z "$services" ]; then
    log 'migrations'
    compose run --rm --no-deps migrate >&2
    services=''
    for service in $(compose config --services | sort); do
        case $service in *-collector) services="$services $service" ;; esac
    done
    services="$services reporter gateway"
    for service in prometheus alertmanager grafana nats-exporter postgres-exporter node-exporter; do
        if printf '%s\n' "$running" | grep -qx "$service"; then services="$services $service"; fi
    done
fi
for service in $services; do
    case $service in
        gateway|*-collector) roll "$service" ;;
        *) replace "$service" ;;
    esac
done
log 'done'
