#!/bin/sh
# The main job, for real: builds the chain of examples/rugged (base, worker, three signing workers, rabbitmq), pushes it to a
# registry with token authentication, pulls it back and runs it.
#
#   demo.sh KILN [json|hcl]     both template forms when none is named
. "$(dirname "$0")/lib.sh"

kiln=$(realpath "${1:?usage: demo.sh KILN [json|hcl]}")
if [ -f "$STATE/registry.env" ]; then started=; else started=yes; fi
environment=$("$ROOT/scripts/services.sh" start)
trap '[ -z "$started" ] || "$ROOT/scripts/services.sh" stop' EXIT INT TERM
for assignment in $environment; do export "${assignment?}"; done

export CI_REGISTRY="$KILN_TEST_REGISTRY" CI_REGISTRY_IMAGE="$KILN_TEST_REGISTRY/group/project"
export CI_REGISTRY_USER=deployer CI_REGISTRY_PASSWORD=deploy-token
export KILN_STATE_DIR="$STATE/kiln"
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

demo() {
    form=$1
    export VERSION="1.0.0-$form"
    say "building examples/rugged ($form)"
    "$ROOT/examples/rugged/build.sh" "$kiln" "$form"

    say "pulling back what was pushed ($form)"
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

for form in ${2:-json hcl}; do demo "$form"; done
say "nothing is left of the builds"
"$kiln" cleanup
[ -z "$(docker ps --all --quiet --filter label=kiln.run)" ] || fail "containers are left"
