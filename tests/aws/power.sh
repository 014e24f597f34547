#!/bin/sh
# `reboot`, `poweroff`, `halt` and `shutdown` of a machine without an init: notes what is wanted and ends process 1.
what=poweroff wait=0
[ "${0##*/}" != reboot ] || what=reboot
for word in "$@"; do
    case $word in
    -r | --reboot) what=reboot ;;
    -c) exit 0 ;;
    now) wait=0 ;;
    +*) wait=$((${word#+} * $(cat /run/seed/minute))) ;;
    esac
done
finish() {
    sleep "$wait"
    echo "$what" >/run/seed/power
    kill -TERM 1
    # Where sshd was not started, process 1 has no ear for that.
    sleep 1
    kill -KILL -1
}
if [ "$wait" = 0 ]; then finish; else finish >/dev/null 2>&1 </dev/null & fi
