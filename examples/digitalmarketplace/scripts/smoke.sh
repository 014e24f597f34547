#!/bin/sh
# Whether the app answers, as the release that it is.
set -eu
docker run --rm --network none "$KILN_IMAGE_ID" serve --once /_status | grep "\"version\": \"$RELEASE\""
