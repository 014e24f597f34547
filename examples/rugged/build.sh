#!/bin/sh
# Builds all images in order; each one's parent is the image built before it. Stops at the first that fails, so that
# nothing is built on a stale parent.
#
#   build.sh KILN [json|hcl] [OPTION...]     for example: build.sh kiln hcl -except=docker-push
set -eu

kiln=${1:?usage: build.sh KILN [json|hcl] [OPTION...]}
form=${2:-json}
[ $# -lt 2 ] || shift
shift
case $form in
    json) ending=json ;;
    hcl) ending=pkr.hcl ;;
    *) printf 'build.sh: there are json and hcl, and no %s\n' "$form" >&2; exit 2 ;;
esac
# A path may be relative to where the caller stands.
case $kiln in */*) kiln=$(realpath "$kiln") ;; esac

cd "$(dirname "$0")"
for template in "$form"/*."$ending"; do
    printf '==> %s\n' "$template" >&2
    "$kiln" build "$@" "$template"
done
