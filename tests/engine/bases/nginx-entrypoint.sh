#!/bin/sh
# What the nginx image is documented to do before nginx starts: it sources the *.envsh files of
# /docker-entrypoint.d, and fills in its templates.
set -eu
if [ "$1" = nginx ]; then
    for script in /docker-entrypoint.d/*.envsh; do
        # shellcheck disable=SC1090  # found at run time
        if [ -x "$script" ]; then . "$script"; fi
    done
    names=$(env | sed -n 's/^\([A-Z_]*\)=.*/\1/p' | grep -E "$NGINX_ENVSUBST_FILTER" | sed 's/.*/${&}/' | tr '\n' ' ')
    cd /etc/nginx/templates
    find . -name '*.template' | while read -r template; do
        output=$NGINX_ENVSUBST_OUTPUT_DIR/${template%.template}
        mkdir -p "$(dirname "$output")"
        envsubst "$names" < "$template" > "$output"
    done
fi
exec "$@"
