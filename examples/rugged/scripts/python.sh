#!/bin/sh
# What every image of the project runs on: Python, and Supervisor to keep its processes alive.
set -eu

apt-get install --yes --no-install-recommends python3-minimal supervisor
