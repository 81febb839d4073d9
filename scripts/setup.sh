#!/bin/sh
# Installs what `make demo` and `make test` need on Debian 12+ or Ubuntu 22.04+: system packages and,
# when there is none or it is too old, a Rust toolchain; with --check also what only `make check` needs.
# Quick and silent when all is there.
set -eu

for_checks=no
[ "${1:-}" != --check ] || for_checks=yes

cd "$(dirname "$0")/.."
PATH="$HOME/.cargo/bin:$PATH:/usr/sbin:/sbin"
export PATH

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "error: $*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif has sudo; then
        sudo "$@"
    else
        fail "needs root to run '$*': run as root, or install sudo"
    fi
}

# --- system packages ---------------------------------------------------------------------------

# program:package
NEEDED="dockerd:docker.io docker:docker-cli docker-registry:docker-registry skopeo:skopeo
podman:podman buildah:buildah htpasswd:apache2-utils nginx:nginx aria2c:aria2 ip:iproute2 tc:iproute2 ss:iproute2
transmission-cli:transmission-cli nsenter:util-linux setpriv:util-linux umount:mount cc:gcc c++:g++ musl-gcc:musl-tools curl:curl git:git
zstd:zstd qbittorrent-nox:qbittorrent-nox promtool:prometheus tmux:tmux"
# Services that these packages would start; the testbed runs its own copies.
SERVICES="docker.service docker.socket containerd.service docker-registry.service nginx.service
prometheus.service"

# `apt-cache show` also succeeds for names that other packages only mention.
can_install() { apt-cache policy "$1" 2>/dev/null | grep -q 'Candidate: [^(]'; }

missing_packages() {
    {
        for entry in $NEEDED; do
            has "${entry%%:*}" || printf '%s\n' "${entry#*:}"
        done
        # A module of Debian's own interpreter; another python3 may come first on PATH.
        /usr/bin/python3 -c 'import libtorrent' 2>/dev/null || echo python3-libtorrent
        # What drives the browser of the page's tests. Not by NEEDED: a Node.js from elsewhere
        # has npm with it.
        has npm || printf 'nodejs\nnpm\n'
        # The browser. Ubuntu has it as a snap only, which does not run everywhere: there these tests say
        # what they miss.
        # shellcheck disable=SC1091
        [ "$(. /etc/os-release && echo "$ID")" = ubuntu ] || [ -n "${FLOTILLA_CHROMIUM:-}" ] \
            || has chromium || echo chromium
    } | sort -u
}

install_packages() {
    has apt-get || fail "missing: $(echo "$1" | tr '\n' ' ')(installed here only on Debian and Ubuntu)"
    as_root apt-get -qq update || fail "apt-get update failed: check the network and /etc/apt"
    packages=""
    for package in $1; do
        # Before Debian 13 the docker command is part of docker.io.
        if [ "$package" = docker-cli ] && ! can_install docker-cli; then
            package=docker.io
        fi
        # A compiler without the C library's headers cannot link.
        [ "$package" != gcc ] || package="gcc libc6-dev"
        packages="$packages $package"
    done
    say "installing:$packages"
    # Packages must not start their services: policy-rc.d answers 101, "forbidden".
    policy=/usr/sbin/policy-rc.d
    placed=no
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
        placed=yes
        # shellcheck disable=SC2064
        trap "as_root rm -f '$policy'" EXIT INT TERM
    fi
    enabled_before=$(enabled_services)
    # shellcheck disable=SC2086
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
        ca-certificates $packages >/dev/null || fail "apt-get could not install:$packages"
    for service in $(enabled_services); do
        case " $enabled_before " in
            *" $service "*) ;;
            *) as_root systemctl --quiet disable "$service" 2>/dev/null || true ;;
        esac
    done
    if [ "$placed" = yes ]; then
        as_root rm -f "$policy"
        trap - EXIT INT TERM
    fi
}

enabled_services() {
    [ -d /run/systemd/system ] || return 0
    for service in $SERVICES; do
        if systemctl --quiet is-enabled "$service" 2>/dev/null; then printf '%s ' "$service"; fi
    done
}

# --- Rust --------------------------------------------------------------------------------------

REQUIRED_RUST=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

rust_is_new_enough() {
    has cargo || return 1
    version=$(cargo --version 2>/dev/null | cut -d' ' -f2) || return 1
    [ -n "$version" ] || return 1
    oldest=$(printf '%s\n%s\n' "$REQUIRED_RUST" "$version" | sort -V | head -n1)
    [ "$oldest" = "$REQUIRED_RUST" ]
}

# The official installer for this machine: what the script at sh.rustup.rs would fetch.
download_rustup() {
    url="https://static.rust-lang.org/rustup/dist/$(uname -m)-unknown-linux-gnu/rustup-init"
    # The name decides what the program does.
    directory=$(mktemp -d)
    installer="$directory/rustup-init"
    if curl --proto '=https' --tlsv1.2 --silent --show-error --fail --output "$installer" "$url" \
        && chmod 700 "$installer" \
        && "$installer" -y --quiet --profile minimal --default-toolchain none --no-modify-path
    then
        rm -rf "$directory"
    else
        rm -rf "$directory"
        fail "cannot install rustup from $url: check the network, or install Rust $REQUIRED_RUST by hand"
    fi
}

install_rust() {
    say "installing a Rust toolchain ($REQUIRED_RUST or newer)"
    if ! has rustup; then
        if can_install rustup; then
            install_packages rustup
        else
            download_rustup
        fi
    fi
    rustup toolchain install stable --profile minimal --component rustfmt --component clippy \
        || fail "rustup could not install a toolchain"
    # For this directory only: the user's default stays as it is.
    rust_is_new_enough || rustup override set stable
    rust_is_new_enough || fail "cargo is older than $REQUIRED_RUST and rustup could not replace it"
}

missing=$(missing_packages)
[ -z "$missing" ] || install_packages "$missing"
still_missing=$(missing_packages)
[ -z "$still_missing" ] || fail "still missing after installation: $(echo "$still_missing" | tr '\n' ' ')"

# For static binaries; without it they are built for this machine's C library, see scripts/target.sh.
install_static_target() {
    target="$(uname -m)-unknown-linux-musl"
    [ -d "$(rustc --print target-libdir --target "$target" 2>/dev/null)" ] && return
    say "installing Rust's standard library for $target"
    { has rustup && rustup target add "$target"; } \
        || say "warning: not installed; the binaries will need this machine's C library"
}

# Libraries of the page's tests, as their lock file names them.
install_browser_libraries() {
    lock="flotilla/tests/browser/package-lock.json"
    installed="flotilla/tests/browser/node_modules/.installed"
    if ! cmp -s "$lock" "$installed"; then
        say "installing the libraries of the page's tests"
        (cd flotilla/tests/browser && npm ci --ignore-scripts --silent) \
            || fail "npm could not install the libraries that $lock names: check the network"
        cp "$lock" "$installed"
    fi
}

rust_is_new_enough || install_rust
install_static_target
install_browser_libraries
for component in fmt clippy; do
    if ! cargo "$component" --version >/dev/null 2>&1; then
        case $component in fmt) name=rustfmt ;; *) name=clippy ;; esac
        rustup component add "$name" || fail "cargo $component is missing: install the component $name"
    fi
done

# Unoptimised, it is built in a third of the CPU time, and checks this tree in a second all the same.
install_cargo_deny() {
    has cargo-deny && return
    say "installing cargo-deny"
    CARGO_PROFILE_DEV_DEBUG=0 cargo install cargo-deny --version 0.20.2 --locked --profile dev --quiet \
        || fail "cargo could not install cargo-deny: check the network"
}

[ "$for_checks" = no ] || install_cargo_deny
