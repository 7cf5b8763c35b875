#!/usr/bin/env bash
# Makes sure that the workspace can be built: a Rust toolchain, a C and C++ compiler, make (for librdkafka).
# As root on Debian it installs the compiler and says so; otherwise it names what is missing and stops.
set -euo pipefail

say() { echo "setup: $*" >&2; }

if ! command -v cargo >/dev/null; then
  say "cargo is missing: install rustup (https://rustup.rs); it takes the toolchain that rust-toolchain.toml names"
  exit 1
fi
missing=()
for tool in cc c++ make perl; do
  command -v "$tool" >/dev/null || missing+=("$tool")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  say "installing build-essential (missing: ${missing[*]})"
  apt-get update -qq && apt-get install -y -qq build-essential >&2
else
  say "missing: ${missing[*]}; install a C and C++ compiler, make and Perl (Debian: apt-get install build-essential)"
  exit 1
fi
