#!/bin/sh
# Figures against Debian's packer and other peers: those of the language, then, with an engine (started where none answers),
# those of builds, of the builder without an engine and of the registry client, of Dockerfiles,
# those of SSH, and those of the AMI builder.
. "$(dirname "$0")/lib.sh"

language=0
/usr/bin/python3 "$ROOT/scripts/bench_language.py" "$@" || language=1

if [ -f "$STATE/registry.env" ]; then started=; else started=yes; fi
"$ROOT/scripts/services.sh" start >/dev/null
trap '[ -z "$started" ] || "$ROOT/scripts/services.sh" stop' EXIT INT TERM
builds=0
/usr/bin/python3 "$ROOT/scripts/bench.py" "$@" || builds=1
oci=0
/usr/bin/python3 "$ROOT/scripts/bench_oci.py" "$@" || oci=1
dockerfile=0
/usr/bin/python3 "$ROOT/scripts/bench_dockerfile.py" "$@" || dockerfile=1
ssh=0
/usr/bin/python3 "$ROOT/scripts/bench_ssh.py" "$@" || ssh=1
for assignment in $("$ROOT/scripts/aws-harness.sh" start); do export "${assignment?}"; done
aws=0
/usr/bin/python3 "$ROOT/scripts/bench_aws.py" "$@" || aws=1
ansible=0
/usr/bin/python3 "$ROOT/scripts/bench_ansible.py" "$@" || ansible=1
exit $((language | builds | oci | dockerfile | ssh | aws | ansible))
