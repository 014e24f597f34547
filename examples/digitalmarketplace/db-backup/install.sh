#!/bin/sh
set -eu
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends gpg
rm -rf /var/lib/apt/lists/*
mkdir -p /app
