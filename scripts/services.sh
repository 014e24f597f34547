#!/bin/sh
# Starts and stops what demo and tests need on loopback: a Docker engine (only where none answers), a base image, a
# registry with GitLab-like token authentication.
#
#   services.sh start    prints the environment to use, as shell assignments
#   services.sh stop     ends what start started, by pid
. "$(dirname "$0")/lib.sh"

start_engine() {
    engine_answers >/dev/null && return 0
    socket=${DOCKER_HOST:-unix:///var/run/docker.sock}
    if as_root curl --silent --fail --max-time 5 --unix-socket "${socket#unix://}" http://engine/_ping >/dev/null 2>&1; then
        fail "a Docker engine runs here, but $(id -un) may not use it: add the user to the group \`docker\`"
    fi
    # A pid file that a killed engine left keeps the next one from starting once its number is in use again.
    for program in dockerd:/var/run/docker.pid containerd:/var/run/docker/containerd/containerd.pid; do
        file=${program#*:}
        pid=$(as_root cat "$file" 2>/dev/null) || continue
        [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "${program%%:*}" ] || as_root rm -f "$file"
    done
    say "starting dockerd"
    # The socket belongs to the group of whoever runs this.
    as_root sh -c 'dockerd --group "$2" >"$1/dockerd.log" 2>&1 & echo $! >"$1/dockerd.pid"' sh "$STATE" "$(id -g)"
    wait_for 60 "dockerd (log: $STATE/dockerd.log)" engine_answers
}

# The base image of examples and tests: Debian, made with mmdebstrap, because no public registry is needed that way.
make_base_image() {
    docker image inspect debian:bookworm >/dev/null 2>&1 && return 0
    say "making debian:bookworm with mmdebstrap"
    as_root mmdebstrap --quiet --variant=minbase bookworm "$STATE/debian.tar"
    docker import --change 'CMD ["bash"]' "$STATE/debian.tar" debian:bookworm >&2
    as_root rm -f "$STATE/debian.tar"
}

free_port() {
    /usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

answers() {
    curl --silent --max-time 2 --output /dev/null "http://$1"
}

start_registry() {
    if [ -f "$STATE/registry.env" ] && answers "$(sed -n 's/^KILN_TEST_REGISTRY=//p' "$STATE/registry.env")/v2/"; then
        return 0
    fi
    say "starting docker-registry with token authentication"
    registry=127.0.0.1:$(free_port)
    realm=127.0.0.1:$(free_port)
    mkdir -p "$STATE/registry"
    /usr/bin/python3 "$ROOT/tests/support/token_realm.py" make-key "$STATE/registry"
    cat >"$STATE/registry/config.yml" <<CONFIG
version: 0.1
log: { level: warn }
storage:
  filesystem: { rootdirectory: $STATE/registry/data }
  delete: { enabled: true }
http: { addr: $registry }
auth:
  token:
    realm: http://$realm/jwt/auth
    service: container_registry
    issuer: kiln-test-issuer
    rootcertbundle: $STATE/registry/token.pem
CONFIG
    /usr/bin/python3 "$ROOT/tests/support/token_realm.py" serve "$STATE/registry" "$realm" >"$STATE/realm.log" 2>&1 &
    echo $! >"$STATE/realm.pid"
    docker-registry serve "$STATE/registry/config.yml" >"$STATE/registry.log" 2>&1 &
    echo $! >"$STATE/registry.pid"
    wait_for 20 "token realm (log: $STATE/realm.log)" answers "$realm/health"
    wait_for 20 "docker-registry (log: $STATE/registry.log)" answers "$registry/v2/"
    cat >"$STATE/registry.env" <<ENVIRONMENT
KILN_TEST_REGISTRY=$registry
KILN_TEST_REALM=$realm
ENVIRONMENT
}

stop_one() {
    [ -f "$STATE/$1.pid" ] || return 0
    pid=$(cat "$STATE/$1.pid")
    rm -f "$STATE/$1.pid"
    as_root kill "$pid" 2>/dev/null || return 0
    deadline=$(($(date +%s) + 30))
    while as_root kill -0 "$pid" 2>/dev/null && [ "$(date +%s)" -lt "$deadline" ]; do sleep 0.1; done
}

case "${1:-}" in
start)
    # What start prints is evaluated by the caller, so its progress goes to standard error.
    start_engine
    make_base_image
    start_registry
    cat "$STATE/registry.env"
    ;;
stop)
    stop_one registry
    stop_one realm
    stop_one dockerd
    rm -f "$STATE/registry.env"
    rm -rf "$STATE/registry"
    ;;
*) fail "usage: services.sh start | stop" ;;
esac
