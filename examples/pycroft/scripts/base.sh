#!/bin/sh
# What all images share: Python, the driver of the database, and the user that everything runs as.
set -eu

export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -qy --no-install-recommends python3 python3-psycopg2
rm -rf /var/lib/apt/lists/*

# Ids may be taken already, and are shared then: files on mounts must belong to whoever builds.
groupadd --non-unique --gid "$PYCROFT_GID" pycroft
useradd --non-unique --uid "$PYCROFT_UID" --gid "$PYCROFT_GID" --home-dir /opt/pycroft --create-home pycroft
