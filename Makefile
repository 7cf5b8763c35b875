# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
# Both need a Rust toolchain (rustup) and a C compiler; the tests on real Kafka need Java 17 and Maven.
# Where they run as root on Debian they install what is missing and say so; elsewhere they name it and stop.

CARGO ?= cargo
LEADPULSE = target/debug/leadpulse

.PHONY: help demo test lint doc bench bench-accuracy kafka-up kafka-down setup build

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

setup: ## install or name what is missing to build
	@deploy/setup.sh

build: setup ## the leadpulse binary
	$(CARGO) build --workspace

demo: build ## a market, a broker, producers, the engine and a console in one process; ARGS="--duration 60s"
	$(LEADPULSE) demo $(ARGS)

test: setup ## all tests; those on Kafka start it themselves, and are skipped without Java unless REQUIRE_KAFKA=1
	$(CARGO) test --workspace

lint: ## formatting, clippy and docs, warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

bench: setup ## throughput and latency beside references of the same run (release build); ARGS="memory"
	$(CARGO) bench -p leadpulse-benches --bench pipeline -- $(ARGS)

bench-accuracy: setup ## accuracy on simulated markets beside baselines and the exact ceiling; ARGS="--seeds 0 --accounts 1500"
	$(CARGO) bench --profile dev -p leadpulse-benches --bench accuracy -- $(ARGS)

kafka-up: ## real Kafka on loopback; BROKERS=3 for three
	@deploy/kafka/kafka.sh up $(or $(BROKERS),1)

kafka-down: ## stop it and delete its data
	@deploy/kafka/kafka.sh down
