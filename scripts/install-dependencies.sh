#!/bin/sh
# Installs what the demo and the tests need from Debian; the engine is started by services.sh, not by the package.
#
#   install-dependencies.sh              for the demo
#   install-dependencies.sh quickstart   for its part without an engine
#   install-dependencies.sh tests        and what the tests against EC2 on loopback run on
#   install-dependencies.sh vm           and what its virtual machines need
. "$(dirname "$0")/lib.sh"

# A directory whose lists and archives apt can use for suites that this machine's sources do not name, on standard output; what
# is named by further arguments, as "ARCHIVE SUITE", is what its sources are.
apt_beside() {
    beside=$(mktemp -d)
    mkdir -p "$beside/lists/partial" "$beside/archives/partial"
    # The user that apt fetches as must get in.
    chmod 755 "$beside"
    for suite in "$@"; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/${suite% *} ${suite#* } main"
    done >"$beside/sources.list"
    echo "$beside"
}

# apt_get DIRECTORY ARGUMENTS...: apt-get with such a directory.
apt_get() {
    beside=$1
    shift
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o "Dir::Etc::sourcelist=$beside/sources.list" -o Dir::Etc::sourceparts=- \
        -o "Dir::State::lists=$beside/lists" -o "Dir::Cache::archives=$beside/archives" "$@" >&2
}

# qemu-utils and qemu-system must be of one version: where the former came from backports, so must the latter.
install_qemu() {
    case $(dpkg-query -W -f '${Version}' qemu-utils 2>/dev/null) in
    *~bpo*) ;;
    *) install_packages qemu-system-x86 qemu-utils && return 0 ;;
    esac
    release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    lists=$(apt_beside "debian $release-backports" "debian $release" "debian-security $release-security")
    say "installing qemu from backports"
    apt_get "$lists" update -q
    apt_get "$lists" install -qy --no-install-recommends -t "$release-backports" qemu-system-x86 qemu-utils
    as_root rm -rf "$lists"
}

# Compose as a plug-in of docker: trixie is the first Debian that has it. One program, which is unpacked and not installed; apt
# holds the package against the signed lists.
install_compose() {
    folder=${XDG_CACHE_HOME:-$HOME/.cache}/kiln-test-compose
    [ -x "$folder/docker-compose" ] && return 0
    say "unpacking docker-compose of trixie into $folder"
    lists=$(apt_beside "debian trixie")
    apt_get "$lists" update -q
    (cd "$lists/archives" && apt_get "$lists" download -q -t trixie docker-compose)
    dpkg-deb -x "$lists"/archives/docker-compose_*.deb "$lists/unpacked"
    mkdir -p "$folder"
    mv "$lists/unpacked/usr/libexec/docker/cli-plugins/docker-compose" "$folder/docker-compose"
    as_root rm -rf "$lists"
}

# Ansible as its users have it, and the connection to containers that its figures are held against.
install_ansible() {
    venv=${XDG_CACHE_HOME:-$HOME/.cache}/kiln-test-ansible
    [ -x "$venv/bin/ansible-playbook" ] && return 0
    say "installing Ansible into $venv"
    /usr/bin/python3 -m venv "$venv" >&2
    "$venv/bin/pip" install --quiet --disable-pip-version-check 'ansible-core==2.19.*' >&2
}

command -v cargo >/dev/null || fail "no cargo here: install Rust first (https://rustup.rs)"
command -v apt-get >/dev/null || fail "this script installs Debian packages; on another system install docker, docker-registry, mmdebstrap, uidmap and jq yourself"
install_packages ca-certificates curl gcc git jq make perl
install_packages docker-registry mmdebstrap python3-jwt python3-cryptography uidmap
[ "${1:-}" != quickstart ] || exit 0
install_packages docker.io iptables
# Newer Debians keep the client, which the scripts look at results with, in a package of its own.
command -v docker >/dev/null || install_packages docker-cli
if [ "${1:-}" = tests ] || [ "${1:-}" = vm ]; then
    install_packages apache2-utils attr busybox-static libcap2-bin openssh-client openssh-server openssl packer procps
    install_packages docker-compose pigz python3-venv skopeo socat stunnel4 umoci
    # Programs of another processor: the emulator, and what tells mmdebstrap that there is one.
    install_packages arch-test qemu-user-static
    # Engines of another Debian, and their bridges.
    install_packages iproute2
    "$ROOT/scripts/engines.sh" prepare
fi
if [ "${1:-}" = vm ]; then
    install_packages busybox-static e2fsprogs python3-venv
    command -v qemu-system-x86_64 >/dev/null || install_qemu
    "$ROOT/scripts/aws-harness.sh" prepare vm
elif [ "${1:-}" = tests ]; then
    "$ROOT/scripts/aws-harness.sh" prepare
    install_ansible
    install_compose
fi
