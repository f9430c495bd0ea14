# Every way into this repository. `make` alone lists the targets: the text after `##` is the help.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Arguments for the program behind a target: make demo ARGS="--port 7000 --workers 2"
ARGS ?=
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
SLOTGATE := $(TARGET_DIR)/release/slotgate

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo '  ARGS="..." is handed to the program: make demo ARGS="--port 7000"'

.PHONY: demo
demo: ## Start six Redis nodes and serve them as one on 127.0.0.1:6380 (Ctrl-C ends it)
	@.ci/setup rust cc redis
	cargo build --release --bin slotgate
	@exec $(SLOTGATE) demo $(ARGS)

.PHONY: test
test: ## Run the unit, property and integration tests, against real servers
	@.ci/setup rust cc redis
	cargo test $(ARGS)

.PHONY: test-valkey
test-valkey: ## Run the integration tests against Valkey instead of Redis
	@.ci/setup rust cc redis valkey
	SLOTGATE_TEST_SERVER=valkey-server cargo test --test integration $(ARGS)

.PHONY: conformance
conformance: ## Run Redis' own tests through the gateway, and compare with one Redis (ARGS="--unit multi scripting")
	@.ci/setup rust cc redis python tcl
	cargo build --release --bin slotgate
	@tests/conformance/run $(SLOTGATE) $(ARGS)

.PHONY: compare
compare: ## Measure slotgate side by side with HAProxy and Envoy
	@.ci/setup rust cc redis haproxy python
	@benches/compare/install-envoy
	cargo bench --bench compare -- $(ARGS)

.PHONY: torture
torture: ## Fail nodes over, restart and kill them under load; count what clients notice, account for every write
	@.ci/setup rust cc redis
	cargo bench --bench lifecycle -- $(ARGS)

.PHONY: test-k8s
test-k8s: ## Install deploy/ on the Kubernetes of KUBECONFIG, break it under load, print a table (ARGS=--list, ARGS="pods drain")
	@.ci/setup rust cc
	cargo test --test k8s -- $(ARGS)

# What the image is called; deploy/ names slotgate:dev.
IMAGE ?= slotgate:dev
# Static, and with the C library's own allocator: the one of musl makes every request dearer.
image: HOST = $(shell rustc -vV | sed -n 's/^host: //p')

.PHONY: image
image: ## Build the container image slotgate:dev, with docker, podman or buildah
	@.ci/setup rust cc image
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --bin slotgate --target $(HOST)
	@.ci/image $(TARGET_DIR)/$(HOST)/release/slotgate $(IMAGE)

.PHONY: lint
lint: ## Check the format, the lints and the dependencies
	@.ci/setup rust rust-lints cc
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	@.ci/dependencies

# How long each target is fuzzed.
FUZZ_SECONDS ?= 60

.PHONY: fuzz
fuzz: ## Fuzz the parsers of bytes from outside, a minute each (needs nightly Rust and cargo-fuzz)
	@.ci/setup rust cc fuzz
	@for target in $$(cargo +nightly fuzz list); do \
	    cargo +nightly fuzz run $$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=4096 $(ARGS) || exit; \
	done

.PHONY: docs
docs: ## Build the documentation of the code, private parts too
	@.ci/setup rust cc
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items

.PHONY: test-clients
test-clients: ## Run client libraries, and job queues, locks, caches and chats that use them, while a node fails over
	@.ci/setup rust cc redis python go node java ruby
	cargo build --release --bin slotgate
	@tests/clients/run $(SLOTGATE) python go node java ruby

CLIENTS := client-python client-go client-node client-java client-ruby
.PHONY: $(CLIENTS)
client-python: ## The same with redis-py, Celery and Flask-Caching only
client-go: ## The same with go-redis and redis_rate only
client-node: ## The same with ioredis, BullMQ and Socket.IO only
client-java: ## The same with Jedis only
client-ruby: ## The same with Sidekiq only
$(CLIENTS): client-%:
	@.ci/setup rust cc redis $*
	cargo build --release --bin slotgate
	@tests/clients/run $(SLOTGATE) $*
