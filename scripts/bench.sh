#!/bin/sh
# Figures against Debian's packer: starts the engine where none answers, then bench.py.
. "$(dirname "$0")/lib.sh"

if [ -f "$STATE/registry.env" ]; then started=; else started=yes; fi
"$ROOT/scripts/services.sh" start >/dev/null
trap '[ -z "$started" ] || "$ROOT/scripts/services.sh" stop' EXIT INT TERM
/usr/bin/python3 "$ROOT/scripts/bench.py" "$@"
