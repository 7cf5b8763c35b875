#!/usr/bin/env python3
"""Routes alerts of Leadpulse, each at most once by its alert_id.

    pip install confluent-kafka fastavro
    python3 router.py --brokers 127.0.0.1:9092 --schema schemas/outputs/alert.avsc --rules rules.json

The topic is read with read_committed, so an alert is seen once it is committed. A restart of this program, or of the worker, may
show it again: the ledger (a SQLite file) remembers each alert_id before the position is committed. An alert whose delivery was
begun and not noted is delivered again under the same alert_id: give it to the receiver as its idempotency key.

The classes know neither Kafka nor a clock, and are tested by test_router.py. `deliver` prints a line: put your call there.
"""
import argparse
import io
import json
import sqlite3
import struct
import sys

SEVERITIES = ["P1", "P2", "P3"]


class Ledger:
    """Alerts that were delivered, or whose delivery has begun."""

    def __init__(self, path=":memory:"):
        self.db = sqlite3.connect(path)
        with self.db:
            self.db.execute("CREATE TABLE IF NOT EXISTS alerts (alert_id TEXT PRIMARY KEY, done INTEGER NOT NULL)")

    def begin(self, alert_id):
        """True if the alert is to be delivered: it is new, or its delivery did not end."""
        with self.db:
            self.db.execute("INSERT OR IGNORE INTO alerts VALUES (?, 0)", (alert_id,))
        (done,) = self.db.execute("SELECT done FROM alerts WHERE alert_id = ?", (alert_id,)).fetchone()
        return not done

    def end(self, alert_id):
        with self.db:
            self.db.execute("UPDATE alerts SET done = 1 WHERE alert_id = ?", (alert_id,))


class Rules:
    """The first rule whose conditions hold names the destination; without one an alert goes nowhere.

    A condition is a field of the alert with its value, or a list of values. `severity_at_least` is P1, P2 or P3.
    """

    def __init__(self, rules):
        self.rules = rules
        for rule in rules:
            if "to" not in rule:
                raise ValueError(f"a rule names no destination: {rule}; add \"to\"")
            least = rule.get("severity_at_least", "P3")
            if least not in SEVERITIES:
                raise ValueError(f"severity_at_least is {least!r}; write one of {', '.join(SEVERITIES)}")

    def destination(self, alert):
        if alert.get("hold_out"):
            return None
        for rule in self.rules:
            if self._fits(rule, alert):
                return rule["to"]
        return None

    def _fits(self, rule, alert):
        for name, wanted in rule.items():
            if name == "to":
                continue
            if name == "severity_at_least":
                severity = alert["severity"]
                if severity not in SEVERITIES or SEVERITIES.index(severity) > SEVERITIES.index(wanted):
                    return False
            elif isinstance(wanted, list):
                if alert.get(name) not in wanted:
                    return False
            elif alert.get(name) != wanted:
                return False
        return True


class Router:
    """Delivers each alert once, as far as the ledger goes back."""

    def __init__(self, rules, ledger, deliver):
        self.rules, self.ledger, self.deliver = rules, ledger, deliver

    def take(self, alert):
        """Returns what became of the alert: delivered, known or unrouted. An error of `deliver` is the caller's."""
        destination = self.rules.destination(alert)
        if destination is None:
            return "unrouted"
        alert_id = alert["alert_id"]
        if not self.ledger.begin(alert_id):
            return "known"
        self.deliver(destination, alert)
        self.ledger.end(alert_id)
        return "delivered"


def unframed(value):
    """Schema id and Avro bytes of a record in Confluent's framing."""
    if len(value) < 5 or value[0] != 0:
        raise ValueError("the value has no Confluent framing; is this the alerts topic?")
    return struct.unpack(">I", value[1:5])[0], value[5:]


def deliver(destination, alert):
    line = {"to": destination, "idempotency_key": alert["alert_id"], "summary": alert.get("summary"), "state": alert["state"]}
    print(json.dumps(line), flush=True)


def main():
    import fastavro
    from confluent_kafka import Consumer

    arguments = argparse.ArgumentParser(description="Routes alerts of Leadpulse.")
    arguments.add_argument("--brokers", required=True)
    arguments.add_argument("--topic", default="scoring.alerts.v1")
    arguments.add_argument("--group", default="alert-router")
    arguments.add_argument("--schema", required=True, help="the alert's schema, schemas/outputs/alert.avsc")
    arguments.add_argument("--rules", required=True, help="a JSON list of rules")
    arguments.add_argument("--ledger", default="router.sqlite")
    arguments.add_argument("--most", type=int, help="end after so many alerts")
    given = arguments.parse_args()
    with open(given.schema) as file:
        schema = fastavro.parse_schema(json.load(file))
    with open(given.rules) as file:
        rules = Rules(json.load(file))
    router = Router(rules, Ledger(given.ledger), deliver)
    consumer = Consumer(
        {
            "bootstrap.servers": given.brokers,
            "group.id": given.group,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([given.topic])
    taken = 0
    try:
        while given.most is None or taken < given.most:
            record = consumer.poll(1.0)
            if record is None:
                continue
            if record.error():
                print(f"router: {record.error()}", file=sys.stderr)
                continue
            _, body = unframed(record.value())
            # The writer's schema is the one that the worker was built with; a newer one comes from its registry.
            alert = fastavro.schemaless_reader(io.BytesIO(body), schema)
            router.take(alert)
            consumer.commit(record, asynchronous=False)
            taken += 1
    finally:
        consumer.close()


if __name__ == "__main__":
    main()
