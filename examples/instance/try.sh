#!/bin/sh
# Builds machine.pkr.hcl against an SSH server of its own on loopback, which is gone afterwards. KILN names the command.
set -eu
cd "$(dirname "$0")"
state=$(mktemp -d)
trap 'kill "$(cat "$state/pid")" 2>/dev/null || true; rm -rf "$state" installed' EXIT INT TERM
port=${PORT:-2222}

for key in host user; do
    ssh-keygen -q -t ed25519 -N '' -C "$key" -f "$state/$key"
done
cat >"$state/config" <<CONFIG
ListenAddress 127.0.0.1:$port
HostKey $state/host
AuthorizedKeysFile $state/user.pub
PidFile $state/pid
StrictModes no
UsePAM no
CONFIG
[ "$(id -u)" != 0 ] || mkdir -p /run/sshd
mkdir "$state/root"
# sshd wants to be called by its whole path.
"$(PATH=$PATH:/usr/sbin command -v sshd)" -f "$state/config" -E "$state/log"

"${KILN:-kiln}" build -var port="$port" -var user="$(id -un)" -var key="$state/user" -var root="$state/root" \
    -var "host_keys=[\"$(ssh-keygen -lf "$state/host.pub" | cut -d' ' -f2)\"]" machine.pkr.hcl
"$state/root/opt/greeter/greet"
cat installed
