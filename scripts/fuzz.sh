#!/bin/sh
# usage: scripts/fuzz.sh SECONDS [TARGET…]: fuzzes each decoder for so long, adds the inputs that reach
# something new to torrents/fuzz/corpus, and ends at the first input that harms one (kept below
# torrents/fuzz/artifacts). Needs cargo-fuzz: `cargo install cargo-fuzz --locked`.
set -eu

cd "$(dirname "$0")/../torrents/fuzz"
seconds=${1:-600}
[ $# -eq 0 ] || shift
command -v cargo-fuzz >/dev/null || { echo "fuzz: needs cargo-fuzz: cargo install cargo-fuzz --locked" >&2; exit 1; }
# The sanitizers are unstable options, which the stable compiler has as well.
export RUSTC_BOOTSTRAP=1
[ $# -gt 0 ] || set -- $(cargo fuzz list)
found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT
trap 'exit 130' INT TERM
cargo fuzz build
for target; do
    mkdir -p "$found/$target" "corpus/$target"
    cargo fuzz run "$target" "$found/$target" "corpus/$target" -- \
        -max_total_time="$seconds" -max_len=16384 -timeout=20
    cargo fuzz run "$target" "corpus/$target" "$found/$target" -- -set_cover_merge=1 -max_len=4096
done
