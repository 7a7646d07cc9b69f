"""The compose files keep what they promise, in every environment: read as `docker compose config` reads them."""

import os
import re
import stat
import subprocess
import sys
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.settings import CollectorSettings
from core.settings import Settings
from gateway.settings import GatewaySettings
from ops.settings import OperatorSettings
from reporter.settings import ReporterSettings
from tests.support.compose import BASE, ENVIRONMENTS, ROOT, Service, base_images, built, resolve, seconds

SERVICES: dict[str, type[Settings]] = {
    "gateway": GatewaySettings,
    "fb-collector": CollectorSettings,
    "ttk-collector": CollectorSettings,
    "rejected-collector": CollectorSettings,
    "reporter": ReporterSettings,
}
OURS = (*SERVICES, "migrate", "operator", "stand-in")
SCALED = ("gateway", "fb-collector", "ttk-collector", "rejected-collector")
# What ends by itself, and what serves nothing.
UNCHECKED = {"migrate", "operator", "stand-in", "publisher", "edge-check"}
ENDS = {"migrate", "edge-check"}
MAX_CPUS = 2  # a limit above the machine's number of cores fails the start
GIVEN = {"publisher"}  # not ours to pin
EXTERNAL_SECRETS = {"edge_certificate", "edge_certificate_key"}


def project(environment: str) -> dict[str, Any]:
    """One environment, with every profile."""
    return resolve(
        BASE,
        f"docker-compose.{environment}.yml",
        env={"SLUICE_IMAGE": "sluice:1.0.0"},
        profiles=("publisher", "stand-in", "operator"),
    )


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def services(request: pytest.FixtureRequest) -> dict[str, Service]:
    """The services of one environment."""
    found: dict[str, Service] = project(request.param)["services"]
    return found


def test_every_container_is_bounded_and_comes_back(services: dict[str, Service]) -> None:
    """A restart policy, a first process that reaps, bounded logs and resources, and no way to new privileges.

    Memory is bounded without swap beside it, and CPU so that two cores are enough.
    """
    for name, service in services.items():
        assert service["restart"] in {"always", "unless-stopped", "on-failure"} or name == "edge-check", name
        assert service["init"] is True, name
        assert service["logging"]["options"] == {"max-size": "20m", "max-file": "5"}, name
        limits = service["deploy"]["resources"]["limits"]
        assert 0 < limits["cpus"] <= MAX_CPUS, name
        assert int(service["memswap_limit"]) == int(limits["memory"]) > 0, name
        assert 0 < limits["pids"] <= 1024, name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_all_but_the_database_write_nowhere(services: dict[str, Service]) -> None:
    """A read-only root and no capability: of ours, and of every image that needs none. Ours are never root."""
    for name in services.keys() - {"postgres", "publisher"}:
        assert services[name]["read_only"] is True, name
        assert services[name]["cap_drop"] == ["ALL"], name
    for name in OURS:
        assert services[name]["user"] == "10001:10001", name


def test_each_waits_until_what_it_needs_is_healthy(services: dict[str, Service]) -> None:
    """A dependency is healthy, or has ended well."""
    for name, service in services.items():
        assert ("test" in service.get("healthcheck", {})) == (name not in UNCHECKED), name
        for needed, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if needed in ENDS else "service_healthy"
            assert how["condition"] == wanted, (name, needed)


def test_health_checks_use_no_proxy(services: dict[str, Service]) -> None:
    """An engine may give each container a proxy (`HTTP_PROXY`), which knows nothing of the container's own ports."""
    for name, service in services.items():
        check = service.get("healthcheck", {}).get("test", [])
        if "wget" in check:
            assert check[check.index("-Y") + 1] == "off", name
        else:
            assert not check or check[1] == "pg_isready" or check[1:5] == ["python", "-I", "-S", "core/probe.py"], name


def test_a_health_check_waits_for_a_busy_machine(services: dict[str, Service]) -> None:
    """10 s an answer: with 3 s, containers on contended cores were reported unhealthy, and `up` failed."""
    for name, service in services.items():
        if "test" in (check := service.get("healthcheck", {})):
            assert seconds(check["timeout"]) >= 10, name


# Who shares a network with whom, of what must not: as ops/k8s/base/network.yaml has it.
APART = (
    ("gateway", {"postgres", "reporter", "fb-collector", "ttk-collector", "rejected-collector", "migrate"}),
    ("edge", {"postgres", "nats", "fb-collector", "ttk-collector", "rejected-collector"}),
    ("reporter", {"nats", "gateway"}),
)


def test_networks_keep_apart_what_does_not_speak(services: dict[str, Service]) -> None:
    """A sender reaches only the edge, a gateway neither the database nor the reporter."""
    networks = {name: set(service.get("networks") or ()) for name, service in services.items()}
    senders = {"stand-in", "publisher"}
    apart = [*APART, *((sender, services.keys() - senders - {"edge"}) for sender in senders)]
    for name, others in apart:
        shared = {other for other in others if networks[name] & networks[other]}
        assert not shared, f"{name} reaches {shared}"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_a_number_of_replicas_outlives_the_next_up(environment: str) -> None:
    """It is a variable of the files: `--scale` holds only for one command, and `compose run` would set it back."""
    settings = {f"{name}_REPLICAS": "5" for name in ("GATEWAY", "FB_COLLECTOR", "TTK_COLLECTOR")}
    files = (BASE, f"docker-compose.{environment}.yml")
    found = resolve(*files, env={"SLUICE_IMAGE": "sluice:1.0.0", **settings})["services"]
    assert [found[name]["deploy"]["replicas"] for name in ("gateway", "fb-collector", "ttk-collector")] == [5, 5, 5]


def test_the_edge_is_published_on_ipv4(services: dict[str, Service]) -> None:
    """Over IPv6 an engine's proxy is the address of all senders, who would share the bounds per sender."""
    for port in services["edge"]["ports"]:
        assert port["host_ip"] in {"0.0.0.0", "127.0.0.1"}  # compared, not bound


def test_an_edge_with_tls_starts_after_its_files_were_checked() -> None:
    """An edge that cannot read its key restarts for ever, and `up --detach` would report success."""
    files = (BASE, "docker-compose.production.yml")
    found = resolve(*files, env={"SLUICE_IMAGE": "sluice:1.0.0"})["services"]
    check, edge = found["edge-check"], found["edge"]
    assert edge["depends_on"]["edge-check"]["condition"] == "service_completed_successfully"
    assert (check["user"], check["image"]) == (edge["user"], edge["image"])
    assert {secret["source"] for secret in check["secrets"]} == {secret["source"] for secret in edge["secrets"]}
    assert {volume["source"] for volume in check["volumes"]} == {volume["source"] for volume in edge["volumes"]}


def test_a_stop_leaves_time_to_drain(services: dict[str, Service]) -> None:
    """The engine kills later than a service that takes all of its drain, by default settings."""
    for name, kind in SERVICES.items():
        drain = getattr(kind(), f"{kind.__name__.removesuffix('Settings').lower()}_drain_seconds")
        assert seconds(services[name]["stop_grace_period"]) >= drain + 5, name


def test_every_setting_reaches_its_service(services: dict[str, Service]) -> None:
    """What .env says counts: a setting is passed on or fixed, and nothing else is passed."""
    kinds: dict[str, type[Settings]] = {**SERVICES, "operator": OperatorSettings}
    for name, kind in kinds.items():
        passed = {variable.removesuffix("_FILE") for variable in services[name]["environment"]}
        # Migrations are a step of their own: no service holds the owner's DSN, but operators do.
        owners = set() if name == "operator" else {"SLUICE_MIGRATE_DSN"}
        known = {field.name.upper() for field in msgspec.structs.fields(kind)} - owners
        assert passed == known, f"{name}: make docker-compose.yml pass on every setting, and only those"


def test_what_is_scaled_has_no_name_or_port_of_its_own(services: dict[str, Service]) -> None:
    """Replicas would fight for either."""
    for name in SCALED:
        assert "container_name" not in services[name], name
        assert "ports" not in services[name], name


def test_images_are_pinned(services: dict[str, Service]) -> None:
    """By a version; the given publisher's image is not ours to pin."""
    for name in services.keys() - GIVEN:
        _, _, tag = services[name]["image"].partition(":")
        assert tag and tag != "latest", name
    assert base_images().keys() == {"PYTHON_IMAGE", "RUST_IMAGE"}
    assert not [image for image in base_images().values() if ":" not in image or image.endswith("latest")]


def test_what_is_mounted_is_there(services: dict[str, Service]) -> None:
    """An engine would make an empty folder of a missing file."""
    for name, service in services.items():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind":
                assert Path(volume["source"]).exists(), (name, volume["source"])
                assert volume["read_only"] is True, name


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_secrets_are_files_that_the_script_makes(environment: str, tmp_path: Path) -> None:
    """Each secret of the files is made by ops/secrets.sh or comes from outside, and none stands in a variable."""
    found = project(environment)
    folder = tmp_path / "secrets"
    subprocess.run(["sh", "ops/secrets.sh", folder], cwd=ROOT, check=True, capture_output=True)
    made = {path.name for path in folder.iterdir()}
    assert found["secrets"].keys() - EXTERNAL_SECRETS == made
    for name, service in found["services"].items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASS|SECRET|DSN|TOKEN|CREDS|NKEY", variable):
                if value is None and variable.endswith("_FILE"):
                    continue  # the path of a mount of the user's own, where .env names one
                assert str(value).startswith("/run/secrets/"), (name, variable)
                assert Path(value).name in {secret["source"] for secret in service["secrets"]}, (name, variable)


def test_secrets_stay_as_they_are(tmp_path: Path) -> None:
    """Made once, unlike each other; no one else gets into the folder, and every container may read its own file."""
    folder = tmp_path / "secrets"
    make = ["sh", "ops/secrets.sh", str(folder)]
    subprocess.run(make, cwd=ROOT, check=True, capture_output=True)
    first = {path.name: path.read_text() for path in folder.iterdir()}
    subprocess.run(make, cwd=ROOT, check=True, capture_output=True)
    assert {path.name: path.read_text() for path in folder.iterdir()} == first
    filled = [text for text in first.values() if text.strip()]
    assert len(set(filled)) == len(filled)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o444}
    key = folder / "edge_certificate_key"
    key.touch(0o600)  # as openssl writes it
    subprocess.run(make, cwd=ROOT, check=True, capture_output=True)
    assert stat.S_IMODE(key.stat().st_mode) == 0o444


def test_production_has_no_stand_in_and_names_its_image() -> None:
    """No one sends but the world outside; and an image is chosen, never built on the way."""
    files = (BASE, "docker-compose.production.yml")
    found = resolve(*files, env={"SLUICE_IMAGE": "sluice:1.0.0"})["services"]
    assert not {"stand-in", "publisher"} & found.keys()
    assert not [name for name, service in found.items() if service.get("build")]
    with pytest.raises(AssertionError, match="SLUICE_IMAGE is missing a value"):
        resolve(*files)


def test_the_example_names_every_variable_of_the_files() -> None:
    """.env.example has each variable that the compose files ask for, and no other under that heading."""
    settings = {field.name.upper() for kind in SERVICES.values() for field in msgspec.structs.fields(kind)}
    requested = set()
    for path in ROOT.glob("docker-compose*.yml"):
        requested |= set(re.findall(r"\$\{([A-Z_]+)", path.read_text()))
    _, _, section = (ROOT / ".env.example").read_text().partition("# --- Compose ---\n")
    named = re.findall(r"^([A-Z_]+)=", section.partition("\n# --- ")[0], re.MULTILINE)
    assert sorted(named) == sorted(requested - settings)


def test_the_dockerfile_is_sound() -> None:
    """hadolint finds nothing; what is copied is what the build context holds; every package of a service is in it."""
    hadolint = Path(sys.executable).with_name("hadolint")
    ran = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    text = (ROOT / "Dockerfile").read_text()
    assert text.index("ARG VERSION") > text.rindex("RUN "), "each version would have layers of its own"
    copied = {source.partition("/")[0] for source in re.findall(r"^COPY (?!--from)(\S+) ", text, re.MULTILINE)}
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == allowed
    assert {"core", "sql", "gateway", "collector", "reporter"} <= copied
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE) == ["10001:10001"]


# Imports modules where nothing else than what an image holds can be imported.
IMPORTING = """
import importlib, sys
absent, *wanted = sys.argv[1:]
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent.split(","):
            raise ModuleNotFoundError(f"the image holds no {name}", name=name)
sys.meta_path.insert(0, Absent())
for name in wanted:
    importlib.import_module(name)
"""


@pytest.mark.parametrize(
    ("modules", "beside"),
    [
        (
            [
                "gateway.workers",
                "gateway.app",
                "collector.__main__",
                "reporter.__main__",
                "core.migrate",
                "ops.__main__",
            ],
            set(),
        ),
        (["bench.publisher"], {"bench"}),
    ],
)
def test_the_images_hold_all_that_their_commands_import(modules: list[str], beside: set[str]) -> None:
    """Of what is installed they need only what requirements.lock pins; of ours, only what is copied."""
    locked = set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    unlocked = {
        name
        for name, found in packages_distributions().items()
        if not {distribution.lower().replace("_", "-") for distribution in found} & locked
    }
    copied = set(re.findall(r"^COPY (\w+) \w+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)) - {"bench"} | beside
    ours = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {"tests"}
    assert {"gateway", "ops", "tests"} <= ours
    command = [sys.executable, "-c", IMPORTING, ",".join((unlocked | ours) - copied), *modules]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    ran = subprocess.run([*command, "pytest"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "the image holds no pytest" in ran.stderr


def test_compose_says_what_is_wrong(tmp_path: Path) -> None:
    """The check can fail: a key that compose does not know, and a dependency that is not there."""
    wrong = tmp_path / "wrong.yml"
    wrong.write_text("services: {one: {image: one, restrat: always}}\n")
    with pytest.raises(AssertionError, match="restrat"):
        resolve(str(wrong))
    wrong.write_text("services: {one: {image: one, depends_on: [two]}}\n")
    with pytest.raises(AssertionError, match="two"):
        resolve(str(wrong))


@pytest.mark.parametrize("arguments", [["core.probe", "http://127.0.0.1:1"], ["core.probe"], ["core.migrate"]])
def test_the_containers_own_commands_fail_in_words(arguments: list[str]) -> None:
    """A probe that no one answers and a migration without a DSN end with a code and one sentence."""
    ran = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    code, word = {
        ("core.probe", 2): (1, "127.0.0.1:1"),
        ("core.probe", 1): (2, "usage"),
        ("core.migrate", 1): (2, "SLUICE_MIGRATE_DSN"),
    }[(arguments[0], len(arguments))]
    assert ran.returncode == code
    assert word in "".join(chain(ran.stdout, ran.stderr))
    assert "Traceback" not in ran.stderr


def test_the_checker_is_built_from_pinned_sources() -> None:
    """Its versions stand in go.mod and their checksums in go.sum."""
    assert os.access(built("compose"), os.X_OK)
    assert "github.com/compose-spec/compose-go/v2 v2" in (ROOT / "ops" / "tools" / "go.sum").read_text()
