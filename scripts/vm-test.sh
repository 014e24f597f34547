#!/bin/sh
# The AMI builder with a kernel and an init behind its instances: an AMI is baked, rebooted while it is, and started again.
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

# A harness of its own, beside the one that the other tests use.
export KILN_TEST_STATE="$STATE/vm"
trap '"$ROOT/scripts/aws-harness.sh" stop' EXIT INT TERM
for assignment in $("$ROOT/scripts/aws-harness.sh" start vm); do export "${assignment?}"; done
export KILN_TEST_REQUIRE=1
cargo test --package kiln --locked --test integration -- --test-threads=1 \
    amazon::an_instance_of_the_ami_has_what_was_provisioned amazon_faults::a_reboot_in_a_step_is_waited_for
