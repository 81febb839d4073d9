# `make help` lists what there is.

SHELL := /bin/sh
# Where rustup puts cargo, and where iproute2 and nginx live for those who are not root.
export PATH := $(HOME)/.cargo/bin:$(PATH):/usr/sbin:/sbin

# Known only after `setup`, so of the recipes' shell.
TARGET = $$(scripts/target.sh)
RELEASE = $(or $(CARGO_TARGET_DIR),target)/$(TARGET)/release

# Namespaces need root; everything else does not.
ROOT := $(if $(filter 0,$(shell id -u)),,sudo --preserve-env env PATH="$(PATH)")
# Not `$(if …)`: it would split the list at its commas.
ifneq ($(ROOT),)
AS_ROOT := --config 'target."cfg(unix)".runner=["sudo","--preserve-env","env","PATH=$(PATH)"]'
endif

.PHONY: help setup setup-check build demo demo-stop bench fuzz lint doc check test-one test

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## install missing packages and, if needed, a Rust toolchain
	@scripts/setup.sh

setup-check:
	@scripts/setup.sh --check

build: setup ## build the static flotilla binary, the demo and the benchmarks
	cargo build --release --locked --target $(TARGET) --package flotilla --package flotilla-testbed
	@echo "built: $(RELEASE)/flotilla"

demo: build ## five nodes pull an image: from the registry, then through the swarm (KEEP=1 leaves it running)
	$(ROOT) $(RELEASE)/flotilla-demo $(if $(KEEP),--keep)

demo-stop: ## end what `make demo KEEP=1` left running
	$(ROOT) $(RELEASE)/flotilla-demo --stop

bench: build ## the figures of docs/benchmarks.md: 20 nodes, one node, pushes, 1,000 small images, open pages (half an hour)
	$(ROOT) $(RELEASE)/flotilla-bench get
	$(ROOT) $(RELEASE)/flotilla-bench single
	$(ROOT) $(RELEASE)/flotilla-bench push
	$(ROOT) $(RELEASE)/flotilla-bench small
	$(ROOT) $(RELEASE)/flotilla-bench page

fuzz: setup ## ten minutes of each decoder of bytes from elsewhere (SECONDS=N for other times)
	scripts/fuzz.sh --pack $(or $(SECONDS),600)

lint: setup ## format and lints only
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

doc: setup ## the documentation of the code, below target/doc: no link may be broken
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked

check: setup-check lint ## format, lints, house rules, dependencies, documentation, unit and property tests, fuzzing
	@scripts/not_checked.sh --begin
	scripts/deny.sh
	cargo test --workspace --exclude flotilla-tests --locked
	cargo test --workspace --test tidy --locked
	$(MAKE) --no-print-directory doc
	scripts/oldest_rust.sh
	scripts/fuzz.sh 10
	@scripts/not_checked.sh --list

test-one: setup ## the tests whose names contain T, of whichever crate: make test-one T=a_corrupt_peer
	@scripts/test_one.sh "$(T)"

# With QUICK, the programs that the other tests of flotilla have been run with. Of the whole workspace each
# time: for fewer crates cargo compiles their dependencies with fewer features, once more.
ifdef QUICK
test: check
	cargo test --workspace --test end_to_end --locked $(AS_ROOT) -- --test-threads=1
else
test: check build ## every check, then end to end with the real programs (QUICK=1: not with those of a release)
	cargo test --package flotilla-tests --test end_to_end --release --locked --target $(TARGET) $(AS_ROOT) -- --test-threads=1
endif
