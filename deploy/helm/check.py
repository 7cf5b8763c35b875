#!/usr/bin/env python3
"""Lints and renders the chart, and judges the manifests against the schemas of Kubernetes, strictly.

Uses Helm's library and the schemas in .tools/python (deploy/package-tools.sh). Kinds of custom resources have no schema
there: of those only what a test below asks for is known. With --print the manifests of all options go to standard output.
"""
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".tools" / "python"))

import helm_python  # noqa: E402
import kubernetes_validate  # noqa: E402
import yaml  # noqa: E402
from helm_python.chart import Chart, lint  # noqa: E402

PROGRAM = ROOT / "target" / "debug" / "leadpulse"
CHART = ROOT / "deploy" / "helm" / "leadpulse"
KUBERNETES = ["1.27", "1.33"]
CUSTOM = {"ServiceMonitor", "PrometheusRule"}
ALL = {
    "config": '[kafka]\ngroup_id = "one"\n',
    "schemas": {"accounts.avsc": "{}"},
    "model": {"image": "registry.example/bundle:1", "path": "/bundle", "folder": "/bundle"},
    "env": {"LEADPULSE_ENGINE__TICK": "10s"},
    "secretEnv": ["leadpulse"],
    "service": {"hosts": ["scores.example"]},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "tokenSecret": {"name": "leadpulse", "key": "TOKEN"}},
    "prometheusRule": {"enabled": True, "runbookBase": "https://runbooks.example/"},
    "networkPolicy": {"from": [{"namespaceSelector": {}}]},
    "store": {"storageClass": "fast"},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"a": "b"}}}
    ],
}
CASES = {
    "defaults": {},
    "everything": ALL,
    "one process without a volume": {"replicas": 1, "store": {"enabled": False}, "networkPolicy": {"enabled": False}},
}
REFUSED = {
    "no process": {"replicas": 0},
    "a misspelt key": {"image": {"repositry": "leadpulse"}},
    "brokers without a port": {"kafka": {"brokers": "kafka"}},
    "a model's image without a folder": {"model": {"image": "bundle:1", "folder": ""}},
}


def main():
    faults = []
    for name, values in CASES.items():
        report = lint(CHART, values, strict=True, quiet=False, kube_version="v1.33.0")
        faults += [f"{name}: {m['path']}: {m['error']}" for m in report["messages"] if m["severity"] > 1]
        faults += [f"{name}: {error}" for error in report["errors"] or []]
        kinds = check_manifests(name, values, faults)
        print(f"{name}: {len(kinds)} manifests: {', '.join(kinds)}")
    for name, values in REFUSED.items():
        try:
            Chart.load(CHART).validate_schema(Chart.load(CHART).merge_values(values))
            faults.append(f"values.schema.json lets pass: {name}")
        except helm_python.HelmError:
            pass
    for fault in faults:
        print(f"chart: {fault}", file=sys.stderr)
    return 1 if faults else 0


def check_manifests(name, values, faults):
    kinds = []
    rendered = Chart.load(CHART).render(values, name="one", namespace="scoring")
    for path, text in sorted(rendered.items()):
        if not path.endswith(".yaml"):
            continue
        for manifest in filter(None, yaml.safe_load_all(text)):
            kinds.append(manifest["kind"])
            if "--print" in sys.argv and values is ALL:
                print("---\n" + yaml.safe_dump(manifest, sort_keys=False))
            if manifest["kind"] in CUSTOM:
                check_custom(name, manifest, faults)
                continue
            for version in KUBERNETES:
                try:
                    kubernetes_validate.validate(manifest, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    place = ".".join(str(part) for part in error.path)
                    faults.append(f"{name}: {path}: Kubernetes {version}: {place}: {error.message}")
    check_workload(name, values, rendered, faults)
    return kinds


def check_custom(name, manifest, faults):
    if manifest["kind"] == "PrometheusRule":
        rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text())
        given = [rule["alert"] for group in manifest["spec"]["groups"] for rule in group["rules"]]
        wanted = [rule["alert"] for group in rules["groups"] for rule in group["rules"]]
        if given != wanted:
            faults.append(f"{name}: the chart's rules are not those of deploy/prometheus/rules.yml: copy them to files/rules.yml")


def check_workload(name, values, rendered, faults):
    """What a schema cannot say: nobody is root, nothing is written to the image, probes follow the phase."""
    pod = next(yaml.safe_load(t) for p, t in rendered.items() if p.endswith("/statefulset.yaml"))["spec"]["template"]["spec"]
    if not pod["securityContext"]["runAsNonRoot"]:
        faults.append(f"{name}: the pod may run as root")
    for container in pod["containers"] + pod.get("initContainers", []):
        if not container["securityContext"]["readOnlyRootFilesystem"]:
            faults.append(f"{name}: {container['name']} may write to its image")
    worker = pod["containers"][0]
    for probe, path in [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]:
        if worker[probe]["httpGet"]["path"] != path:
            faults.append(f"{name}: {probe} does not ask {path}")
    if PROGRAM.exists():
        environment = {one["name"]: one["value"] for one in worker["env"]}
        asked = [PROGRAM, "config", "show", "--changed"]
        shown = subprocess.run(asked, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)
        if shown.returncode != 0:
            faults.append(f"{name}: settings are refused: {shown.stderr.strip()}")
        for variable in environment:
            if variable not in shown.stdout:
                faults.append(f"{name}: {variable} sets nothing")
    mounts = {mount["name"] for mount in worker["volumeMounts"]}
    state = values.get("store", {}).get("enabled", True)
    if ("state" in mounts) != state:
        faults.append(f"{name}: the state's volume is mounted: {not state}")


if __name__ == "__main__":
    sys.exit(main())
