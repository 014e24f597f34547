#!/bin/sh
# Makes a worker the one that signs for a role. ROLE is root, targets or snapshot.
set -eu

: "${ROLE:?the role this worker signs for}"
sed -i "s/^role:.*/role: $ROLE/" /etc/rugged/rugged.yaml
grep --quiet "^role: $ROLE\$" /etc/rugged/rugged.yaml
install --directory --owner=rugged --group=rugged --mode=0700 "/var/rugged/signing_keys/$ROLE"
