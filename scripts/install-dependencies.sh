#!/bin/sh
# Installs what the demo and the tests need from Debian; the engine is started by services.sh, not by the package.
#
#   install-dependencies.sh              for the demo
#   install-dependencies.sh quickstart   for its part without an engine
#   install-dependencies.sh tests
. "$(dirname "$0")/lib.sh"

command -v cargo >/dev/null || fail "no cargo here: install Rust first (https://rustup.rs)"
command -v apt-get >/dev/null || fail "this script installs Debian packages; on another system install docker, docker-registry, mmdebstrap, uidmap and jq yourself"
install_packages ca-certificates curl gcc git jq libssl-dev make pkg-config
install_packages docker-registry mmdebstrap python3-jwt python3-cryptography uidmap
[ "${1:-}" != quickstart ] || exit 0
install_packages docker.io iptables
# Newer Debians keep the client, which the scripts look at results with, in a package of its own.
command -v docker >/dev/null || install_packages docker-cli
if [ "${1:-}" = tests ]; then
    install_packages apache2-utils attr busybox-static libcap2-bin openssh-client openssh-server openssl packer procps
    install_packages pigz python3-venv skopeo socat stunnel4 umoci
fi
