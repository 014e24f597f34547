#!/bin/sh
# Other engines than this system's, for the tests: Docker of Debian trixie with both of its image stores, and podman. They run
# in a small root file system of their own, on sockets in the state directory.
#
#   engines.sh prepare   makes the root file system, once per user
#   engines.sh start     starts them where they do not run, and prints their environment
#   engines.sh stop      ends them, and removes what they kept
. "$(dirname "$0")/lib.sh"

CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/kiln-test-engines
# Changes when what is made below changes.
VERSION=1
PACKAGES=docker.io,containerd,runc,podman,netavark,aardvark-dns,iptables,nftables,iproute2,ca-certificates,git
IMAGES="debian:bookworm kiln-test-arm64:bookworm"
PLACE=$STATE/engines

prepare() {
    [ "$(cat "$CACHE/version" 2>/dev/null)" != "$VERSION" ] || return 0
    say "making a root file system with the engines of Debian trixie"
    mkdir -p "$CACHE"
    as_root rm -rf "$CACHE/root" "$CACHE/new"
    as_root mmdebstrap --quiet --variant=minbase --include="$PACKAGES" --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --customize-hook='rm -rf "$1"/var/lib/apt/lists "$1"/var/cache/apt' trixie "$CACHE/new" >&2
    as_root mv "$CACHE/new" "$CACHE/root"
    echo "$VERSION" >"$CACHE/version"
}

# inside PROGRAM...: in mounts of its own, the root file system with this machine's devices and the engines' directory.
inside() {
    root=$CACHE/root
    mount --bind "$root" "$root"
    mount --rbind /dev "$root/dev"
    mount --rbind /sys "$root/sys"
    mount -t proc proc "$root/proc"
    for directory in run tmp dev/shm; do mount -t tmpfs tmpfs "$root/$directory"; done
    mkdir -p "$root$PLACE"
    mount --bind "$PLACE" "$root$PLACE"
    cd "$root"
    pivot_root . mnt
    umount -l /mnt
    cd /
    exec env PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

# launch NAME PROGRAM...: notes its pid, and waits for its socket.
launch() {
    name=$1
    shift
    as_root env KILN_TEST_STATE="$STATE" XDG_CACHE_HOME="$(dirname "$CACHE")" sh -c '
        program=$1 log=$2 pid=$3; shift 3
        unshare --mount "$program" inside "$@" >"$log" 2>&1 & echo $! >"$pid"
    ' sh "$ROOT/scripts/engines.sh" "$PLACE/$name.log" "$PLACE/$name.pid" "$@"
    wait_for 30 "$name (log: $PLACE/$name.log)" of "$name" _ping
}

# of NAME PATH: what an engine answers.
of() {
    as_root curl --silent --fail --max-time 5 --unix-socket "$PLACE/$1.sock" "http://engine/$2"
}

# A bridge that no other engine has: without rules for packets, so that nobody else's are touched.
make_bridge() {
    [ -f "$PLACE/$1.bridge" ] && return 0
    number=1
    while ip -4 address | grep -q "inet 10\.213\.$number\."; do number=$((number + 1)); done
    as_root ip link add "kiln-test$number" type bridge
    echo "kiln-test$number" >"$PLACE/$1.bridge"
    as_root ip address add "10.213.$number.1/24" dev "kiln-test$number"
    as_root ip link set "kiln-test$number" up
}

# start_docker NAME FEATURES
start_docker() {
    of "$1" _ping >/dev/null 2>&1 && return 0
    make_bridge "$1"
    echo "{ \"features\": $2 }" >"$PLACE/$1.json"
    launch "$1" dockerd --config-file "$PLACE/$1.json" --host "unix://$PLACE/$1.sock" --group "$(id -g)" \
        --data-root "$PLACE/$1" --exec-root /run/docker --pidfile /run/docker.pid \
        --bridge "$(cat "$PLACE/$1.bridge")" --iptables=false --ip-masq=false
}

# Dockers of this host let no packet pass between other bridges than theirs, but for what this chain of theirs says.
let_podman_through() {
    ! as_root iptables -n -L DOCKER-USER >/dev/null 2>&1 || podman_rule -C 2>/dev/null || podman_rule -I
}

# podman_rule OPTION: looks for the rule of this state directory, inserts it, or deletes it.
podman_rule() {
    as_root iptables "$1" DOCKER-USER -i podman+ -o podman+ -m comment --comment "$PLACE" -j ACCEPT
}

start_podman() {
    of podman _ping >/dev/null 2>&1 && return 0
    # Its usual limits may be beyond what root may set here.
    files=$(as_root bash -c 'ulimit -Hn')
    processes=$(as_root bash -c 'ulimit -Hu' | sed 's/unlimited/-1/')
    # crun refuses kernels with both kinds of cgroups.
    cat >"$PLACE/containers.conf" <<CONFIG
[containers]
netns = "host"
default_ulimits = ["nofile=$files:$files", "nproc=$processes:$processes"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
CONFIG
    # Podman asks registries at loopback for https, too.
    registries=$(sed -n 's/^KILN_TEST_[A-Z_]*REGISTRY=//p' "$STATE/registry.env" 2>/dev/null)
    for registry in $registries; do
        printf '[[registry]]\nlocation = "%s"\ninsecure = true\n' "$registry"
    done >"$PLACE/registries.conf"
    launch podman env CONTAINERS_REGISTRIES_CONF="$PLACE/registries.conf" PODMAN_IGNORE_CGROUPSV1_WARNING=1 CONTAINERS_CONF="$PLACE/containers.conf" \
        podman --root "$PLACE/podman" --runroot /run/podman --storage-driver overlay \
        system service --time=0 "unix://$PLACE/podman.sock"
    as_root chgrp "$(id -g)" "$PLACE/podman.sock"
    as_root chmod 660 "$PLACE/podman.sock"
}

# The base images, under the names that they have here.
fill() {
    export DOCKER_HOST="unix://$PLACE/$1.sock"
    for image in $IMAGES; do
        ! docker image inspect "$image" >/dev/null 2>&1 || continue
        [ -f "$PLACE/${image%%:*}.tar" ] || continue
        docker load --quiet --input "$PLACE/${image%%:*}.tar" >&2
        [ "$1" != podman ] || docker tag "localhost/$image" "docker.io/library/$image"
    done
}

save_images() {
    for image in $IMAGES; do
        file=$PLACE/${image%%:*}.tar
        [ -f "$file" ] || ! docker image inspect "$image" >/dev/null 2>&1 || docker save --output "$file" "$image"
    done
}

start() {
    prepare
    for name in new-engine containerd-store podman; do
        of "$name" _ping >/dev/null 2>&1 || rm -f "$PLACE/environment"
    done
    if ! [ -f "$PLACE/environment" ]; then
        say "starting Docker of Debian trixie, twice, and podman"
        mkdir -p "$PLACE"
        save_images
        start_docker new-engine '{}'
        start_docker containerd-store '{ "containerd-snapshotter": true }'
        let_podman_through
        start_podman
        # One after the other: disks are what this waits for.
        for name in new-engine containerd-store podman; do (fill "$name"); done
        rm -f "$PLACE"/*.tar
        cat >"$PLACE/environment" <<ENVIRONMENT
KILN_TEST_NEW_ENGINE=unix://$PLACE/new-engine.sock
KILN_TEST_CONTAINERD_STORE=unix://$PLACE/containerd-store.sock
KILN_TEST_PODMAN=unix://$PLACE/podman.sock
ENVIRONMENT
    fi
    cat "$PLACE/environment"
}

stop() {
    [ -d "$PLACE" ] || return 0
    for name in new-engine containerd-store podman; do stop_one "engines/$name"; done
    podman_rule -D 2>/dev/null || true
    for bridge in "$PLACE"/*.bridge; do
        [ ! -f "$bridge" ] || as_root ip link delete "$(cat "$bridge")" || true
    done
    as_root rm -rf "$PLACE"
}

case "${1:-}" in
prepare) prepare ;;
start) start ;;
stop) stop ;;
inside) shift && inside "$@" ;;
*) fail "usage: engines.sh prepare | start | stop" ;;
esac
