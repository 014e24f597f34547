#!/bin/sh
# Encrypts the dump on standard input for whoever has the key to $PUBKEY, and writes it to $DUMP_FILE_NAME.
set -eu
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
printf '%s\n' "$PUBKEY" >"$home/key.asc"
gpg --homedir "$home" --batch --quiet --recipient-file "$home/key.asc" --trust-model always \
    --output "$DUMP_FILE_NAME" --encrypt
