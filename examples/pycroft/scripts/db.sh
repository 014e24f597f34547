#!/bin/sh
# PostgreSQL from Debian, without a cluster: each container makes its own.
set -eu

export DEBIAN_FRONTEND=noninteractive
mkdir -p /etc/postgresql-common
echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
apt-get update -q
apt-get install -qy --no-install-recommends postgresql
rm -rf /var/lib/apt/lists/*
