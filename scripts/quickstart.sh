#!/bin/sh
# Images without a daemon, for real: examples/quickstart bootstraps Debian, runs its steps, writes an OCI layout and pushes to a
# registry with token authentication; then again with nothing changed, and with one file changed.
#
#   quickstart.sh KILN
. "$(dirname "$0")/lib.sh"

kiln=$(realpath "${1:?usage: quickstart.sh KILN}")
if [ -f "$STATE/registry.env" ]; then started=; else started=yes; fi
environment=$("$ROOT/scripts/services.sh" start registry)
work=$STATE/quickstart
# What it keeps stays, so that a second run of this script has its base already; what the checks pull does not.
export KILN_STATE_DIR="$STATE/kiln" KILN_CACHE_DIR="$STATE/cache"
end() {
    KILN_CACHE_DIR="$work/elsewhere" "$kiln" cache prune --all --images >/dev/null 2>&1 || true
    rm -rf "$work"
    [ -z "$started" ] || "$ROOT/scripts/services.sh" stop
}
trap end EXIT
trap 'exit 130' INT TERM
for assignment in $environment; do export "${assignment?}"; done

# As in a job of GitLab CI: the login is found.
export CI_REGISTRY="$KILN_TEST_REGISTRY" CI_REGISTRY_IMAGE="$KILN_TEST_REGISTRY/group/project"
export CI_REGISTRY_USER=deployer CI_REGISTRY_PASSWORD=deploy-token
# No engine is asked for anything: there is none at this address.
export DOCKER_HOST="unix://$work/no-engine.sock"

rm -rf "$work"
cp -R "$ROOT/examples/quickstart" "$work"
cd "$work"

# Builds, shows it, and counts the steps that were restored.
build() {
    # The pipe hides the status of what stands before it.
    { "$kiln" build worker.pkr.hcl 2>&1 || echo "failed" >"$work/failed"; } | tee "$work/build.log" >&2
    ! [ -e "$work/failed" ] || fail "the build failed"
    cached=$(grep -c '\] CACHED ' "$work/build.log" || true)
}

say "what would run"
"$kiln" plan worker.pkr.hcl >&2
say "building without a daemon"
build
say "building again: nothing changed"
build
[ "$cached" = 3 ] || fail "$cached of 3 steps were restored"
say "one file changed"
echo "baked by kiln, twice" >files/motd
"$kiln" plan worker.pkr.hcl >&2
build
[ "$cached" = 2 ] || fail "$cached of 3 steps were restored, where 2 did not change"

say "starting from the image in the registry, as another machine would"
KILN_CACHE_DIR="$work/elsewhere" "$kiln" build check.pkr.hcl 2>&1 | tee "$work/check.log" >&2
grep -q 'oci.check: baked by kiln, twice' "$work/check.log" || fail "the image that was pushed is not what was built"
say "a shell in the state after the first step"
"$kiln" shell worker:1 -c 'id worker; ls -l /usr/local/bin' worker.pkr.hcl
[ -f images/index.json ] || fail "there is no OCI layout"
say "nothing is left of the builds"
"$kiln" cleanup
