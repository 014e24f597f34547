#!/bin/sh
# Runs what the image has of the application: the bundle of prod, or the sources of dev.
set -eu

if [ -f /opt/pycroft/pycroft.pyz ]; then
    exec python3 /opt/pycroft/pycroft.pyz "$@"
fi
cd /opt/pycroft/app && exec python3 -m pycroft "$@"
