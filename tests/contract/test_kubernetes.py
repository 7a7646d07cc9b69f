"""ops/k8s holds to the Kubernetes API and says the same as docker-compose.yml."""

import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.settings import CollectorSettings
from core.settings import Settings
from gateway.settings import GatewaySettings
from ops.settings import OperatorSettings
from reporter.settings import ReporterSettings
from tests.support.compose import BASE, ROOT, resolve
from tests.support.kubernetes import Manifest, build, matches, pod_of, wrong

OVERLAYS = ("base", "staging", "production")
SERVICES: dict[str, type[Settings]] = {
    "gateway": GatewaySettings,
    "fb-collector": CollectorSettings,
    "ttk-collector": CollectorSettings,
    "rejected-collector": CollectorSettings,
    "reporter": ReporterSettings,
}
SECRETS = Path("/run/secrets/sluice")


@pytest.fixture(scope="module", params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    """What one overlay applies."""
    return build(request.param)


def named(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    """The manifests of a kind, by name."""
    return {manifest["metadata"]["name"]: manifest for manifest in manifests if manifest["kind"] == kind}


def pods(manifests: list[Manifest]) -> dict[str, Any]:
    """Every pod template, by the name of what makes it."""
    return {manifest["metadata"]["name"]: pod for manifest in manifests if (pod := pod_of(manifest))}


def container(pod: dict[str, Any]) -> dict[str, Any]:
    """A pod's first container."""
    found: dict[str, Any] = pod["spec"]["containers"][0]
    return found


def test_the_api_takes_every_manifest(manifests: list[Manifest]) -> None:
    """Known kinds, known keys, right types: by the API's own document."""
    assert {f"{m['kind']} {m['metadata']['name']}: {said}" for m in manifests for said in wrong(m)} == set()


def test_the_check_finds_what_is_wrong() -> None:
    """A misspelt key, a wrong type, a missing key and an unknown kind are each found."""
    (gateway,) = (m for m in build("base") if (m["kind"], m["metadata"]["name"]) == ("Deployment", "gateway"))
    assert wrong(gateway) == []
    spec = container(pod_of(gateway) or {})
    spec["readynessProbe"] = spec.pop("readinessProbe")
    spec["lifecycle"]["preStop"]["sleep"]["seconds"] = "seven"
    del gateway["spec"]["selector"]
    said = " ".join(wrong(gateway))
    assert all(part in said for part in ("readynessProbe", "'seven'", "'selector' is a required property"))
    assert wrong({"apiVersion": "apps/v1", "kind": "Deploymint"}) == ["the API knows no ('apps/v1', 'Deploymint')"]


def test_pods_hold_no_rights(manifests: list[Manifest]) -> None:
    """As the namespace demands: never root, no capability, no escalation; and nothing is written but to volumes."""
    for name, pod in pods(manifests).items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False, name
        for each in spec["containers"]:
            assert each["securityContext"]["allowPrivilegeEscalation"] is False, name
            assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
            assert each["securityContext"].get("readOnlyRootFilesystem", name == "postgres") is True, name
            assert "memory" in each["resources"]["limits"], name


def test_they_run_what_compose_runs(manifests: list[Manifest]) -> None:
    """The same images and the same commands: what `make compose-check` ran is what a cluster runs."""
    services = resolve(BASE, profiles=("operator",))["services"]
    for name, pod in pods(manifests).items():
        image = services[name]["image"]
        ours = image.startswith("sluice:")
        for each in pod["spec"]["containers"][:1]:
            assert each["image"].partition(":")[0] == image.partition(":")[0], name
            assert ours or each["image"] == image, name
            if ours:
                assert each["command"] == services[name]["command"], name


def test_settings_are_known_and_secrets_are_files(manifests: list[Manifest], tmp_path: Path) -> None:
    """No variable is misspelt, and every secret is one of ops/secrets.sh, mounted where its variable looks."""
    subprocess.run(["sh", "ops/secrets.sh", tmp_path / "s"], cwd=ROOT, check=True, capture_output=True)
    made = {path.name for path in (tmp_path / "s").iterdir()}
    kinds: dict[str, type[Settings]] = {**SERVICES, "operator": OperatorSettings}
    known = {field.name.upper() for kind in kinds.values() for field in msgspec.structs.fields(kind)}
    for settings in (m for name, m in named(manifests, "ConfigMap").items() if name.startswith("settings-")):
        assert settings["data"].keys() <= known
    for name, pod in pods(manifests).items():
        mounted = {
            item["key"]
            for volume in pod["spec"].get("volumes", [])
            if "secret" in volume
            for item in volume["secret"]["items"]
        }
        assert mounted <= made, name
        variables = {each["name"]: each.get("value", "") for each in container(pod).get("env", [])}
        for variable, value in variables.items():
            if name in kinds:
                assert variable.removesuffix("_FILE") in known, (name, variable)
            if variable.endswith("_FILE"):
                assert Path(value).parent == SECRETS, (name, variable)
                assert Path(value).name in mounted, (name, variable)


def test_each_service_is_probed_and_drains(manifests: list[Manifest]) -> None:
    """Ready, live and started are asked apart; a stop leaves the sleep before it and the whole drain."""
    for name, kind in SERVICES.items():
        pod = pods(manifests)[name]
        spec = container(pod)
        assert spec["readinessProbe"]["httpGet"]["path"] == "/health/ready", name
        for probe in ("livenessProbe", "startupProbe"):
            assert spec[probe]["httpGet"]["path"] == "/health/live", name
        drain = getattr(kind(), f"{kind.__name__.removesuffix('Settings').lower()}_drain_seconds")
        sleep = spec.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert (sleep > 0) == (name in {"gateway", "reporter"}), name
        assert pod["spec"]["terminationGracePeriodSeconds"] >= sleep + drain + 5, name


def test_budgets_and_autoscalers_mean_something(manifests: list[Manifest]) -> None:
    """Each chooses one workload; collectors grow with their own source's lag and with CPU, all others with CPU."""
    templates = {name: pod["metadata"]["labels"] for name, pod in pods(manifests).items()}
    for name, budget in named(manifests, "PodDisruptionBudget").items():
        matching = [each for each, labels in templates.items() if matches(budget["spec"]["selector"], labels)]
        assert matching == [name]
    scalers = named(manifests, "HorizontalPodAutoscaler")
    assert scalers.keys() == {"gateway", "fb-collector", "ttk-collector", "reporter"}
    for name, scaler in scalers.items():
        assert scaler["spec"]["scaleTargetRef"]["name"] == name
        assert "replicas" not in named(manifests, "Deployment")[name]["spec"], f"{name}: every apply would reset it"
        by = {metric["type"]: metric for metric in scaler["spec"]["metrics"]}
        assert "Resource" in by, name
        assert ("External" in by) == name.endswith("-collector"), name
        if lag := by.get("External"):
            (source,) = container(pods(manifests)[name])["command"][-1:]
            assert lag["external"]["metric"]["selector"]["matchLabels"] == {"source": source}


def test_services_find_their_pods(manifests: list[Manifest]) -> None:
    """Each chooses one workload's pods, and its port is one that they have, by name and number."""
    for name, service in named(manifests, "Service").items():
        matching = [
            pod
            for pod in pods(manifests).values()
            if matches({"matchLabels": service["spec"]["selector"]}, pod["metadata"]["labels"])
        ]
        assert len(matching) == 1, name
        ports = {p["name"]: p["containerPort"] for each in matching[0]["spec"]["containers"] for p in each["ports"]}
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in ports, name
            if service["spec"].get("clusterIP") == "None":
                assert ports[port["targetPort"]] == port["port"], f"{name}: a headless service maps no ports"


# Who may speak to whom, and no one else: (from, to, port).
WAYS = {
    ("edge", "gateway", 8080),
    ("gateway", "nats", 4222),
    ("fb-collector", "nats", 4222),
    ("ttk-collector", "nats", 4222),
    ("rejected-collector", "nats", 4222),
    ("nats", "nats", 6222),
    ("operator", "nats", 4222),
    ("operator", "nats", 8222),
    ("operator", "gateway", 8080),
    ("operator", "reporter", 8081),
}
TO_DATABASE = {"fb-collector", "ttk-collector", "rejected-collector", "reporter", "migrate", "operator"}


def test_no_one_speaks_to_anybody_else(manifests: list[Manifest]) -> None:
    """The policies, taken together, allow the ways of an event and of a report, on both ends, and no other."""
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(manifests).items()}
    policies = named(manifests, "NetworkPolicy").values()
    everyone = next(policy for policy in policies if policy["metadata"]["name"] == "deny-all")["spec"]
    assert everyone == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    def allowed(direction: str, peer: str) -> set[tuple[str, str, int]]:
        found = set()
        for policy in policies:
            for rule in policy["spec"].get(direction, []):
                for other in rule.get(peer, []):
                    for here in (name for name in labels if matches(policy["spec"]["podSelector"], labels[name])):
                        for there, theirs in labels.items():
                            if "podSelector" in other and matches(other["podSelector"], theirs):
                                ends = (there, here) if direction == "ingress" else (here, there)
                                found |= {(*ends, port["port"]) for port in rule["ports"]}
        return found

    inside = {(name, "postgres", 5432) for name in TO_DATABASE if "postgres" in labels}
    assert allowed("ingress", "from") == WAYS | inside
    assert allowed("egress", "to") == WAYS
    unbounded = {
        name
        for policy in policies
        for rule in policy["spec"].get("egress", [])
        if "to" not in rule
        for name in labels
        if matches(policy["spec"]["podSelector"], labels[name])
    }
    assert unbounded == TO_DATABASE  # the database is wherever it is
