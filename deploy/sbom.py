#!/usr/bin/env python3
"""Prints a bill of materials (CycloneDX 1.6, JSON): every crate that the binary links, as cargo resolved them."""
import hashlib
import json
import subprocess
import sys
import tomllib

ROOT = "leadpulse"


def main():
    command = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", host()]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    with open("Cargo.lock", "rb") as file:
        locked = {(p["name"], p["version"]): p.get("checksum") for p in tomllib.load(file)["package"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = next(p["id"] for p in packages.values() if p["name"] == ROOT and p["id"] in metadata["workspace_members"])
    linked = reached(root, nodes)
    print(json.dumps(bill(root, linked, packages, nodes, locked), indent=1))


def host():
    out = subprocess.run(["rustc", "-vV"], check=True, capture_output=True, text=True).stdout
    return next(line.split()[1] for line in out.splitlines() if line.startswith("host:"))


def uses(node):
    """Dependencies that end in the binary, or build it; not those of tests."""
    return [d["pkg"] for d in node["deps"] if any(kind["kind"] != "dev" for kind in d["dep_kinds"])]


def reached(root, nodes):
    found, waiting = set(), [root]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += uses(nodes[one])
    return found


def reference(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, locked):
    one = {
        "type": "library",
        "bom-ref": reference(package),
        "name": package["name"],
        "version": package["version"],
        "purl": reference(package),
    }
    if package.get("license"):
        one["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    checksum = locked.get((package["name"], package["version"]))
    if checksum:
        one["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return one


def bill(root, linked, packages, nodes, locked):
    order = sorted(linked, key=lambda one: (packages[one]["name"], packages[one]["version"]))
    main_component = component(packages[root], locked)
    main_component["type"] = "application"
    components = [component(packages[one], locked) for one in order if one != root]
    serial = hashlib.sha256(json.dumps(components).encode()).hexdigest()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial[:8]}-{serial[8:12]}-5{serial[13:16]}-8{serial[17:20]}-{serial[20:32]}",
        "version": 1,
        "metadata": {"component": main_component},
        "components": components,
        "dependencies": [
            {"ref": reference(packages[one]), "dependsOn": sorted({reference(packages[d]) for d in uses(nodes[one]) if d in linked})}
            for one in order
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
