#!/bin/sh
# Makes a cluster where there is none, and runs it. For tests: nobody is asked for a password, and nothing is made durable.
set -eu

PATH=$PATH:$(echo /usr/lib/postgresql/*/bin)
data=/var/lib/pycroft/data
if ! [ -d "$data" ]; then
    install -d -o postgres -m 700 "$data"
    su postgres -c "PATH=$PATH initdb --auth=trust --no-sync --pgdata=$data >/dev/null"
    echo 'host all all all trust' >>"$data/pg_hba.conf"
fi
exec su postgres -c "PATH=$PATH exec postgres -D $data -c listen_addresses='*' -c fsync=off -c unix_socket_directories=/tmp"
