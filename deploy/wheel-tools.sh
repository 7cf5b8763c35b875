#!/usr/bin/env bash
# Makes a Python environment in .tools/wheel with maturin, pandas and pyarrow, pinned by hash (about 95 MB from PyPI). On another
# Python or platform the same packages are taken without pins. Nothing is installed outside of .tools/.
#
# Exit codes: 0 it is there, 3 it cannot be had here.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "wheel-tools: $*" >&2; }

list=deploy/wheel-tools.txt
folder=$PWD/.tools/wheel
mark="$folder/.$(sha256sum <"$list" | cut -c1-16)"
[ -e "$mark" ] && exit 0
command -v python3 >/dev/null || { say "not to be had here: it needs Python 3 with venv"; exit 3; }
say "downloading maturin, pandas and pyarrow from PyPI to $folder/"
rm -rf "$folder"
python3 -m venv "$folder" >&2 || { say "python3 -m venv failed; on Debian install python3-venv"; exit 3; }
install() { timeout 300 "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: "$@" >&2; }
case "$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])') $(uname -sm)" in
  "3.11 Linux x86_64") install --no-deps --require-hashes -r "$list" || exit 3 ;;
  *) install maturin pandas pyarrow || exit 3 ;;
esac
touch "$mark"
