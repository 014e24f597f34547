#!/bin/sh
# What a change must pass beside the tests: format, lints, documentation, licences and sources of the dependencies.
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

say "cargo fmt"
cargo fmt --all --check
say "cargo clippy"
cargo clippy --workspace --all-targets --locked -- -D warnings
say "cargo doc"
RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --locked --document-private-items
say "cargo deny"
if ! cargo deny --version >/dev/null 2>&1; then
    # A folder of its own, so that it is built once per machine.
    cargo install --locked --root "${CARGO_HOME:-$HOME/.cargo}" cargo-deny
fi
# cargo-deny looks at the crates of all targets, and the builds so far have fetched those of this one only.
cargo fetch --locked
# The advisory database is fetched from the network; where that is out of reach the other checks still hold.
cargo deny --offline check licenses bans sources
if cargo deny check advisories >"$STATE/advisories.log" 2>&1; then
    say "no advisories"
elif grep -q 'failed to fetch\|failed to clone\|unable to\|failed to load advisory' "$STATE/advisories.log"; then
    say "SKIPPED: the advisory database cannot be fetched from here"
else
    cat "$STATE/advisories.log" >&2
    exit 1
fi
