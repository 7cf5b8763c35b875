#!/usr/bin/env python3
"""Readers and hostile clients beside a demo: what each costs the other, in one run.

    python3 benches/readers.py --binary target/release/leadpulse --seconds 30

starts `leadpulse demo`, waits until the market is watched, then takes phases of equal length: nobody asks; readers ask lists
and entities at a rate, from a schedule that a slow answer does not stretch; idle connections and half requests are held open
while the readers go on; nobody asks again. It prints quantiles of requests, measured here from the moment a request was due,
and of epochs, from the buckets of `leadpulse_epoch_duration_seconds`. Ratios to the first phase are what travels.
"""

import argparse
import http.client
import json
import os
import re
import resource
import socket
import subprocess
import tempfile
import threading
import time

READERS = 16
HALF_REQUEST = b"GET /api/v1/scores HTTP/1.1\r\nhost: localhost\r\nx-slow: "
FROM_ELSEWHERE = "127.0.0.2"  # hostile clients have another address than the readers


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default="target/release/leadpulse")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of a phase")
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    parser.add_argument("--accounts", type=int, default=300)
    parser.add_argument("--pace", type=float, default=2.0, help="simulated days a second")
    parser.add_argument("--idle", type=int, default=10_000, help="idle connections to hold open")
    parser.add_argument("--slow", type=int, default=500, help="half requests to hold open")
    parser.add_argument("--work-dir", help="folder of the demo and its log, kept")
    return parser.parse_args()


class Demo:
    """The demo as a process of its own."""

    def __init__(self, options, work_dir):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        environment = dict(os.environ, LEADPULSE_SERVER__LISTEN=f"127.0.0.1:{self.port}", RUST_LOG="warn")
        command = [options.binary, "demo", "--accounts", str(options.accounts), "--pace", str(options.pace), "--work-dir", work_dir]
        self.log = open(os.path.join(work_dir, "demo.log"), "w+")
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=subprocess.STDOUT)

    def wait(self):
        """Waits until the history is read and scores are live."""
        while self.process.poll() is None:
            with open(self.log.name) as log:
                if re.search(r"^history ", log.read(), re.MULTILINE):
                    return self.wait_for_records()
            time.sleep(0.5)
        raise SystemExit(f"the demo ended; its log is {self.log.name}")

    def wait_for_records(self):
        """Waits until records have flowed for five seconds: the first tick scores everybody, and records wait for it."""
        flowing, last = 0, None
        while flowing < 5:
            time.sleep(1.0)
            records = records_of(self.metrics())
            flowing = flowing + 1 if last is not None and records > last else 0
            last = records

    def get(self, path, timeout=30):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", path, headers={"host": "localhost"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def metrics(self):
        status, body = self.get("/metrics")
        assert status == 200, body
        found = {}
        for line in body.decode().splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                found[name] = float(value)
        return found

    def end(self):
        self.process.terminate()
        self.process.wait(60)


def records_of(metrics):
    """Records of all epochs so far."""
    return metrics.get("leadpulse_epoch_records_sum", 0.0)


def histogram_quantiles(before, after, name, quantiles):
    """Quantiles of what a histogram counted between two looks, linear within a bucket; None if nothing."""
    bucket = re.compile(re.escape(name) + r'_bucket\{(?:.*,)?le="([^"]+)"\}$')
    counts = {}
    for series, value in after.items():
        match = bucket.match(series)
        if match:
            bound = float(match.group(1).replace("+Inf", "inf"))
            counts[bound] = counts.get(bound, 0) + value - before.get(series, 0)
    bounds = sorted(counts)
    total = counts[bounds[-1]] if bounds else 0
    if total == 0:
        return None
    found = []
    for quantile in quantiles:
        low, under = 0.0, 0.0
        for bound in bounds:
            if counts[bound] >= quantile * total:
                share = (quantile * total - under) / max(counts[bound] - under, 1e-9)
                found.append(low + share * ((bound if bound != float("inf") else low) - low))
                break
            low, under = bound, counts[bound]
    return found


class Load:
    """Requests at a rate: each has a moment at which it is due, whatever the ones before took."""

    def __init__(self, demo, rate):
        status, body = demo.get("/api/v1/scores?limit=50")
        assert status == 200, body
        page = json.loads(body)
        entities = [f"/api/v1/{page['entity']}/{row['entity_id']}" for row in page["scores"]]
        lists = ["/api/v1/scores?limit=50", "/api/v1/alerts?limit=50", "/api/v1/scores?limit=100&sort=velocity"]
        self.paths = [path for pair in zip(lists * len(entities), entities) for path in pair]
        self.demo, self.rate = demo, rate
        self.lock = threading.Lock()
        self.seconds, self.failed = [], {}

    def run(self, seconds):
        self.started, self.next = time.monotonic(), 0
        self.total = int(seconds * self.rate)
        threads = [threading.Thread(target=self.read) for _ in range(READERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(self.seconds), self.failed

    def read(self):
        while True:
            with self.lock:
                number, self.next = self.next, self.next + 1
            if number >= self.total:
                return
            due = self.started + number / self.rate
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                status, _ = self.demo.get(self.paths[number % len(self.paths)])
            except OSError as error:
                status = type(error).__name__
            with self.lock:
                if status == 200:
                    self.seconds.append(time.monotonic() - due)
                else:
                    self.failed[status] = self.failed.get(status, 0) + 1


class Hostile:
    """Connections that are opened and do nothing, or send half a request; one that is closed is opened again."""

    def __init__(self, demo, idle, slow):
        self.demo, self.idle, self.slow = demo, idle, slow
        self.stop = threading.Event()
        self.opened, self.open_at_once = 0, 0

    def connect(self, bytes_to_send):
        opened = socket.create_connection(("127.0.0.1", self.demo.port), 5, (FROM_ELSEWHERE, 0))
        opened.setblocking(False)
        if bytes_to_send:
            opened.send(bytes_to_send)
        self.opened += 1
        return opened

    def run(self):
        held = []
        while not self.stop.is_set():
            wanted = self.idle + self.slow
            for number in range(len(held), wanted):
                if self.stop.is_set():
                    break
                try:
                    held.append(self.connect(HALF_REQUEST if number < self.slow else b""))
                except OSError:
                    break
            held = [one for one in held if is_open(one)]
            self.open_at_once = max(self.open_at_once, len(held))
            self.stop.wait(0.5)
        for one in held:
            one.close()


def is_open(one):
    """Whether the other end has the connection open; closes it if not. A half request gets one more byte."""
    try:
        if one.recv(1) == b"":
            one.close()
            return False
    except BlockingIOError:
        pass
    except OSError:
        one.close()
        return False
    return True


def phase(name, demo, seconds, rate=0.0, hostile=None):
    """One phase. Returns its line."""
    thread = threading.Thread(target=hostile.run) if hostile else None
    if thread:
        thread.start()
    before, started = demo.metrics(), time.monotonic()
    requests, failed = [], {}
    if rate:
        requests, failed = Load(demo, rate).run(seconds)
    else:
        time.sleep(seconds)
    after, took = demo.metrics(), time.monotonic() - started
    if thread:
        hostile.stop.set()
        thread.join()
    epochs = histogram_quantiles(before, after, "leadpulse_epoch_duration_seconds", [0.5, 0.99])
    records = records_of(after) - records_of(before)
    at = lambda share: requests[min(len(requests) - 1, int(share * len(requests)))] if requests else None
    return {
        "phase": name, "records_per_second": records / took,
        "epoch_p50_ms": epochs and 1e3 * epochs[0], "epoch_p99_ms": epochs and 1e3 * epochs[1],
        "requests": len(requests), "failed": failed,
        "request_p50_ms": requests and 1e3 * at(0.5), "request_p99_ms": requests and 1e3 * at(0.99),
        "hostile_opened": hostile.opened if hostile else 0, "hostile_open_at_once": hostile.open_at_once if hostile else 0,
    }


def show(line, first):
    """Prints a phase, with its ratio to the first."""
    number = lambda value: f"{value:8.1f}" if value else "       –"
    ratio = line["epoch_p99_ms"] / first["epoch_p99_ms"] if line["epoch_p99_ms"] and first["epoch_p99_ms"] else float("nan")
    print(f"{line['phase']:<28}{line['records_per_second']:9.0f} records/s   epoch p50 {number(line['epoch_p50_ms'])} p99 {number(line['epoch_p99_ms'])} ms ({ratio:.2f} of the first)"
          f"   requests {line['requests']:6d} p50 {number(line['request_p50_ms'])} p99 {number(line['request_p99_ms'])} ms, failed {line['failed'] or 0}"
          + (f"   hostile {line['hostile_opened']} opened, {line['hostile_open_at_once']} at once" if line["hostile_opened"] else ""), flush=True)


def main():
    options = parse_arguments()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory() as temporary:
        work_dir = options.work_dir or temporary
        os.makedirs(work_dir, exist_ok=True)
        demo = Demo(options, work_dir)
        try:
            demo.wait()
            phases = [
                ("nobody", 0.0, None),
                ("readers", options.rate, None),
                ("readers, idle and slow", options.rate, Hostile(demo, options.idle, options.slow)),
                ("nobody again", 0.0, None),
            ]
            first = None
            for name, rate, hostile in phases:
                line = phase(name, demo, options.seconds, rate, hostile)
                first = first or line
                show(line, first)
        finally:
            demo.end()


if __name__ == "__main__":
    main()
