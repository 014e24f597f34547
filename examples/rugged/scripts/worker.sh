#!/bin/sh
# Directories and owners. The files came before, by the file provisioner.
set -eu

for directory in repository incoming_targets post_to_tuf signing_keys verification_keys; do
    install --directory --owner=rugged --group=rugged --mode=0750 "/var/rugged/$directory"
done
# Keys are mounted when a container runs. None may ever be in an image.
chmod 0700 /var/rugged/signing_keys

chown root:rugged /etc/rugged/rugged.yaml
chmod 0640 /etc/rugged/rugged.yaml
chmod 0755 /opt/rugged/worker.py
