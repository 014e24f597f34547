#!/bin/sh
# All tests, against a real Docker engine and a registry with token authentication. Nothing is skipped here: an engine that
# is missing is a failure.
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

if [ -f "$STATE/registry.env" ]; then started=; else started=yes; fi
environment=$("$ROOT/scripts/services.sh" start tests)
trap '[ -z "$started" ] || "$ROOT/scripts/services.sh" stop' EXIT INT TERM
for assignment in $environment; do export "${assignment?}"; done

export KILN_TEST_REQUIRE=1
# The recorded verdicts are of this Packer; where it is at hand, they are checked against it.
case $(packer version 2>/dev/null) in
*v1.6.6*) export KILN_TEST_PACKER=1 ;;
*) say "SKIPPED: the records of Packer 1.6.6 are not checked, for it is not here" ;;
esac
say "cargo test"
cargo test --workspace --locked --no-fail-fast "$@"
