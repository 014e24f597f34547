#!/bin/sh
# Starts and stops what demo and tests need on loopback: a Docker engine (only where none answers), a base image, a
# registry with GitLab-like token authentication.
#
#   services.sh start            prints the environment to use, as shell assignments
#   services.sh start registry   starts the registry alone
#   services.sh start tests      and starts the other registries and engines that the tests want, and EC2 on loopback
#   services.sh stop             ends what start started, by pid
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

# Programs for arm64, by an emulator that the kernel holds open for sandboxes and containers too. Where the kernel cannot,
# the tests say that they were skipped.
set_up_emulator() {
    handlers=/proc/sys/fs/binfmt_misc
    [ -e "$handlers/register" ] || as_root mount -t binfmt_misc binfmt_misc "$handlers" 2>/dev/null || return 0
    [ ! -e "$handlers/qemu-aarch64" ] || return 0
    conf=/usr/lib/binfmt.d/qemu-aarch64.conf
    [ ! -e "$conf" ] || as_root sh -c 'cat "$1" >"$2/register"' sh "$conf" "$handlers" || return 0
}

# The base image once more, for arm64.
make_foreign_image() {
    [ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] || return 0
    docker image inspect kiln-test-arm64:bookworm >/dev/null 2>&1 && return 0
    say "making kiln-test-arm64:bookworm with mmdebstrap"
    as_root mmdebstrap --quiet --variant=minbase --architectures=arm64 bookworm "$STATE/arm64.tar"
    # An import would say that it is for the engine's own processor.
    umoci init --layout "$STATE/arm64" && umoci new --image "$STATE/arm64:base"
    umoci raw add-layer --image "$STATE/arm64:base" "$STATE/arm64.tar" >&2
    umoci config --image "$STATE/arm64:base" --architecture arm64 --config.cmd bash >&2
    skopeo copy --quiet "oci:$STATE/arm64:base" docker-daemon:kiln-test-arm64:bookworm >&2
    as_root rm -rf "$STATE/arm64.tar" "$STATE/arm64"
}

# What Ansible needs on a machine, for the tests of playbooks.
make_python_image() {
    docker image inspect kiln-test-python:bookworm >/dev/null 2>&1 && return 0
    say "making kiln-test-python:bookworm"
    docker build --quiet --tag kiln-test-python:bookworm - >&2 <<'DOCKERFILE'
FROM debian:bookworm
RUN apt-get update -q && apt-get install -qy --no-install-recommends python3 python3-apt sudo && rm -rf /var/lib/apt/lists/*
DOCKERFILE
}

free_port() {
    /usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

answers() {
    curl --silent --max-time 2 --output /dev/null "http://$1"
}

# A port is asked for by whoever starts a server on it: serve NAME PROGRAM... notes the pid and logs beside it.
serve() {
    name=$1
    shift
    "$@" >"$STATE/$name.log" 2>&1 &
    echo $! >"$STATE/$name.pid"
}

# token_registry NAME ADDRESS REALM [SECONDS]: a docker-registry and the realm whose tokens it takes.
token_registry() {
    mkdir -p "$STATE/$1"
    /usr/bin/python3 "$ROOT/tests/support/token_realm.py" make-key "$STATE/$1"
    cat >"$STATE/$1/config.yml" <<CONFIG
version: 0.1
log: { level: warn }
storage:
  filesystem: { rootdirectory: $STATE/$1/data }
  delete: { enabled: true }
http: { addr: $2 }
auth:
  token:
    realm: http://$3/jwt/auth
    service: container_registry
    issuer: kiln-test-issuer
    rootcertbundle: $STATE/$1/token.pem
CONFIG
    serve "$1-realm" /usr/bin/python3 "$ROOT/tests/support/token_realm.py" serve "$STATE/$1" "$3" ${4:-}
    serve "$1" docker-registry serve "$STATE/$1/config.yml"
    wait_for 20 "token realm (log: $STATE/$1-realm.log)" answers "$3/health"
    wait_for 20 "docker-registry (log: $STATE/$1.log)" answers "$2/v2/"
}

start_registry() {
    if [ -f "$STATE/registry.env" ] && answers "$(sed -n 's/^KILN_TEST_REGISTRY=//p' "$STATE/registry.env")/v2/"; then
        return 0
    fi
    say "starting docker-registry with token authentication"
    registry=127.0.0.1:$(free_port)
    realm=127.0.0.1:$(free_port)
    token_registry registry "$registry" "$realm"
    cat >"$STATE/registry.env" <<ENVIRONMENT
KILN_TEST_REGISTRY=$registry
KILN_TEST_REALM=$realm
ENVIRONMENT
}

# The other registries that a client must get on with: passwords without tokens, tokens that live for three seconds, and
# zuul-registry, open for readers and closed.
start_peers() {
    if [ -f "$STATE/peers.env" ]; then
        cat "$STATE/peers.env" >>"$STATE/registry.env"
        return 0
    fi
    say "starting docker-registry with passwords, with short tokens, and zuul-registry"
    passwords=127.0.0.1:$(free_port)
    mkdir -p "$STATE/passwords"
    htpasswd -Bbn kiln htpasswd-password >"$STATE/passwords/htpasswd" 2>/dev/null
    cat >"$STATE/passwords/config.yml" <<CONFIG
version: 0.1
log: { level: warn }
storage:
  filesystem: { rootdirectory: $STATE/passwords/data }
  delete: { enabled: true }
http: { addr: $passwords }
auth:
  htpasswd: { realm: kiln, path: $STATE/passwords/htpasswd }
CONFIG
    serve passwords docker-registry serve "$STATE/passwords/config.yml"
    short=127.0.0.1:$(free_port)
    token_registry short "$short" "127.0.0.1:$(free_port)" 3
    venv=${XDG_CACHE_HOME:-$HOME/.cache}/kiln-test-zuul-registry
    if ! [ -x "$venv/bin/zuul-registry" ]; then
        /usr/bin/python3 -m venv "$venv" >&2
        "$venv/bin/pip" install --quiet --disable-pip-version-check zuul-registry==1.3.0 >&2
    fi
    zuul_open=127.0.0.1:$(free_port)
    zuul_registry zuul-open "$zuul_open" ""
    zuul_closed=127.0.0.1:$(free_port)
    zuul_registry zuul-closed "$zuul_closed" "- { name: reader, pass: read-password, access: read }"
    for address in "$passwords" "$zuul_open" "$zuul_closed"; do
        wait_for 20 "registry at $address (logs: $STATE)" answers "$address/v2/"
    done
    cat >"$STATE/peers.env" <<ENVIRONMENT
KILN_TEST_PASSWORD_REGISTRY=$passwords
KILN_TEST_SHORT_TOKEN_REGISTRY=$short
KILN_TEST_ZUUL_REGISTRY=$zuul_open
KILN_TEST_ZUUL_CLOSED_REGISTRY=$zuul_closed
ENVIRONMENT
    cat "$STATE/peers.env" >>"$STATE/registry.env"
}

# zuul_registry NAME ADDRESS MORE-USERS
zuul_registry() {
    mkdir -p "$STATE/$1"
    cat >"$STATE/$1/config.yml" <<CONFIG
registry:
  address: 127.0.0.1
  port: ${2#*:}
  public-url: http://$2
  secret: $(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
  users:
    - { name: writer, pass: write-password, access: write }
    $3
  storage: { driver: filesystem, root: $STATE/$1/data }
CONFIG
    serve "$1" "$venv/bin/zuul-registry" -c "$STATE/$1/config.yml" serve
}

# Engines of other versions, and podman. Where this machine refuses them, their tests tell what they miss.
start_engines() {
    sed -i '/^KILN_TEST_NEW_ENGINE\|^KILN_TEST_CONTAINERD_STORE\|^KILN_TEST_PODMAN/d' "$STATE/registry.env"
    if "$ROOT/scripts/engines.sh" start >"$STATE/engines.env"; then
        cat "$STATE/engines.env" >>"$STATE/registry.env"
    else
        say "SKIPPED: engines of other versions do not start here (logs: $STATE/engines)"
    fi
}

case "${1:-}" in
start)
    # What start prints is evaluated by the caller, so its progress goes to standard error.
    if [ "${2:-}" != registry ]; then
        start_engine
        make_base_image
    fi
    start_registry
    if [ "${2:-}" = tests ]; then
        make_python_image
        set_up_emulator
        make_foreign_image
        start_peers
        start_engines
        "$ROOT/scripts/aws-harness.sh" start >"$STATE/aws.env"
        # What an earlier one noted is another's port by now.
        sed -i '/^KILN_TEST_AWS/d' "$STATE/registry.env"
        cat "$STATE/aws.env" >>"$STATE/registry.env"
    fi
    sort -u "$STATE/registry.env"
    ;;
stop)
    for service in registry registry-realm passwords short short-realm zuul-open zuul-closed; do
        stop_one "$service"
        rm -rf "${STATE:?}/$service"
    done
    "$ROOT/scripts/engines.sh" stop
    stop_one dockerd
    "$ROOT/scripts/aws-harness.sh" stop
    rm -f "$STATE/registry.env" "$STATE/peers.env" "$STATE/aws.env" "$STATE/engines.env"
    ;;
*) fail "usage: services.sh start [registry|tests] | stop" ;;
esac
