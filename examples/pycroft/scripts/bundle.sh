#!/bin/sh
# The application as one file, which needs Python alone.
set -eu

cd /opt/pycroft/app
printf '%s\n' "$PYCROFT_VERSION" >pycroft/VERSION
mkdir -p ../dist bundle
cp -r pycroft bundle/
python3 -m zipapp bundle --main pycroft.main:main --python /usr/bin/python3 --output ../dist/pycroft.pyz
rm -rf bundle
