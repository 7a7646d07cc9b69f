"""Kubernetes manifests as a cluster would see them: built by kustomize, held to the API's own OpenAPI document.

No cluster is needed: both come with ops/tools. The document describes what the API server takes; what it does not name
is rejected here, where a server in strict mode would reject it.
"""

import json
import subprocess
from functools import cache
from typing import Any

import jsonschema
import yaml

from tests.support.compose import ROOT, TOOLS, built
from tests.support.tools import require

Manifest = dict[str, Any]
KUSTOMIZATIONS = ROOT / "ops" / "k8s"


def build(overlay: str) -> list[Manifest]:
    """The manifests of ops/k8s/<overlay>. Fails with kustomize's own words."""
    ran = subprocess.run(
        [built("kustomize"), "build", KUSTOMIZATIONS / overlay], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return list(yaml.safe_load_all(ran.stdout))


def wrong(manifest: Manifest) -> list[str]:
    """What the API does not take in a manifest, a sentence each; empty where all is well."""
    definitions, kinds = _api()
    kind = (manifest.get("apiVersion"), manifest.get("kind"))
    if kind not in kinds:
        return [f"the API knows no {kind}"]
    checker = jsonschema.Draft7Validator({"$ref": f"#/definitions/{kinds[kind]}", "definitions": definitions})
    return [f"{error.json_path}: {error.message}" for error in checker.iter_errors(manifest)]


@cache
def _api() -> tuple[dict[str, Any], dict[tuple[str, str], str]]:
    """The API's types, closed to what they do not name, and the type of each (apiVersion, kind)."""
    documents = sorted(TOOLS.glob("kubernetes-*.json"))
    require(bool(documents), "the Kubernetes API's document, which make setup fetches where there is a Go toolchain")
    definitions = json.loads(documents[-1].read_text())["definitions"]
    kinds = {}
    for name, definition in definitions.items():
        if "properties" in definition:
            definition["additionalProperties"] = False
        for member in definition.get("properties", {}).values():
            if member.get("format") == "int-or-string":
                member["type"] = ["integer", "string"]
        for kind in definition.get("x-kubernetes-group-version-kind", []):
            version = "/".join(filter(None, (kind["group"], kind["version"])))
            kinds[version, kind["kind"]] = name
    # Types that are a string in the document, and more by what its text says.
    definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["type"] = ["integer", "string"]
    quantity = definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"]
    quantity["pattern"] = r"^[0-9.]+(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
    return definitions, kinds


def pod_of(manifest: Manifest) -> dict[str, Any] | None:
    """The pod that a Deployment, StatefulSet or Job makes."""
    if manifest["kind"] in {"Deployment", "StatefulSet", "Job"}:
        found: dict[str, Any] = manifest["spec"]["template"]
        return found
    return None


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector chooses something with these labels."""
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions", []):
        holds = labels.get(rule["key"]) in rule["values"]
        if holds != {"In": True, "NotIn": False}[rule["operator"]]:
            return False
    return True
