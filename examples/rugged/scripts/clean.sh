#!/bin/sh
# Runs last in every image: apt's lists and packages, logs, and all of /tmp, this script itself included.
set -eu

apt-get clean
find /var/lib/apt/lists /tmp /var/tmp -mindepth 1 -delete
find /var/log -type f -exec truncate --size=0 {} +
