#!/bin/sh
# usage: scripts/fuzz.sh [--pack] SECONDS [TARGET…]
#
# Fuzzes each decoder for SECONDS, two side by side, starting from its corpus. Fails when an input harms a
# decoder and says where that input lies. With --pack, the inputs that reached something new and the corpus
# are minimised together and packed into fuzz/corpus/TARGET.tar. Everything else lies below
# target/fuzz.
#
# The instrumentation is that of cargo-fuzz, which is not needed: the fuzzer itself is a dependency.
set -eu

cd "$(dirname "$0")/.."
PATH="$HOME/.cargo/bin:$PATH"
corpus=fuzz/corpus
work=${CARGO_TARGET_DIR:-target}/fuzz

fail() { printf 'fuzz: error: %s\n' "$*" >&2; exit 1; }

# --- one target, as the runs side by side start it ---------------------------------------------

unpack() {
    [ -s "$corpus/$1.tar" ] || fail "$corpus/$1.tar is missing: pack one with scripts/fuzz.sh --pack 60 $1"
    rm -rf "$work/corpus/$1"
    mkdir -p "$work/corpus/$1" "$work/found/$1" "$work/artifacts/$1"
    tar -xf "$corpus/$1.tar" -C "$work/corpus/$1"
}

# The same inputs give the same archive, on every machine. Not compressed: git does that, and finds what
# two versions have in common.
pack() {
    tar --create --file "$corpus/$1.tar" --directory "$2" --sort=name --format=ustar \
        --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=0644 $(ls "$2")
}

fuzz_one() {
    target=$1
    program=$(programs)/$target
    log=$work/$target.log
    unpack "$target"
    if ! "$program" "$work/found/$target" "$work/corpus/$target" -max_total_time="$SECONDS_EACH" \
        -max_len=16384 -timeout=20 -artifact_prefix="$work/artifacts/$target/" >"$log" 2>&1
    then
        tail -n 40 "$log" >&2
        fail "an input harmed the decoder of $target: it lies in $work/artifacts/$target; the whole output is in $log"
    fi
    runs=$(sed -n 's/^Done \([0-9]*\) runs in \([0-9]*\) second.*/\1 inputs in \2 s/p' "$log")
    [ -n "$runs" ] || { tail -n 40 "$log" >&2; fail "$target ended without a result: see $log"; }
    printf 'fuzz: %s: %s\n' "$target" "$runs"
    if [ "$PACK" = yes ]; then
        rm -rf "$work/minimised/$target"
        mkdir -p "$work/minimised/$target"
        "$program" -set_cover_merge=1 -max_len=4096 \
            "$work/minimised/$target" "$work/corpus/$target" "$work/found/$target" >>"$log" 2>&1 \
            || fail "$target: the corpus could not be minimised: see $log"
        pack "$target" "$work/minimised/$target"
        rm -rf "$work/found/$target"
        printf 'fuzz: %s: packed %s inputs\n' "$target" "$(ls "$work/minimised/$target" | wc -l)"
    fi
}

host() { rustc -vV | sed -n 's/^host: //p'; }
programs() { printf '%s/%s/release' "$work" "$(host)"; }

if [ "${1:-}" = --one ]; then
    fuzz_one "$2"
    exit
fi

# --- all of them ---------------------------------------------------------------------------------

PACK=no
if [ "${1:-}" = --pack ]; then
    PACK=yes
    shift
fi
SECONDS_EACH=${1:-600}
[ $# -eq 0 ] || shift
export PACK SECONDS_EACH
[ $# -gt 0 ] || set -- $(ls fuzz/fuzz_targets | sed 's/\.rs$//')

# The sanitizers are unstable options, which the stable compiler has as well. Only programs for the named
# target are instrumented: build scripts and macros are not.
RUSTC_BOOTSTRAP=1 RUSTFLAGS="--cfg fuzzing -Zsanitizer=address -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cdebug-assertions -Ccodegen-units=1" \
    cargo build --manifest-path fuzz/Cargo.toml --release --locked --bins \
    --target "$(host)" --target-dir "$work"
printf '%s\n' "$@" | xargs -n 1 -P 2 scripts/fuzz.sh --one
