# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
# Both need a Rust toolchain (rustup) and a C compiler; the tests on real Kafka need Java 17 and Maven.
# Where they run as root on Debian they install what is missing and say so; elsewhere they name it and stop.

CARGO ?= cargo
LEADPULSE = target/debug/leadpulse

# Test targets that need no broker: all but the two that start one.
UNIT = $(filter-out leadpulse kafka_ports,$(basename $(notdir $(wildcard crates/*/tests/*.rs))) \
	$(shell sed -n '/^\[\[test\]\]/{n;s/name = "\(.*\)"/\1/p;}' crates/*/Cargo.toml benches/Cargo.toml 2>/dev/null))

.PHONY: help demo test check unit browser pictures house lint tools packages wheel release count bench bench-accuracy chaos chaos-standby chaos-kafka mutants kafka-up kafka-down setup build

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

check: ## formatting and types of everything; under a minute on a warm folder
	$(CARGO) fmt --all --check
	$(CARGO) check --workspace --all-targets

unit: setup ## all tests that need no Kafka
	$(CARGO) test --workspace --lib --bins $(UNIT:%=--test %)
	$(CARGO) test --workspace --doc

browser: ## Chromium and axe-core for the tests of the console, which are skipped without
	@deploy/browser.sh

pictures: setup browser ## pictures of the console's pages in docs/console, from its tests
	@mkdir -p docs/console
	LEADPULSE_PICTURES=$(CURDIR)/docs/console REQUIRE_CHROMIUM=1 $(CARGO) test --workspace --test console -- every_page labels_of_a_query

house: ## documents against code, in seconds and without a build
	@mkdir -p target && rustc --edition 2024 --test tests/house.rs -o target/house && target/house

lint: ## formatting, clippy and docs, warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

tools: ## licences, bans, sources and spelling; fetches cargo-deny and typos into .tools/
	@deploy/tools.sh
	.tools/cargo-deny check bans licenses sources
	.tools/typos

packages: ## rules, dashboards, image, compose file and chart; fetches promtool, hadolint and Python packages into .tools/
	@deploy/package-tools.sh || [ $$? = 3 ]
	@deploy/lint.sh

wheel: setup ## a Python wheel with the binary in target/wheels (release build); fetches maturin into .tools/
	@deploy/wheel-tools.sh
	cd python && ../.tools/wheel/bin/maturin build --release --out ../target/wheels

release: setup ## binary, completions, manual, chart, bill of materials and checksums in target/dist
	@deploy/release.sh

count: ## arrows and circles of modules, prose, long lines and functions; ARGS=-v lists the places
	@deploy/count.py $(ARGS)

chaos-standby: setup ## the owner killed under load beside a follower: times to the first commit; KILLS=20
	LEADPULSE_STANDBY_KILLS=$(or $(KILLS),20) REQUIRE_KAFKA=1 $(CARGO) test --workspace --test leadpulse standby -- --nocapture

chaos-kafka: setup ## disks, retention, registry, topics, networks, pauses and standby on real Kafka; seeds are printed
	LEADPULSE_CHAOS_KAFKA=full REQUIRE_KAFKA=1 $(CARGO) test --workspace --test leadpulse -- --nocapture --test-threads=1 \
		leadpulse::disk leadpulse::retention leadpulse::registry_away leadpulse::topics_change \
		leadpulse::standby leadpulse::paused leadpulse::network leadpulse::kills

bench: setup ## throughput and latency beside references of the same run (release build); ARGS="memory"
	$(CARGO) bench -p leadpulse-benches --bench pipeline -- $(ARGS)

bench-accuracy: setup ## accuracy on simulated markets beside baselines and the exact ceiling; ARGS="--seeds 0 --accounts 1500"
	$(CARGO) bench --profile dev -p leadpulse-benches --bench accuracy -- $(ARGS)

chaos: ## histories of the engine under disturbances, by seed: SEEDS=10000, FROM=0; cut with KINDS, DISTURBANCES, RECORDS
	@LEADPULSE_CHAOS_SEEDS=$(or $(SEEDS),10000) LEADPULSE_CHAOS_FROM=$(or $(FROM),0) \
		$(if $(KINDS),LEADPULSE_CHAOS_KINDS=$(KINDS)) $(if $(DISTURBANCES),LEADPULSE_CHAOS_DISTURBANCES=$(DISTURBANCES)) \
		$(if $(RECORDS),LEADPULSE_CHAOS_RECORDS=$(RECORDS)) \
		$(CARGO) test --workspace --test engine no_history_breaks_a_rule -- --nocapture

mutants: ## plants each fault of tests/mutants in a copy of the tree; its named test must fail; NAMES="a b" for some
	@tests/mutants/run.sh $(NAMES)

kafka-up: ## real Kafka on loopback; BROKERS=3 for three
	@deploy/kafka/kafka.sh up $(or $(BROKERS),1)

kafka-down: ## stop it and delete its data
	@deploy/kafka/kafka.sh down
