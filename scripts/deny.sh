#!/bin/sh
# Checks the dependencies as deny.toml says: licences, duplicates, banned crates and sources always, with no
# network; advisories with the newest database that can be had. Says so where there is none, or an old one.
set -eu

cd "$(dirname "$0")/.."
PATH="$HOME/.cargo/bin:$PATH"
# Older than this, a database is used and reported.
STALE_DAYS=14

cargo deny --offline --log-level error check --hide-inclusion-graph bans licenses sources

databases=${CARGO_HOME:-$HOME/.cargo}/advisory-dbs
fetched=$(GIT_TERMINAL_PROMPT=0 timeout 60 cargo deny --log-level error fetch db 2>&1) && why="" \
    || why=$(printf '%s\n' "$fetched" | grep -m1 '^fatal:' || echo "it could not be fetched within 60 s")
# Only a whole clone has a commit to be dated by.
newest=$(for database in "$databases"/*; do
    git -C "$database" log -1 --format=%ct 2>/dev/null || true
done | sort -n | tail -n 1)
if [ -z "$newest" ]; then
    scripts/not_checked.sh "security advisories: no database in $databases (${why:-none was fetched})"
    exit 0
fi
days=$((($(date +%s) - newest) / 86400))
cargo deny --offline --log-level error check --hide-inclusion-graph advisories
[ "$days" -le "$STALE_DAYS" ] \
    || scripts/not_checked.sh "security advisories of the last $days days: the database is that old (${why:-no newer one})"
