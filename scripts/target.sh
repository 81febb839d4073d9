#!/bin/sh
# Prints the target that release binaries are built for: musl, with which they are static and run on every
# Linux, where `make setup` could install it; else that of this machine's C library.
set -eu

PATH="$HOME/.cargo/bin:$PATH"
static="$(uname -m)-unknown-linux-musl"
if [ -d "$(rustc --print target-libdir --target "$static" 2>/dev/null)" ] && command -v musl-gcc >/dev/null; then
    echo "$static"
else
    rustc -vV | sed -n 's/^host: //p'
fi
