#!/bin/sh
# Figures against Debian's packer: those of the language, then, with an engine (started where none answers), those of builds.
. "$(dirname "$0")/lib.sh"

language=0
/usr/bin/python3 "$ROOT/scripts/bench_language.py" "$@" || language=1

if [ -f "$STATE/registry.env" ]; then started=; else started=yes; fi
"$ROOT/scripts/services.sh" start >/dev/null
trap '[ -z "$started" ] || "$ROOT/scripts/services.sh" stop' EXIT INT TERM
/usr/bin/python3 "$ROOT/scripts/bench.py" "$@"
exit "$language"
