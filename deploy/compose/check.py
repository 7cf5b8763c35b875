#!/usr/bin/env python3
"""Judges compose.yaml without docker: services, volumes and conditions that are named exist, files that are mounted are there,
images have a version, our own containers are nobody's and read-only, and their commands and settings are the program's."""
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".tools" / "python"))

import yaml  # noqa: E402

FOLDER = ROOT / "deploy" / "compose"
PROGRAM = ROOT / "target" / "debug" / "leadpulse"
KEYS = {
    "image", "build", "read_only", "user", "cap_drop", "security_opt", "tmpfs", "environment", "healthcheck", "command",
    "volumes", "ports", "restart", "depends_on",
}
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}


def main():
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    faults = []
    for name, service in compose["services"].items():
        faults += [f"{name}: {fault}" for fault in judged(service, compose)]
    for fault in faults:
        print(f"compose: {fault}", file=sys.stderr)
    print(f"{len(compose['services'])} services")
    return 1 if faults else 0


def judged(service, compose):
    for key in service.keys() - KEYS:
        yield f"{key} is no key that is used here; is it misspelt?"
    needed = service.get("depends_on", {})
    for other in needed:
        condition = needed[other]["condition"] if isinstance(needed, dict) else "service_started"
        if other not in compose["services"]:
            yield f"depends on {other}, which is no service"
        elif condition not in CONDITIONS:
            yield f"{condition} is no condition"
        elif condition == "service_healthy" and "healthcheck" not in compose["services"][other]:
            yield f"waits until {other} is healthy, which has no healthcheck"
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("."):
            if not (FOLDER / source).exists():
                yield f"{source} is not there"
        elif source not in compose["volumes"]:
            yield f"{source} is no volume"
    for port in service.get("ports", []):
        if not port.startswith("127.0.0.1:"):
            yield f"{port} is open to the network"
    if "build" not in service:
        if ":" not in service["image"] or service["image"].endswith(":latest"):
            yield f"{service['image']} has no version"
        return
    if not service["read_only"] or service["user"].startswith("0"):
        yield "may write to its image, or is root"
    if PROGRAM.exists():
        # A variable that misses a setting by a letter stops the program.
        environment = {**os.environ, **service["environment"]}
        shown = subprocess.run([PROGRAM, "config", "show", "--changed"], cwd=ROOT, env=environment, capture_output=True, text=True)
        if shown.returncode != 0:
            yield f"settings are refused: {shown.stderr.strip()}"
        for name in service["environment"]:
            if name.startswith("LEADPULSE_") and name not in shown.stdout:
                yield f"{name} sets nothing"
        asked = subprocess.run([PROGRAM, *service["command"], "--help"], capture_output=True, text=True)
        words = [word for word in service["command"] if word.startswith("--")]
        if asked.returncode != 0:
            yield f"the program does not know: {' '.join(service['command'])}"
        for word in words:
            if word not in asked.stdout:
                yield f"the program has no {word}"


if __name__ == "__main__":
    sys.exit(main())
