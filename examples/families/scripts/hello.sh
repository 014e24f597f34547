#!/bin/sh
set -eu
echo "Hello from ${RELEASE:-the plain image}, ${SIZE:-of one size}" > /etc/hello
cat /etc/hello
