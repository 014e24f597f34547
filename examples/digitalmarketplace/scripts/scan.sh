#!/bin/sh
# Looks for programs that run with the rights of others. The report is a file, and finding any is a failure.
set -eu
mkdir -p "$(dirname "$REPORT")"
found=$(docker run --rm --network none --entrypoint find "$KILN_IMAGE_ID" \
    / -xdev -type f -perm /6000 -printf '%m %p\n')
{
    printf '{"image": "%s", "findings": [' "$KILN_IMAGE_ID"
    printf '%s' "$found" | awk 'NF { printf "%s{\"mode\": \"%s\", \"path\": \"%s\"}", (n++ ? ", " : ""), $1, $2 }'
    printf ']}\n'
} >"$REPORT"
[ -z "$found" ] || { echo "$(printf '%s\n' "$found" | wc -l) programs with rights of others: $REPORT" >&2; exit 1; }
