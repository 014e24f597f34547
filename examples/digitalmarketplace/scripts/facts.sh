#!/bin/sh
# One line for each build, for whoever watches.
set -eu
mkdir -p "$(dirname "$FACTS")"
printf '{"build": "%s", "outcome": "%s", "image": "%s", "digest": "%s", "revision": "%s", "tolerated": "%s"}\n' \
    "$KILN_BUILD" "$KILN_OUTCOME" "$KILN_IMAGE" "$KILN_DIGEST" "$KILN_REVISION" "$(echo "$KILN_TOLERATED" | tr '\n"' ' ')" >>"$FACTS"
