#!/usr/bin/env bash
# Writes a release to a folder: the binary without symbols, completions and manual pages, the chart, a bill of materials
# (CycloneDX, from what cargo resolved), licences by crate, and SHA-256 of everything.
#
#   release.sh [DIR]            default: target/dist
#   PROFILE=dev release.sh      of the development build, to try the script
#   FEATURES="s3 gs az"         object stores
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${PROFILE:-release}
out=${1:-target/dist}
folder=$([ "$profile" = dev ] && echo debug || echo "$profile")

say() { echo "release: $*" >&2; }
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
[ -n "$version" ] || { say "Cargo.toml names no version"; exit 1; }
target=$(rustc -vV | sed -n 's/^host: //p')
name=leadpulse-$version-$target

if [ -z "${BUILT:-}" ]; then
  cargo build --locked --profile "$profile" --package leadpulse --features "${FEATURES:-}"
  program=target/$folder/leadpulse
else
  program=$BUILT
fi
rm -rf "$out"
mkdir -p "$out/$name"
cp "$program" "$out/$name/leadpulse"
strip --strip-debug "$out/$name/leadpulse"
said=$("$out/$name/leadpulse" --version)
[ "$said" = "leadpulse $version" ] || { say "the binary says '$said', Cargo.toml says $version"; exit 1; }
"$out/$name/leadpulse" man "$out/$name/man" >/dev/null
mkdir -p "$out/$name/completions"
for shell in bash zsh fish; do "$out/$name/leadpulse" completions "$shell" >"$out/$name/completions/leadpulse.$shell"; done
cp LICENSE README.md CHANGELOG.md "$out/$name/"
deploy/sbom.py >"$out/$name.cdx.json"
cp "$out/$name.cdx.json" "$out/$name/sbom.cdx.json"
# The same inputs give the same bytes: order, owner and time are fixed.
epoch=$(git log -1 --format=%ct 2>/dev/null || echo 0)
pack() { tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$epoch" -C "$1" -cf - "$2" | gzip -n -9 >"$3"; }
pack "$out" "$name" "$out/$name.tar.gz"
pack deploy/helm leadpulse "$out/leadpulse-chart-$version.tgz"
rm -rf "${out:?}/$name"
(cd "$out" && sha256sum -- * >SHA256SUMS)
say "$out: $(tr '\n' ' ' < <(ls "$out"))"
