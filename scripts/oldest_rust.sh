#!/bin/sh
# Checks that flotilla compiles with the oldest Rust that Cargo.toml promises, if that is installed.
set -eu

cd "$(dirname "$0")/.."
PATH="$HOME/.cargo/bin:$PATH"
oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

toolchain=$(rustup toolchain list 2>/dev/null | grep -Eo "^$oldest(\.[0-9]+)?(-[^ ]*)?" | head -n 1) || true
if [ -z "$toolchain" ]; then
    scripts/not_checked.sh "a build with Rust $oldest, the oldest supported: rustup toolchain install $oldest"
    exit 0
fi
# Artifacts of two compilers in one directory would make each build the other's again.
cargo "+$toolchain" check --locked --package flotilla --target-dir "${CARGO_TARGET_DIR:-target}/oldest"
