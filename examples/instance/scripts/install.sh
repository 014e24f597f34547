#!/bin/sh
set -eu
"$ROOT/opt/greeter/greet"
echo "$BAKED_BY" >"$ROOT/opt/greeter/installed"
