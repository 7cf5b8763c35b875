#!/usr/bin/env bash
# Makes sure that the console can be tested: Chromium from Debian's packages, axe-core in .tools/.
# As root on Debian it installs Chromium and says so; otherwise it names what is missing and stops. axe-core (MPL-2.0, 570 kB) is the
# npm package, pinned by hash; it checks pages in tests and is part of no build.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "browser: $*" >&2; }

found=""
for program in "${CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
  [ -n "$program" ] && command -v "$program" >/dev/null && found=$program && break
done
if [ -z "$found" ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing chromium"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >&2
  else
    say "Chromium is missing; install it (Debian: apt-get install chromium) or name it in CHROMIUM"
    exit 1
  fi
fi

version=4.14.1
sum=29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c
script=.tools/axe.min.js
is_whole() { [ -f "$script" ] && echo "$sum  $script" | sha256sum --check --status; }
if ! is_whole; then
  if ! command -v npm >/dev/null; then
    say "npm is missing; put axe.min.js of axe-core $version into .tools/"
    exit 1
  fi
  work="$(mktemp -d)"
  trap 'rm -rf "$work"' EXIT
  say "downloading axe-core $version to .tools/"
  (cd "$work" && timeout 120 npm pack --silent "axe-core@$version" >/dev/null && tar xzf "axe-core-$version.tgz" package/axe.min.js)
  mkdir -p .tools
  cp "$work/package/axe.min.js" "$script"
  is_whole || { say "axe.min.js of axe-core $version has another hash than $sum"; rm -f "$script"; exit 1; }
fi
