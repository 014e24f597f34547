#!/bin/sh
# EC2 on loopback with real machines behind its instances (tests/aws/README.md), for the tests of the AMI builder.
#
#   aws-harness.sh prepare [vm]        makes what it needs, once per user: moto, a root file system, with `vm` also a disk
#   aws-harness.sh start [chroot|vm]   starts it where it does not run, and prints its environment
#   aws-harness.sh stop                ends it, and every machine with it
. "$(dirname "$0")/lib.sh"

CACHE=${XDG_CACHE_HOME:-$HOME/.cache}
MOTO=$CACHE/kiln-test-moto
IMAGES=$CACHE/kiln-test-aws
# Changes when what is made below changes.
VERSION=1
PACKAGES=openssh-server,sudo,ca-certificates,curl,python3,python3-apt,procps,iproute2,netbase,rsync

prepare_moto() {
    "$MOTO/bin/moto_server" --help >/dev/null 2>&1 && return 0
    say "installing moto"
    rm -rf "$MOTO"
    /usr/bin/python3 -m venv "$MOTO" >&2
    "$MOTO/bin/pip" install --quiet --disable-pip-version-check 'moto[server,ec2,iam,sts,ssm,secretsmanager]==5.2.5' >&2
}

# root_file_system NAME PACKAGES: Debian with an sshd and the user admin, as Debian's own AMIs.
root_file_system() {
    [ "$(cat "$IMAGES/$1.version" 2>/dev/null)" != "$VERSION" ] || return 0
    say "making the root file system \`$1\` with mmdebstrap"
    mkdir -p "$IMAGES"
    as_root rm -rf "$IMAGES/$1" "$IMAGES/$1.new"
    as_root mkdir -m 755 "$IMAGES/$1.new"
    as_root mmdebstrap --quiet --variant=minbase --include="$2" bookworm "$IMAGES/$1.tar" >&2
    as_root tar -C "$IMAGES/$1.new" -xf "$IMAGES/$1.tar"
    as_root rm -f "$IMAGES/$1.tar"
    # A random root, as in an AMI: no host keys, no machine id.
    as_root chroot "$IMAGES/$1.new" sh -ec '
        useradd -m -s /bin/bash -p "*" admin
        usermod -p "*" root
        echo "admin ALL=(ALL) NOPASSWD:ALL" >/etc/sudoers.d/admin
        rm -f /etc/ssh/ssh_host_*
        : >/etc/machine-id'
    [ "$1" != rootfs ] || for name in reboot poweroff halt shutdown; do
        as_root install -m 755 "$ROOT/tests/aws/power.sh" "$IMAGES/$1.new/usr/local/sbin/$name"
    done
    [ "$1" != vm-root ] || "$ROOT/tests/aws/vm/prepare.sh" "$IMAGES/$1.new" "$IMAGES"
    as_root mv "$IMAGES/$1.new" "$IMAGES/$1"
    echo "$VERSION" >"$IMAGES/$1.version"
}

prepare() {
    prepare_moto
    root_file_system rootfs "$PACKAGES"
    [ "${1:-}" != vm ] || root_file_system vm-root "$PACKAGES,linux-image-cloud-amd64,systemd-sysv,udev,dbus,python3-yaml"
}

health() {
    address=$(sed -n 's/^KILN_TEST_AWS=//p' "$STATE/aws/environment" 2>/dev/null) || return 1
    [ -n "$address" ] && curl --silent --fail --max-time 5 --output /dev/null "$address/_/health"
}

start() {
    if ! health; then
        prepare "${1#chroot}"
        say "starting EC2 on loopback, machines by $1"
        rm -f "$STATE/aws/environment"
        mkdir -p "$STATE/aws"
        # The program is replaced by python, so that the pid is its own.
        as_root sh -c 'PYTHONDONTWRITEBYTECODE=1 "$@" >"$0/aws-harness.log" 2>&1 & echo $! >"$0/aws-harness.pid"' "$STATE" \
            "$MOTO/bin/python" "$ROOT/tests/aws/harness.py" --backend "$1" --moto "$MOTO/bin/moto_server" \
            --state "$STATE/aws" --images "$IMAGES"
        wait_for 60 "the EC2 harness (log: $STATE/aws-harness.log)" health
    fi
    cat "$STATE/aws/environment"
}

case "${1:-}" in
prepare) prepare "${2:-}" ;;
start) start "${2:-chroot}" ;;
stop)
    stop_one aws-harness
    as_root rm -rf "${STATE:?}/aws"
    ;;
*) fail "usage: aws-harness.sh prepare [vm] | start [chroot|vm] | stop" ;;
esac
