#!/bin/sh
# What every image of a worker must have, whichever builder made it.
set -eu

[ "$(id -u rugged):$(id -g rugged)" = 440:440 ]
[ "$(stat -c %a:%u /opt/rugged/signing_keys)" = 700:440 ]
[ "$(stat -c %a:%u:%g /opt/rugged/config.yaml)" = 640:0:440 ]
for queue in targets snapshot timestamp; do
    grep -q "^command=.*--queues $queue " "/etc/supervisor/conf.d/$queue-worker.conf"
done
cd /opt/rugged/lib
[ "$(PYTHONDONTWRITEBYTECODE=1 python3 -c 'from rugged import worker; print(worker.app.tasks["rugged.worker.ping"]())')" != "" ]
command -v supervisord >/dev/null
