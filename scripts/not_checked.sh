#!/bin/sh
# usage: scripts/not_checked.sh WHAT: says what a check left out and why, for those who read the log and for
# the end of it. --begin forgets what earlier checks left out; --list prints what these did.
set -eu

cd "$(dirname "$0")/.."
list=${CARGO_TARGET_DIR:-target}/not-checked.txt

case $1 in
    --list) [ ! -s "$list" ] || { echo "NOT CHECKED:"; sed 's/^/  /' "$list"; } >&2 ;;
    --begin) rm -f "$list" ;;
    *)
        printf 'NOT CHECKED: %s\n' "$1" >&2
        mkdir -p "$(dirname "$list")"
        printf '%s\n' "$1" >>"$list" ;;
esac
