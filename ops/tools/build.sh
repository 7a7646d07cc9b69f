#!/bin/sh
# Build the programs that check compose files and Kubernetes manifests, without an engine or a cluster, into
# ops/tools/bin: compose (ops/tools/compose), kustomize, and the OpenAPI document of the Kubernetes API.
# Versions and checksums are pinned: in go.mod and go.sum, and below.
set -eu
cd "$(dirname "$0")"

KUBERNETES=v1.34.4
KUBERNETES_SUM='h1:Yy6R4QB8C9kJPp25GFqEvX5XQwY5qzKeqD0Xx6oAcmk='

mkdir -p bin
go build -ldflags "-s -w" -o bin/compose ./compose
go build -ldflags "-s -w" -o bin/kustomize sigs.k8s.io/kustomize/kustomize/v5

# One file of a module that nothing of ours is built from. Outside of our own module: its requirements are none of ours.
if [ ! -e "bin/kubernetes-$KUBERNETES.json" ]; then
    found=$(cd / && GOFLAGS=-mod=mod go mod download -json "k8s.io/kubernetes@$KUBERNETES")
    field() { printf '%s\n' "$found" | sed -n "s/^.*\"$1\": \"\(.*\)\".*$/\1/p"; }
    if [ "$(field Sum)" != "$KUBERNETES_SUM" ]; then
        echo "k8s.io/kubernetes $KUBERNETES has the checksum $(field Sum), not $KUBERNETES_SUM" >&2
        exit 1
    fi
    cp "$(field Dir)/api/openapi-spec/swagger.json" bin/kubernetes.new
    chmod 644 bin/kubernetes.new
    mv bin/kubernetes.new "bin/kubernetes-$KUBERNETES.json"
fi
touch bin/ready
