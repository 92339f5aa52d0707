# The one entry for people and for CI. `make` alone lists the targets.
# Every target starts from a fresh clone: what it needs is built first, and what is up to date is left alone.

VENV := .venv
BIN := $(VENV)/bin
ENGINE := proxy/engine
MANIFEST := $(ENGINE)/Cargo.toml
FUZZ_MANIFEST := $(ENGINE)/fuzz/Cargo.toml
TRAFFIC_MANIFEST := bench/traffic/Cargo.toml
FUZZ_SECONDS ?= 5
RUST_SOURCES := $(shell find $(ENGINE) -name '*.rs' -not -path '*/target/*' -not -path '*/fuzz/*' 2>/dev/null) $(MANIFEST) $(ENGINE)/Cargo.lock
PYTHON_SOURCES := schemas reconciler routing proxy tests $(wildcard bench)
DEMO ?= demo
LOCKING := --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-trusted-host \
  --no-emit-find-links

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
# Some machines have it set; then each start of a program of ours would compile all of it again.
unexport PYTHONDONTWRITEBYTECODE

# ANSI bold on a terminal only, so that the log of a CI run stays plain text.
say = @if [ -t 1 ] && [ -z "$${NO_COLOR:-}" ]; then printf '\033[1m==> %s\033[0m\n' "$(1)"; else printf '==> %s\n' "$(1)"; fi

ifeq ($(filter 4.% 5.%,$(MAKE_VERSION)),)
$(error This Makefile needs GNU Make 4 or newer, and this is $(MAKE_VERSION))
endif

# The crate for fuzzing shares the directory, and so what it has in common with the engine is built once.
FUZZ := --manifest-path $(FUZZ_MANIFEST) --target-dir $(ENGINE)/target --locked --quiet

# `.ci/run` names a compiler that complains as clippy does, for crates of ours: what their tests are built from is then
# not checked once and compiled once.
LINTED := $(if $(LINTER),RUSTC_WORKSPACE_WRAPPER=$(LINTER))

.PHONY: help build run test test-full test-rust test-engine bench-programs bench-instructions test-fuzz test-python test-tools \
  compiled-tests lint lint-python lint-sources test-traffic lint-rust fmt bench clean lock

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12

build: $(VENV)/.engine-built ## .venv with a release engine and .venv/bin/kakehi

run: build ## the demo: three backends, the proxy on 127.0.0.1:8080, and a tour (Ctrl-C ends it)
	@exec $(BIN)/kakehi demo $(DEMO)

test: ## all tests: Rust units, then Python and end to end
	@$(MAKE) test-rust
	@$(MAKE) test-python

test-full: ## the same, with all that takes long: a thousand rotations, longer fuzzing
	@KAKEHI_TEST_LONG=1 FUZZ_SECONDS=60 $(MAKE) test

test-rust: bench-programs bench-instructions test-engine test-traffic test-fuzz ## the tests of the engine, and a short fuzzing

test-engine:
	$(call say,Rust tests)
	$(LINTED) cargo test --manifest-path $(MANIFEST) --locked --quiet

# What a generator of load measures is about time: not beside other work.
test-traffic:
	$(call say,Tests of the generator of load)
	cargo test --manifest-path $(TRAFFIC_MANIFEST) --locked --quiet

# Each is linked as one piece, on one core: a build to begin with, where others may run beside it. The tests are run
# when nobody waits for a compiler.
bench-programs:
	$(call say,Building what the tests of the benchmarks run)
	cargo build --release --manifest-path $(TRAFFIC_MANIFEST) --locked --quiet
	cargo test --manifest-path $(TRAFFIC_MANIFEST) --locked --quiet --no-run

# In the directory of the engine's own build, of which cargo has one at a time.
bench-instructions:
	$(call say,Building what counts instructions)
	cargo build --release --manifest-path $(MANIFEST) --locked --quiet --bin instructions

test-fuzz:
	$(call say,Fuzzing for $(FUZZ_SECONDS) s a target)
	$(if $(LINTER),$(LINTED) cargo test $(FUZZ) --no-run)
	cargo run $(FUZZ) --bin fuzz_run -- all $(FUZZ_SECONDS)

test-python: build test-tools ## the tests of the control plane, and of the whole product
	$(call say,Python and end-to-end tests)
	@status=0; for part in parallel timed serial; do tests/run $$part $(PYTEST_ARGS) || status=$$?; done; exit $$status

lint: lint-rust lint-python ## every check that reads the code without running the product

lint-python: lint-sources build
	$(call say,Python: what is said of the engine)
	$(BIN)/python -m mypy.stubtest proxy._engine

lint-sources: $(VENV)/.locked
	$(call say,Python: style and types and import rules)
	$(BIN)/ruff check $(PYTHON_SOURCES)
	$(BIN)/ruff format --check $(PYTHON_SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports

lint-rust:
	$(call say,Rust: rustfmt and clippy)
	cargo fmt --manifest-path $(MANIFEST) --check
	cargo fmt --manifest-path $(FUZZ_MANIFEST) --check
	cargo fmt --manifest-path $(TRAFFIC_MANIFEST) --check
	$(if $(LINTER),,cargo clippy --manifest-path $(MANIFEST) --locked --all-targets --quiet -- -D warnings)
	$(if $(LINTER),,cargo clippy $(FUZZ) --all-targets -- -D warnings)
	cargo clippy --manifest-path $(TRAFFIC_MANIFEST) --locked --all-targets --quiet -- -D warnings

fmt: $(VENV)/.locked ## format Python and Rust in place
	$(BIN)/ruff check --fix --quiet $(PYTHON_SOURCES) || true
	$(BIN)/ruff format $(PYTHON_SOURCES)
	cargo fmt --manifest-path $(MANIFEST)
	cargo fmt --manifest-path $(FUZZ_MANIFEST)
	cargo fmt --manifest-path $(TRAFFIC_MANIFEST)

bench: build test-tools ## side by side with nginx and HAProxy, and what a change costs
	$(BIN)/python -m bench

clean: ## remove what was built (the demo and its repository too)
	rm -rf $(VENV) demo build dist proxy/*.so $(ENGINE)/target bench/traffic/target .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

lock: $(VENV)/.locked ## resolve the locked Python packages anew
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip-tools>=7.4'
	$(BIN)/pip-compile $(LOCKING) --extra dev --extra bench --output-file requirements-dev.txt pyproject.toml
	$(BIN)/pip-compile $(LOCKING) --output-file tests/suites.txt tests/suites.in

test-tools: $(VENV)/.locked
	@tests/install-tools

# Each process that runs tests would compile all of them, and what they import, at the same time as the others. A test
# that needs the engine is compiled too, before it finds that there is none yet.
compiled-tests: $(VENV)/.locked
	$(call say,Python: compiling the tests)
	@$(BIN)/python -m pytest --collect-only --quiet >/dev/null 2>&1 || true

# The environment holds exactly what the lock says. Rebuilt in place when the lock changes. A module is compiled by who
# imports it first: most never are, and it is half of what pip does.
$(VENV)/.locked: requirements-dev.txt
	@command -v git >/dev/null || { echo "kakehi: git is missing; install it, for instance with: apt-get install git" >&2; exit 1; }
	@if ! [ -x $(BIN)/python ]; then \
	  python=$$(for name in python3 python3.13 python3.12 python3.11; do \
	    "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && break; done || true); \
	  [ -n "$$python" ] || { echo "kakehi: Python 3.11 or newer is needed, and python3 is $$(python3 -V 2>/dev/null || echo missing)" >&2; exit 1; }; \
	  "$$python" -m venv $(VENV) >/dev/null 2>&1 || { echo "kakehi: $$python cannot make a virtual environment; install its venv module, for instance with: apt-get install python3-venv" >&2; exit 1; }; \
	fi
	$(call say,Installing the locked Python packages into $(VENV))
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements-dev.txt
	@touch $@

# `maturin develop` puts the engine beside the Python files, so an edit of Python needs no build at all.
$(VENV)/.engine-built: $(VENV)/.locked pyproject.toml $(RUST_SOURCES)
	@command -v cargo >/dev/null || { echo "kakehi: cargo is missing; install Rust 1.85 or newer from rustup.rs" >&2; exit 1; }
	@version=$$(cargo --version | cut -d' ' -f2); \
	  printf '%s\n' 1.85.0 "$$version" | sort -V -C || { echo "kakehi: Rust 1.85 or newer is needed, and cargo is $$version" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "kakehi: cc is missing, with which Rust links; install it, for instance with: apt-get install gcc libc6-dev" >&2; exit 1; }
	$(call say,Building the engine (release; the first time takes a few minutes))
	env -u CONDA_PREFIX PIP_QUIET=1 VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --release --locked
	@touch $@
