#!/bin/sh
# Installs what the demo and the tests need from Debian; the engine is started by services.sh, not by the package.
#
#   install-dependencies.sh              for the demo
#   install-dependencies.sh quickstart   for its part without an engine
#   install-dependencies.sh tests        and what the tests against EC2 on loopback run on
#   install-dependencies.sh vm           and what its virtual machines need
. "$(dirname "$0")/lib.sh"

# qemu-utils and qemu-system must be of one version: where the former came from backports, so must the latter.
install_qemu() {
    case $(dpkg-query -W -f '${Version}' qemu-utils 2>/dev/null) in
    *~bpo*) ;;
    *) install_packages qemu-system-x86 qemu-utils && return 0 ;;
    esac
    lists=$(mktemp -d)
    mkdir -p "$lists/lists/partial" "$lists/archives/partial"
    release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    for suite in "debian $release-backports" "debian $release" "debian-security $release-security"; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/${suite% *} ${suite#* } main"
    done >"$lists/sources.list"
    options="-o Dir::Etc::sourcelist=$lists/sources.list -o Dir::Etc::sourceparts=- -o Dir::State::lists=$lists/lists -o Dir::Cache::archives=$lists/archives"
    say "installing qemu from backports"
    # shellcheck disable=SC2086 # a list of options is meant
    as_root apt-get $options update -q >&2
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive apt-get $options install -qy --no-install-recommends -t "$release-backports" qemu-system-x86 qemu-utils >&2
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
fi
