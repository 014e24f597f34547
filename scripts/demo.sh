#!/bin/sh
# The main job, for real: builds the chain of examples/rugged (base, worker, three signing workers, rabbitmq), pushes it to a
# registry with token authentication, pulls it back and runs it. With `oci` the same templates are built without a daemon.
#
#   demo.sh KILN [json|hcl] [docker|oci]     both template forms, and with and without a daemon, when none is named
. "$(dirname "$0")/lib.sh"

kiln=$(realpath "${1:?usage: demo.sh KILN [json|hcl] [docker|oci]}")
if [ -f "$STATE/registry.env" ]; then started=; else started=yes; fi
environment=$("$ROOT/scripts/services.sh" start)
trap '[ -z "$started" ] || "$ROOT/scripts/services.sh" stop' EXIT INT TERM
for assignment in $environment; do export "${assignment?}"; done

export CI_REGISTRY="$KILN_TEST_REGISTRY" CI_REGISTRY_IMAGE="$KILN_TEST_REGISTRY/group/project"
export CI_REGISTRY_USER=deployer CI_REGISTRY_PASSWORD=deploy-token
export KILN_STATE_DIR="$STATE/kiln" KILN_CACHE_DIR="$STATE/cache"
# The tool's own login must do: no configuration of docker is at hand while it builds.
export DOCKER_CONFIG="$STATE/empty-docker-config"
mkdir -p "$DOCKER_CONFIG"
images="base worker root-worker targets-worker snapshot-worker rabbitmq"

remove_images() {
    for image in $images; do
        docker image inspect "$CI_REGISTRY_IMAGE/$image:$VERSION" >/dev/null 2>&1 || continue
        docker rmi --force "$CI_REGISTRY_IMAGE/$image:$VERSION" "$CI_REGISTRY_IMAGE/$image:latest" >/dev/null 2>&1 || true
    done
}

run_image() {
    docker run --rm --network none --entrypoint /bin/sh "$CI_REGISTRY_IMAGE/$1:$VERSION" -c "$2"
}

# Where no engine can be reached.
without_engine() {
    DOCKER_HOST=unix:///nowhere/docker.sock KILN_DOCKER_AS=oci "$@"
}

build() {
    if [ "$2" = docker ]; then
        say "building examples/rugged ($1)"
        "$ROOT/examples/rugged/build.sh" "$kiln" "$1"
        return
    fi
    say "making their parent, without a daemon"
    without_engine "$kiln" build "$ROOT/examples/rugged/debian.kiln.hcl"
    say "building examples/rugged ($1), without a daemon"
    without_engine "$ROOT/examples/rugged/build.sh" "$kiln" "$1"
    say "building them again ($1): nothing changed, so nothing runs"
    without_engine "$ROOT/examples/rugged/build.sh" "$kiln" "$1" -except=docker-push 2>"$STATE/again.log" ||
        fail "the second build failed, see $STATE/again.log"
    grep -e CACHED -e ' ok ' "$STATE/again.log" >&2
    ! grep -q 'running scripts/' "$STATE/again.log" || fail "a step ran again, see $STATE/again.log"
}

demo() {
    form=$1 builder=$2
    export VERSION="1.0.0-$form-$builder"
    build "$form" "$builder"

    say "pulling back what was pushed ($form, $builder)"
    remove_images
    docker --config "$STATE/docker-config" login --username deployer --password-stdin "$KILN_TEST_REGISTRY" >/dev/null 2>&1 <<PASSWORD
deploy-token
PASSWORD
    for image in $images; do
        docker --config "$STATE/docker-config" pull --quiet "$CI_REGISTRY_IMAGE/$image:$VERSION" >/dev/null
    done
    for image in worker root-worker targets-worker snapshot-worker; do
        user=$(run_image "$image" 'id -u rugged; id -g rugged; command -v supervisord')
        [ "$user" = "$(printf '440\n440\n/usr/bin/supervisord')" ] || fail "$image: the user rugged or supervisor is wrong: $user"
        printf '%s: user rugged has id 440, supervisor is there\n' "$image" >&2
    done
    run_image rabbitmq 'command -v rabbitmq-server >/dev/null' || fail "rabbitmq: no server inside"
    for image in $images; do
        run_image "$image" '! ls /packer-files /tmp/script_* 2>/dev/null' || fail "$image: traces of the build are left"
    done
    docker images --filter "reference=$CI_REGISTRY_IMAGE/*" --format 'table {{.Repository}}\t{{.Tag}}\t{{.Size}}' >&2
    remove_images
}

for builder in ${3:-docker oci}; do
    for form in ${2:-json hcl}; do demo "$form" "$builder"; done
done
say "nothing is left of the builds"
"$kiln" cleanup
[ -z "$(docker ps --all --quiet --filter label=kiln.run)" ] || fail "containers are left"
