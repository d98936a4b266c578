#!/bin/sh
# Make the secrets of compose.yaml in ./secrets (or in the directory given), each of them once: what is there stays.
#
# Containers read them under accounts of their own, and compose hands a file on with its mode. So the files are readable
# and the directory is closed: on this host nobody but its owner gets to them.
set -eu
umask 077

folder=${1:-secrets}
mkdir -p "$folder"
chmod 700 "$folder"

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

keep() {
    if [ -s "$folder/$1" ]; then return; fi
    printf '%s\n' "$2" > "$folder/$1.new"
    chmod 444 "$folder/$1.new"
    mv "$folder/$1.new" "$folder/$1"
    echo "made $folder/$1"
}

keep postgres_password "$(random)"
keep database_url "postgresql://agentflow:$(cat "$folder/postgres_password")@postgres:5432/agentflow"
keep valkey_conf "requirepass $(random)"
keep redis_url "redis://:$(sed -n 's/^requirepass //p' "$folder/valkey_conf")@valkey:6379/0"
keep audit_key "$(random)"
keep checkpoint_key "$(random)"
keep flower_basic_auth "admin:$(random)"
