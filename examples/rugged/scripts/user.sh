#!/bin/sh
# The user and group rugged have one fixed id in every image, so that volumes can be shared between containers.
set -eu

groupadd --system --gid 440 rugged
useradd --system --uid 440 --gid 440 --home-dir /var/rugged --create-home --shell /bin/bash rugged
