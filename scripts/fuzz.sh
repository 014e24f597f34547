#!/usr/bin/env bash
# Fuzzes the languages that kiln reads: fuzz.sh [SECONDS [TARGET...]]; each target SECONDS long (600), one after the other.
# Needs cargo-fuzz (cargo install cargo-fuzz) and a nightly toolchain. The corpus grows in $KILN_FUZZ_DIR
# (default: ~/.cache/kiln-fuzz) and starts from the tests' own templates and expressions. Findings end the run with 1 and stay in
# $KILN_FUZZ_DIR/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds="${1:-600}"
shift || true
targets=("$@")
[ "${#targets[@]}" -gt 0 ] || targets=(lexer parser evaluator hcl_loader json_loader go_template format)
state="${KILN_FUZZ_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/kiln-fuzz}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$state/target}"
python3 scripts/fuzz_seeds.py "$state/seeds"
for target in "${targets[@]}"; do
    case "$target" in
        evaluator) seeds=expressions ;;
        json_loader) seeds=json ;;
        go_template) seeds=go ;;
        *) seeds=hcl ;;
    esac
    mkdir -p "$state/corpus/$target" "$state/artifacts/$target"
    echo "== $target, $seconds s"
    # A text of 64 KiB in 5 s and 1 GiB: what takes more is a finding.
    cargo +nightly fuzz run --fuzz-dir tests/fuzz --sanitizer none "$target" "$state/corpus/$target" "$state/seeds/$seeds" -- \
        -max_total_time="$seconds" -max_len=65536 -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="$state/artifacts/$target/" 2>&1 | tee "$state/$target.log" | grep -E '^(stat::|SUMMARY|ERROR|.*panicked|Done)' || true
    grep -q '^Done' "$state/$target.log" || { echo "finding in $target: see $state/artifacts/$target"; exit 1; }
done
