"""Settings: from the environment or from files, typed and bounded; .env.example reports the same."""

import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from collector.maintenance.maintain import check_retention
from collector.settings import CollectorSettings
from core.errors import Misconfigured
from core.settings import RENAMED, Settings, load, unknown_variables
from gateway.settings import GatewaySettings
from ops.settings import EVERY, OperatorSettings
from reporter.settings import ReporterSettings

EXAMPLE = Path(__file__).parents[2] / ".env.example"
SERVICES: dict[str, type[Settings]] = {
    "Every service": Settings,
    "Gateway": GatewaySettings,
    "Collector": CollectorSettings,
    "Reporter": ReporterSettings,
    "Operator": OperatorSettings,
}
COMPOSE = "Compose"  # variables of the compose files, which tests/contract/test_compose.py holds to those


def described(kind: type[Settings]) -> dict[str, tuple[Any, str]]:
    """Each variable with its default and its description, as the settings declare them."""
    hints = get_type_hints(kind, include_extras=True)
    return {
        field.name.upper(): (
            field.default,
            next(
                meta.description for meta in _metas(hints[field.name]) if getattr(meta, "description", None) is not None
            ),
        )
        for field in msgspec.structs.fields(kind)
    }


def _metas(hint: Any) -> list[Any]:
    arguments = get_args(hint)
    return [item for part in arguments for item in (part, *_metas(part)) if isinstance(item, msgspec.Meta)]


def example() -> list[tuple[str, str, str, str]]:
    """The lines of .env.example: group, variable, value, and the comment above it."""
    found, group, comment = [], "", ""
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        if heading := re.fullmatch(r"# --- (.+) ---", line):
            group = heading[1]
        elif line.startswith("# "):
            comment = line[2:]
        elif "=" in line and group != COMPOSE:
            name, _, value = line.partition("=")
            found.append((group, name, value, comment))
    return found


def test_the_example_says_what_the_code_says() -> None:
    """Each setting stands in the group of a service that reads it, with the description that the code has."""
    for group, name, _, comment in example():
        assert described(SERVICES[group])[name][1] == comment


def test_the_example_lists_every_setting_once() -> None:
    """A setting that is missing, that no service reads or that stands twice is found here."""
    names = [name for _, name, _, _ in example()]
    assert sorted(names) == sorted({name for kind in SERVICES.values() for name in described(kind)})


@pytest.mark.parametrize("kind", SERVICES.values())
def test_the_example_gives_the_defaults(kind: type[Settings]) -> None:
    """A copy of .env.example changes nothing."""
    assert load(kind, {name: value for _, name, value, _ in example()}) == kind()


def test_nothing_set_gives_the_defaults() -> None:
    """No variable is needed to start; other programs' variables are not ours."""
    assert load(GatewaySettings, {"PATH": "/bin", "GATEWAY_PORTS": "x"}) == GatewaySettings()


def test_an_empty_variable_means_the_default() -> None:
    """An empty line in a .env file is not an empty value, nor the name of a file."""
    assert load(CollectorSettings, {"COLLECTOR_DSN": "", "COLLECTOR_BATCH_ROWS": ""}) == CollectorSettings()
    assert load(CollectorSettings, {"COLLECTOR_DSN_FILE": ""}) == CollectorSettings()
    dsn = "postgresql://x@db/sluice"
    assert load(CollectorSettings, {"COLLECTOR_DSN": dsn, "COLLECTOR_DSN_FILE": ""}).collector_dsn == dsn


def test_values_are_read_as_their_types() -> None:
    """Whole numbers, decimals and words are read, and the rest keeps its default."""
    got = load(CollectorSettings, {"COLLECTOR_PORT": "9000", "COLLECTOR_ACK_WAIT_SECONDS": "2.5", "LOG_LEVEL": "debug"})
    assert (got.collector_port, got.collector_ack_wait_seconds, got.log_level) == (9000, 2.5, "debug")
    assert got.retention_days == CollectorSettings().retention_days


@pytest.mark.parametrize("content", ["postgresql://x:secret@db/sluice", "postgresql://x:secret@db/sluice\n"])
def test_a_file_gives_a_secret(tmp_path: Path, content: str) -> None:
    """`<NAME>_FILE` names a file with the value; the line's end does not belong to it."""
    (tmp_path / "dsn").write_text(content)
    got = load(CollectorSettings, {"COLLECTOR_DSN_FILE": str(tmp_path / "dsn")})
    assert got.collector_dsn == "postgresql://x:secret@db/sluice"


def test_a_file_may_stand_beside_an_empty_line(tmp_path: Path) -> None:
    """A copy of .env.example, which lists a secret as an empty line, takes the secret's file as one more line."""
    (tmp_path / "secrets").write_text("s-1 s-2")
    copied = {name: value for _, name, value, _ in example()}
    got = load(GatewaySettings, {**copied, "GATEWAY_FACEBOOK_SECRETS_FILE": str(tmp_path / "secrets")})
    assert msgspec.structs.asdict(got)["gateway_facebook_secrets"] == "s-1 s-2"


def test_every_setting_may_come_from_a_file(tmp_path: Path) -> None:
    """The _FILE form works for numbers and words as for secrets."""
    for kind in SERVICES.values():
        environment = {}
        for name, (default, _) in described(kind).items():
            (tmp_path / name).write_text("" if default is None else str(default))
            environment[f"{name}_FILE"] = str(tmp_path / name)
        assert load(kind, environment) == kind()


def test_a_value_and_a_file_together_are_rejected(tmp_path: Path) -> None:
    """Which of the two counts is not guessed."""
    (tmp_path / "url").write_text("nats://a:1")
    with pytest.raises(Misconfigured, match="NATS_URL and NATS_URL_FILE are both set"):
        load(Settings, {"NATS_URL": "nats://b:1", "NATS_URL_FILE": str(tmp_path / "url")})


@pytest.mark.parametrize("broken", ["missing", "folder", "binary"])
def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path, broken: str) -> None:
    """A secret that was not mounted names its variable and its path."""
    path = tmp_path / "secret"
    if broken == "folder":
        path.mkdir()
    if broken == "binary":
        path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Misconfigured, match=f"COLLECTOR_DSN_FILE: cannot read {path}"):
        load(CollectorSettings, {"COLLECTOR_DSN_FILE": str(path)})


@pytest.mark.parametrize(
    ("kind", "variable", "value", "said"),
    [
        (Settings, "LOG_LEVEL", "loud", "one of debug, error, info, warning, for example LOG_LEVEL=info"),
        (Settings, "MAX_EVENT_AGE_DAYS", "0", "a whole number from 1 to 365, for example MAX_EVENT_AGE_DAYS=7"),
        (Settings, "MAX_EVENT_AGE_DAYS", "seven", "a whole number"),
        (Settings, "MAX_EVENT_AGE_DAYS", "7.5", "a whole number"),
        (Settings, "MAX_EVENT_AGE_DAYS", "99999999999999999999999", "a whole number from 1 to 365"),
        (Settings, "STREAM_REPLICAS", "6", "from 1 to 5"),
        (Settings, "OTEL_EXPORTER_OTLP_ENDPOINT", "otel-collector:4318", "a URL that begins with http:// or https://"),
        (Settings, "OTEL_TRACES_SAMPLER", "sometimes", "one of always_off, "),
        (Settings, "OTEL_TRACES_SAMPLER_ARG", "1.5", "a number from 0 to 1"),
        (GatewaySettings, "GATEWAY_PORT", "65536", "from 0 to 65535"),
        (GatewaySettings, "GATEWAY_PORT", "-1", "from 0 to 65535"),
        (GatewaySettings, "GATEWAY_PUBLISH_TIMEOUT_SECONDS", "nan", "a number above 0 to 86400"),
        (GatewaySettings, "GATEWAY_PUBLISH_TIMEOUT_SECONDS", "inf", "a number above 0 to 86400"),
        (GatewaySettings, "GATEWAY_PUBLISH_TIMEOUT_SECONDS", "0", "a number above 0 to 86400"),
        (GatewaySettings, "GATEWAY_CPU_PINNING", "perhaps", "one of auto, off"),
        (CollectorSettings, "COLLECTOR_BATCH_ROWS", "200001", "from 1 to 200000"),
        (CollectorSettings, "RETENTION_DAYS", "4", "from 5 to 3650"),
        (ReporterSettings, "REPORTER_CONNECTIONS", "101", "from 1 to 100"),
        (
            OperatorSettings,
            "GATEWAY_URL",
            "gateway:8080",
            "http:// or https://, for example GATEWAY_URL=http://127",
        ),
    ],
)
def test_a_bad_value_names_its_variable(kind: type[Settings], variable: str, value: str, said: str) -> None:
    """The message has the variable's name, what is allowed and an example, and never the value."""
    with pytest.raises(Misconfigured, match=rf"^{variable}: must be .*{re.escape(said)}") as caught:
        load(kind, {variable: value})
    if value != "0":  # which may be the least allowed
        assert value not in str(caught.value).removeprefix(variable)


@pytest.mark.parametrize(
    "dsn",
    [
        "dsn",
        "secret://u@h/x",
        "host=h password=secret",
        "postgresql://u:secret/1@h/x",
        "postgresql://u:secret#1@h/x",
        "postgresql://u:secret?1@h/x",
        "postgresql://[u:secret@h/x",
        "postgresql://u@h:secret/x",
    ],
)
def test_a_dsn_that_asyncpg_would_show_is_rejected_before(dsn: str) -> None:
    """asyncpg's error for such a DSN holds a part of it, a password's for instance, and names no variable."""
    with pytest.raises(Misconfigured, match=r"^COLLECTOR_DSN: .*begins with postgresql://") as caught:
        load(CollectorSettings, {"COLLECTOR_DSN": dsn})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgres://u:p%2F%23%3F@h/x",
        "postgresql://u:a@b:c d@h/x",
        "postgresql:///x?host=/run/postgresql",
        "postgresql://%2Frun%2Fpostgresql/x",
        "postgresql://u:p@h1:5432,h2:5433/x?target_session_attrs=read-write&options=-c%20a%3Db",
        "postgresql://u:p@[::1]:5432/x?sslmode=verify-full",
    ],
)
def test_a_dsn_that_asyncpg_reads_is_accepted(dsn: str) -> None:
    """Sockets, several servers, IPv6, parameters, and passwords that need no encoding."""
    assert load(CollectorSettings, {"COLLECTOR_DSN": dsn}).collector_dsn == dsn


def test_every_bad_value_is_reported_at_once() -> None:
    """One start is enough to find all of them."""
    bad = {"GATEWAY_PORT": "secret-1", "GATEWAY_WORKERS": "secret-2", "LOG_LEVEL": "secret-3"}
    with pytest.raises(Misconfigured) as caught:
        load(GatewaySettings, bad)
    assert {part.partition(":")[0] for part in str(caught.value).split(" | ")} == bad.keys()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ('"8080"', "remove the quotes"),
        ("'8080", "remove the quotes"),
        ("8080\u200b", "invisible characters"),
        ("80 80", "white space"),
    ],
)
def test_what_cannot_be_seen_is_reported(value: str, why: str) -> None:
    """A value that looks right on a screen: the message says what is wrong with it."""
    with pytest.raises(Misconfigured, match=f"^GATEWAY_PORT: .*{why}"):
        load(GatewaySettings, {"GATEWAY_PORT": value})


@pytest.mark.parametrize("written", ["{}\r", "{}\r\n", " {}", "{}\t", "\u00a0{}"])
def test_white_space_around_a_value_is_not_part_of_it(tmp_path: Path, written: str) -> None:
    """As an editor of Windows leaves it in a .env file; in a file as in a variable, and in the path of a file."""
    (tmp_path / "dsn").write_bytes(written.format("postgresql://x@db/sluice").encode())
    got = load(
        CollectorSettings,
        {"COLLECTOR_PORT": written.format("9000"), "COLLECTOR_DSN_FILE": written.format(tmp_path / "dsn")},
    )
    assert (got.collector_port, got.collector_dsn) == (9000, "postgresql://x@db/sluice")


@pytest.mark.parametrize("secret", ['"s-1"', "'s-1'"])
def test_a_secret_in_quotes_is_rejected(secret: str) -> None:
    """As `docker --env-file` passes it on: no signature would ever be right."""
    with pytest.raises(Misconfigured, match=r"^GATEWAY_TIKTOK_SECRETS: remove the quotes") as caught:
        load(GatewaySettings, {"GATEWAY_TIKTOK_SECRETS": secret})
    assert "s-1" not in str(caught.value)


def test_a_secret_under_the_name_of_its_file_is_not_shown() -> None:
    """A password that was set as NATS_PASSWORD_FILE is in no log."""
    with pytest.raises(Misconfigured, match="NATS_PASSWORD_FILE: cannot read the file that it names") as caught:
        load(Settings, {"NATS_PASSWORD_FILE": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_unknown_variables_are_reported_with_the_nearest_name() -> None:
    """What begins like a setting and is none; not what others set, nor what Kubernetes does for a Service."""
    links = {
        "GATEWAY_PORT_8080_TCP_ADDR": "",
        "NATS_SERVICE_PORT_CLIENT": "",
        "NATS_SERVICE_HOST": "",
        "REPORTER_PORT": "",
    }
    ours = dict.fromkeys((*(name for _, name, _, _ in example()), "NATS_URL_FILE", "SLUICE_NATS_PORT"), "")
    assert unknown_variables(*EVERY, environment={"PATH": "", "MAX_AGE": "", **links, **ours}) == {}
    wrong = {"GATEWAY_WORKER": "4", "COLLECTOR_DNS_FILE": "x", "SLUICE_FLUX": "x"}
    assert unknown_variables(*EVERY, environment=wrong) == {
        "GATEWAY_WORKER": "GATEWAY_WORKERS",
        "COLLECTOR_DNS_FILE": "COLLECTOR_DSN_FILE",
        "SLUICE_FLUX": None,
    }
    compose = [line.partition("=")[0] for line in EXAMPLE.read_text().splitlines() if re.match("[A-Z]", line)]
    assert unknown_variables(*EVERY, environment=dict.fromkeys(compose, "")) == {}, (
        "a copy of the example has no unknown variable"
    )


@pytest.mark.parametrize("kind", [Settings, GatewaySettings, CollectorSettings, ReporterSettings])
def test_a_service_knows_the_example(kind: type[Settings]) -> None:
    """A service that has the settings of all services in its environment warns of none of them."""
    assert unknown_variables(kind, environment=dict.fromkeys((name for _, name, _, _ in example()), "")) == {}


def test_retention_outlives_what_is_accepted() -> None:
    """A day may only be dropped when no event for it can be accepted any more, with four days in hand."""
    check_retention(CollectorSettings(max_event_age_days=7, retention_days=11))
    with pytest.raises(Misconfigured, match="RETENTION_DAYS: has to be at least 11, 4 more than MAX_EVENT_AGE_DAYS"):
        check_retention(CollectorSettings(max_event_age_days=7, retention_days=10))


@pytest.mark.parametrize("suffix", ["", "_FILE"])
@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_renamed_setting_stops_the_start(old: str, new: str, suffix: str) -> None:
    """A setting under its old name is an error that names the new one, for the services that have it alone."""
    having = [settings for settings in SERVICES.values() if new.lower() in settings.__struct_fields__]
    assert having, "the new name is a setting"
    for settings in having:
        with pytest.raises(Misconfigured, match=f"{old} was renamed: set {new} instead"):
            load(settings, {old + suffix: "1"})
