# Shared by the scripts of this folder; sourced, not run.

set -eu
ROOT=$(cd "$(dirname "$0")/.." && pwd)
# Everything the scripts start or make on this machine is noted here; `scripts/services.sh stop` ends it by pid.
STATE=${KILN_TEST_STATE:-${TMPDIR:-/tmp}/kiln-test-$(id -u)}
mkdir -p "$STATE"
chmod 700 "$STATE"

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Runs a command as root: as it is, or through sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Waits until a command succeeds: wait_for SECONDS WHAT COMMAND...
wait_for() {
    limit=$1 what=$2
    shift 2
    deadline=$(($(date +%s) + limit))
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$deadline" ] || fail "$what did not come up within $limit s"
        sleep 0.1
    done
}

# Debian packages, only those that are missing.
install_packages() {
    missing=
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    say "installing$missing"
    as_root apt-get update -q >&2
    # shellcheck disable=SC2086 # a list of words is meant
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $missing >&2
}

# Whether a Docker engine answers at DOCKER_HOST (a unix socket, as on every machine this is run on).
engine_answers() {
    socket=${DOCKER_HOST:-unix:///var/run/docker.sock}
    curl --silent --fail --max-time 5 --unix-socket "${socket#unix://}" http://engine/_ping
}

# Ends what was started under a name, by its pid.
stop_one() {
    [ -f "$STATE/$1.pid" ] || return 0
    pid=$(cat "$STATE/$1.pid")
    rm -f "$STATE/$1.pid"
    as_root kill "$pid" 2>/dev/null || return 0
    deadline=$(($(date +%s) + 30))
    while as_root kill -0 "$pid" 2>/dev/null && [ "$(date +%s)" -lt "$deadline" ]; do sleep 0.1; done
}
