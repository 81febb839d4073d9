#!/bin/sh
# usage: scripts/test_one.sh NAME: runs the tests whose names contain NAME, and builds only the crates that
# have one. NAME may have its modules before it, `membership::tests::a_peer_…`. Tests end to end run as root.
set -eu

cd "$(dirname "$0")/.."
PATH="$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin"
export PATH

fail() { printf 'test-one: %s\n' "$*" >&2; exit 1; }

[ $# -eq 1 ] && [ -n "$1" ] || fail "name a test: make test-one T=a_corrupt_peer"
name=$1

# Files with a function of that name behind a #[test] or #[tokio::test].
files_with_it() {
    git ls-files --cached --others --exclude-standard '*.rs' | xargs awk -v name="${name##*::}" '
        FNR == 1 { is_test = 0 }
        /#\[(tokio::)?test/ { is_test = 1 }
        /^ *(async +)?fn / {
            if (is_test) {
                sub(/^ *(async +)?fn +/, ""); sub(/[^A-Za-z0-9_].*/, "")
                if (index($0, name)) print FILENAME
            }
            is_test = 0
        }' | sort -u
}

# What cargo calls the binary that a file is part of: "PACKAGE FLAGS".
binary_of() {
    crate=${1%%/*}
    inner=${1#*/}
    package=$(sed -n 's/^name = "\(.*\)"/\1/p' "$crate/Cargo.toml" | head -n 1)
    case $inner in
        # A program may be named otherwise than its file.
        src/bin/*) echo "$package --bins" ;;
        src/*) if [ -f "$crate/src/lib.rs" ]; then echo "$package --lib"; else echo "$package --bins"; fi ;;
        tests/*)
            test=${inner#tests/}
            test=${test%%/*}
            # A module that several tests have.
            if [ "$test" = "${test%.rs}" ] && [ ! -f "$crate/tests/$test/main.rs" ]; then
                echo "$package --tests"
            else
                echo "$package --test ${test%.rs}"
            fi ;;
        *) echo "$package --tests" ;;
    esac
}

end_to_end() {
    make --no-print-directory build
    set -- "$name"
    [ "$(id -u)" -eq 0 ] \
        || set -- --config "target.'cfg(unix)'.runner=['sudo', '--preserve-env', 'env', 'PATH=$PATH']" "$name"
    cargo test --package flotilla-tests --test end_to_end --release --locked \
        --target "$(scripts/target.sh)" "$@" -- --test-threads=1 </dev/null
}

files=$(files_with_it)
[ -n "$files" ] || fail "no test has '$name' in its name"
for file in $files; do binary_of "$file"; done | sort -u | while read -r package flags; do
    printf 'test-one: %s %s\n' "$package" "$flags" >&2
    if [ "$flags" = "--test end_to_end" ]; then
        end_to_end
    else
        # shellcheck disable=SC2086
        cargo test --locked --package "$package" $flags "$name" </dev/null
    fi
done
