#!/usr/bin/env bash
# Apache Kafka 4.3 (KRaft) on loopback, from Maven Central, for development and tests.
#
#   kafka.sh up [1|3]   start one broker (default) or three; prints the bootstrap servers, also when they are already up
#   kafka.sh fetch      only install what is missing and download the jars
#   kafka.sh down       stop all brokers and delete their data (KEEP_DATA=1 keeps it)
#   kafka.sh kill N     kill broker N at once (SIGKILL)
#   kafka.sh stop N     shut broker N down cleanly
#   kafka.sh start N    start broker N again, on its data
#   kafka.sh pause N    freeze broker N (SIGSTOP): its connections stay open, nothing answers
#   kafka.sh resume N   let broker N go on (SIGCONT)
#   kafka.sh tool CLASS ARG…   run a class of org.apache.kafka.tools, such as AclCommand
#
# Only the bootstrap servers go to standard output; everything else goes to standard error.
#
#   LEADPULSE_KAFKA_HOME   data, logs and process ids (default: .kafka in the repository)
#   LEADPULSE_KAFKA_LIBS   the jars (default: libs in LEADPULSE_KAFKA_HOME); may be shared between homes
#   PORT                   base port (default 19092): broker N listens on PORT + 10 (N - 1), its controller on the port after
#   PROXY_PORT             a second listener for clients behind a proxy: broker N listens on its port + 2 as well, and tells who comes
#                          there that it is to be found at 127.0.0.1:PROXY_PORT + 10 (N - 1), where the proxy has to be
#   SECURITY_DIR           a folder with broker.pem and expired.pem (private key and certificates) and ca.pem: broker N then listens
#                          on its port + 3 (SASL in TLS), + 4 (mutual TLS), + 5 (SASL in TLS, expired.pem) and + 6 (OAUTHBEARER with
#                          unsigned tokens, in TLS) too, and asks permissions of everybody but the anonymous user and SUPER_USERS
#   SASL_USERS             name=password pairs, separated by spaces, for SCRAM-SHA-256, SCRAM-SHA-512 and PLAIN
#   SUPER_USERS            users that may do everything, separated by semicolons: User:alice;User:CN=service
#   OWNER_PID              stop everything and delete the data when this process ends
#   NO_INSTALL=1           never install packages
#
# Exit codes: 0 done, 1 failed, 2 usage, 3 Java or Maven is missing and was not installed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
home=${LEADPULSE_KAFKA_HOME:-$repository/.kafka}
libs=${LEADPULSE_KAFKA_LIBS:-$home/libs}
port=$(cat "$home/port" 2>/dev/null || echo "${PORT:-19092}")   # a cluster keeps the port it was made with

say() { echo "kafka.sh: $*" >&2; }
die() { say "$@"; exit 1; }
usage() { sed -n '2,32s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }

java_version() { java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -1; }

# Java 17 and Maven: installed where we are root on Debian, else named.
require_tools() {
  local missing=()
  [ "$(java_version 2>/dev/null || true)" ] && [ "$(java_version)" -ge 17 ] || missing+=("Java 17 or newer")
  [ -e "$libs/.complete" ] || command -v mvn >/dev/null || missing+=("Maven")
  [ ${#missing[@]} -eq 0 ] && return
  if [ -z "${NO_INSTALL:-}" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "missing: ${missing[*]}; installing the Debian package maven, which brings Java"
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends maven default-jre-headless; } >&2 \
      || die "apt-get could not install maven; install Java 17 or newer and Maven by hand"
    return
  fi
  say "missing: $(IFS=,; echo "${missing[*]}"). Install them (Debian, as root: apt-get install -y maven) and try again"
  exit 3
}

fetch_jars() {
  [ -e "$libs/.complete" ] && return
  mkdir -p "$libs"
  exec 9>"$libs/.lock"
  flock 9                                  # two test runs at once download once
  if [ ! -e "$libs/.complete" ]; then
    say "downloading Apache Kafka 4.3.1 and its dependencies (about 55 MB) from Maven Central to $libs"
    mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$libs" >"$libs/.maven.log" 2>&1 \
      || die "the download failed; the last lines of $libs/.maven.log:"$'\n'"$(tail -5 "$libs/.maven.log")"
    touch "$libs/.complete"
  fi
  exec 9>&-
}

broker_port() { echo $((port + 10 * ($1 - 1))); }
bootstrap_servers() {
  local servers=() node
  for node in $(seq "$1"); do servers+=("127.0.0.1:$(broker_port "$node")"); done
  (IFS=,; echo "${servers[*]}")
}

# A process id may have been given to another process since: the command line tells.
is_running() { [ -e "$home/$1/pid" ] && ps -o args= -p "$(cat "$home/$1/pid")" 2>/dev/null | grep -qF "$home/$1/server.properties"; }
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Every node is broker and controller, so that the cluster of three outlives any one of them.
configure() { # node, brokers
  local node=$1 brokers=$2 in_sync=1 voters=() voter
  [ "$brokers" -ge 3 ] && in_sync=2
  for voter in $(seq "$brokers"); do voters+=("$voter@127.0.0.1:$(($(broker_port "$voter") + 1))"); done
  local listeners="PLAINTEXT://127.0.0.1:$(broker_port "$node"),CONTROLLER://127.0.0.1:$(($(broker_port "$node") + 1))"
  local advertised=$listeners
  if [ -n "${PROXY_PORT:-}" ]; then
    listeners="$listeners,PROXIED://127.0.0.1:$(($(broker_port "$node") + 2))"
    advertised="$advertised,PROXIED://127.0.0.1:$((PROXY_PORT + 10 * (node - 1)))"
  fi
  if [ -n "${SECURITY_DIR:-}" ]; then
    local name offset=3
    for name in SECURE MUTUAL EXPIRED OAUTH; do
      listeners="$listeners,$name://127.0.0.1:$(($(broker_port "$node") + offset))"
      advertised="$advertised,$name://127.0.0.1:$(($(broker_port "$node") + offset))"
      offset=$((offset + 1))
    done
  fi
  mkdir -p "$home/$node"
  cat >"$home/$node/server.properties" <<P
process.roles=broker,controller
node.id=$node
controller.quorum.voters=$(IFS=,; echo "${voters[*]}")
controller.listener.names=CONTROLLER
listeners=$listeners
advertised.listeners=$advertised
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,SECURE:SASL_SSL,MUTUAL:SSL,EXPIRED:SASL_SSL,OAUTH:SASL_SSL
inter.broker.listener.name=PLAINTEXT
log.dirs=$home/$node/data
num.partitions=4
auto.create.topics.enable=false
default.replication.factor=$brokers
min.insync.replicas=$in_sync
offsets.topic.replication.factor=$brokers
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=$brokers
transaction.state.log.min.isr=$in_sync
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor=$brokers
share.coordinator.state.topic.min.isr=$in_sync
group.initial.rebalance.delay.ms=0
P
  [ -z "${SECURITY_DIR:-}" ] || secure >>"$home/$node/server.properties"
}

# Settings of the listeners with TLS, and of permissions.
secure() {
  local name users='' user modules=org.apache.kafka.common.security
  for user in ${SASL_USERS:-}; do users="$users user_${user%%=*}=\"${user#*=}\""; done
  for name in secure mutual expired oauth; do
    local keys=broker.pem
    [ "$name" = expired ] && keys=expired.pem
    cat <<P
listener.name.$name.ssl.keystore.type=PEM
listener.name.$name.ssl.keystore.location=$SECURITY_DIR/$keys
listener.name.$name.ssl.truststore.type=PEM
listener.name.$name.ssl.truststore.location=$SECURITY_DIR/ca.pem
P
  done
  for name in secure expired; do
    cat <<P
listener.name.$name.sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN
listener.name.$name.scram-sha-256.sasl.jaas.config=$modules.scram.ScramLoginModule required;
listener.name.$name.scram-sha-512.sasl.jaas.config=$modules.scram.ScramLoginModule required;
listener.name.$name.plain.sasl.jaas.config=$modules.plain.PlainLoginModule required$users;
P
  done
  cat <<P
listener.name.mutual.ssl.client.auth=required
listener.name.oauth.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.oauth.oauthbearer.sasl.jaas.config=$modules.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;${SUPER_USERS:-}
P
}

kafka_class() { java -Xmx256m -cp "$libs/*" "$@"; }

format() { # node
  local node=$1
  [ -e "$home/$node/data/meta.properties" ] && return
  local scram=() user mechanism
  for user in ${SASL_USERS:-}; do
    for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
      scram+=(--add-scram "$mechanism=[name=${user%%=*},password=${user#*=}]")
    done
  done
  kafka_class kafka.tools.StorageTool format -t "$(cat "$home/cluster.id")" -c "$home/$node/server.properties" "${scram[@]}" \
    >"$home/$node/format.log" 2>&1 || die "broker $node: its storage could not be formatted:"$'\n'"$(tail -3 "$home/$node/format.log")"
}

launch() { # node
  local folder=$home/$1
  answers "$(broker_port "$1")" && die "port $(broker_port "$1") is taken by another program: choose a base with PORT"
  setsid java -Xms256m -Xmx512m -Dlog4j2.configurationFile="$here/log4j2.properties" -Dleadpulse.broker.log="$folder/broker.log" \
    -cp "$libs/*" kafka.Kafka "$folder/server.properties" >"$folder/out.log" 2>&1 </dev/null &
  echo $! >"$folder/pid"
}

await_port() { # node
  local node=$1
  for _ in $(seq 600); do
    is_running "$node" || die "broker $node ended while starting:"$'\n'"$(tail -n 5 "$home/$node/out.log" "$home/$node/broker.log" 2>/dev/null)"
    answers "$(broker_port "$node")" && return
    sleep 0.1
  done
  die "broker $node did not open port $(broker_port "$node") within 60 s; see $home/$node/broker.log"
}

halt() { # node, signal
  local node=$1 signal=$2 pid
  is_running "$node" || { rm -f "$home/$node/pid"; return 0; }
  pid=$(cat "$home/$node/pid")
  kill "-$signal" "$pid" 2>/dev/null || true
  for _ in $(seq 300); do
    is_running "$node" || break
    sleep 0.1
  done
  is_running "$node" && kill -KILL "$pid"
  rm -f "$home/$node/pid"
}

pause() { # node
  is_running "$1" || die "broker $1 does not run: kafka.sh start $1 first"
  kill -STOP "$(cat "$home/$1/pid")"
}

resume() { # node
  is_running "$1" || die "broker $1 does not run: kafka.sh start $1 first"
  kill -CONT "$(cat "$home/$1/pid")"
}

known_nodes() { for folder in "$home"/[0-9]; do [ -d "$folder" ] && basename "$folder"; done; return 0; }

known_node() {
  [[ ${1:-} =~ ^[1-3]$ ]] || usage
  [ -e "$home/$1/server.properties" ] || die "there is no broker $1 in $home: kafka.sh up first"
}

up() { # brokers
  local brokers=$1 node count
  [[ $brokers =~ ^[13]$ ]] || usage
  count=$(known_nodes | wc -l)
  if [ "$count" -gt 0 ] && [ "$count" != "$brokers" ]; then
    die "$home holds a cluster of $count broker(s); run kafka.sh down before up $brokers"
  fi
  require_tools
  fetch_jars
  mkdir -p "$home"
  [ -s "$home/cluster.id" ] || kafka_class kafka.tools.StorageTool random-uuid 2>/dev/null | tail -1 >"$home/cluster.id"
  echo "$port" >"$home/port"
  for node in $(seq "$brokers"); do
    is_running "$node" && continue
    configure "$node" "$brokers"
    format "$node"
    launch "$node"
  done
  for node in $(seq "$brokers"); do await_port "$node"; done
  if [ -n "${OWNER_PID:-}" ]; then
    setsid bash -c 'while kill -0 "$0" 2>/dev/null; do sleep 1; done; exec "$1" down' "$OWNER_PID" "$here/kafka.sh" >/dev/null 2>&1 </dev/null &
  fi
  say "$brokers broker(s) up; data and logs in $home"
  bootstrap_servers "$brokers"
}

down() {
  local node
  for node in $(known_nodes | sort -r); do halt "$node" KILL; done
  [ -n "${KEEP_DATA:-}" ] || rm -rf "$home"/[0-9] "$home/cluster.id" "$home/port"
  rmdir "$home" 2>/dev/null || true
}

case ${1:-} in
  up) up "${2:-1}" ;;
  fetch) require_tools; fetch_jars ;;
  down) down ;;
  kill) known_node "${2:-}"; halt "$2" KILL ;;
  stop) known_node "${2:-}"; halt "$2" TERM ;;
  start) known_node "${2:-}"; is_running "$2" || launch "$2"; await_port "$2" ;;
  pause) known_node "${2:-}"; pause "$2" ;;
  resume) known_node "${2:-}"; resume "$2" ;;
  tool) [ -n "${2:-}" ] || usage; require_tools; fetch_jars; kafka_class "org.apache.kafka.tools.$2" "${@:3}" ;;
  *) usage ;;
esac
