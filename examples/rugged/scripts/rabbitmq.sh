#!/bin/sh
# Installs RabbitMQ, and makes the user that the workers log in as. RABBITMQ_PASSWORD comes from the template.
set -eu

: "${RABBITMQ_PASSWORD:?the password of the workers}"
apt-get install --yes --no-install-recommends rabbitmq-server
install --owner=root --group=rabbitmq --mode=0640 /opt/rabbitmq/rabbitmq.conf /etc/rabbitmq/rabbitmq.conf
# Names the node after localhost: what is set up here must be found in a container with any host name.
install --owner=root --group=rabbitmq --mode=0644 /opt/rabbitmq/rabbitmq-env.conf /etc/rabbitmq/rabbitmq-env.conf
rabbitmq-plugins enable --offline rabbitmq_management

# A child of this script, so that its end can be awaited: nothing else reaps processes in a build container.
rabbitmq-server > /tmp/rabbitmq-server.log 2>&1 &
server=$!
rabbitmqctl wait --timeout 120 /var/lib/rabbitmq/mnesia/rabbit@localhost.pid
printf '%s\n' "$RABBITMQ_PASSWORD" | rabbitmqctl add_user rugged
rabbitmqctl set_permissions rugged '.*' '.*' '.*'
rabbitmqctl set_user_tags rugged monitoring
rabbitmqctl delete_user guest
# The node must be down before the container becomes an image, or its database is caught half written.
rabbitmqctl stop
wait "$server"
