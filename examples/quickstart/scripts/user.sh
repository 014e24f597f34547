#!/bin/sh
# The worker's user, and a place for it to work.
set -eu

useradd --system --uid 440 --home-dir /srv/worker --create-home worker
