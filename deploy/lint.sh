#!/usr/bin/env bash
# Checks rules, images, charts and compose files with the tools of deploy/package-tools.sh; names what could not be checked here.
#
#   LEADPULSE=target/debug/leadpulse   the program whose metrics are judged; without it that check is left out
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$PWD/.tools
program=${LEADPULSE:-target/debug/leadpulse}
failed=0

check() {
  local name=$1
  shift
  if "$@" >"$log" 2>&1; then
    echo "ok       $name"
  else
    echo "FAILED   $name"
    sed 's/^/         /' "$log"
    failed=1
  fi
}
skip() { echo "SKIPPED  $1: $2"; }
log=$(mktemp)
trap 'rm -f "$log"' EXIT

conventions() { "$program" metrics --format prometheus | "$tools/promtool" check metrics; }
if [ -x "$tools/promtool" ]; then
  check "alerting rules" "$tools/promtool" check rules --lint=all --lint-fatal deploy/prometheus/rules.yml
  check "tests of the rules" "$tools/promtool" test rules deploy/prometheus/rules.test.yml
  check "Prometheus' configuration" "$tools/promtool" check config deploy/prometheus/prometheus.yml
  if [ -x "$program" ]; then
    check "names and help of metrics" conventions
  else
    skip "names and help of metrics" "$program is not built"
  fi
else
  skip "rules" "promtool is not here"
fi

if [ -x "$tools/hadolint" ]; then
  check "Dockerfile" "$tools/hadolint" Dockerfile
else
  skip "Dockerfile" "hadolint is not here"
fi

if [ -d "$tools/python/helm_python" ]; then
  export PYTHONPATH=$tools/python PYTHONDONTWRITEBYTECODE=1
  check "YAML" python3 -m yamllint --strict --config-file deploy/yamllint.yml deploy/prometheus deploy/compose deploy/grafana \
    deploy/helm/leadpulse/Chart.yaml deploy/helm/leadpulse/values.yaml
  check "compose" python3 deploy/compose/check.py
  check "chart" python3 deploy/helm/check.py
else
  skip "YAML, compose, chart" "the Python packages are not here"
fi
if [ -x "$tools/compose-spec" ]; then
  check "compose, by its reference" "$tools/compose-spec" deploy/compose/compose.yaml
else
  skip "compose, by its reference" "the reader is not here"
fi
if docker compose version >/dev/null 2>&1; then
  check "compose, by docker" docker compose --file deploy/compose/compose.yaml config --quiet
else
  skip "compose, by docker" "docker compose is not here"
fi
for script in deploy/*.sh deploy/kafka/*.sh; do
  check "$script" bash -n "$script"
done
exit "$failed"
