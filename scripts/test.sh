#!/bin/sh
# All tests, against a real Docker engine and a registry with token authentication. Nothing is skipped here: an engine that
# is missing is a failure.
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

if [ -f "$STATE/registry.env" ]; then started=; else started=yes; fi
environment=$("$ROOT/scripts/services.sh" start)
trap '[ -z "$started" ] || "$ROOT/scripts/services.sh" stop' EXIT INT TERM
for assignment in $environment; do export "${assignment?}"; done

export KILN_TEST_REQUIRE=1
say "cargo test"
cargo test --workspace --locked --no-fail-fast "$@"
