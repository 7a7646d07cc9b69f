"""Settings: each is an environment variable, typed, bounded and with a default where one is safe.

A service's own settings are in its `settings.py`; here is what several share.

A field `gateway_port` is read from `GATEWAY_PORT`. Where `GATEWAY_PORT_FILE` is set instead, the value is
that file's content (Docker and Kubernetes secrets). `.env.example` lists every field; a test holds both equal.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
import structlog
from msgspec import Meta

from core.allowed import QUOTES, allowed, hint
from core.errors import Misconfigured

MEBIBYTE = 1024 * 1024

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Positive = Annotated[int, Meta(ge=1)]
Url = Annotated[str, Meta(pattern="^https?://[^/]", title="a URL that begins with http:// or https://")]
# asyncpg reads what follows / ? # [ in a password as a port or an address, and shows it in its error.
_HOST: Final = r"(\[[0-9A-Fa-f:.]+\]|[^/?#@:,\[\]\s]*)(:[0-9]*)?"
Dsn = Annotated[
    str,
    Meta(
        pattern=rf"^postgres(ql)?://([^/?#\[\]]*@)?{_HOST}(,{_HOST})*([/?][^#\s]*)?$",
        title="a URL that begins with postgresql://, with / ? # [ ] in a user or password percent-encoded",
    ),
]
OwnerDsn = Annotated[
    Dsn | None, Meta(description="PostgreSQL, as the owner: migrations run at start; unset: wait for them")
]
TracesSampler = Literal[
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What every service shares."""

    log_level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="Least severe log line")] = (
        "info"
    )
    nats_url: Annotated[
        str, Meta(description="NATS servers, comma separated; user and password percent-encoded; tls:// for TLS")
    ] = "nats://127.0.0.1:4222"
    nats_user: Annotated[str | None, Meta(description="User at NATS, where NATS_URL names none")] = None
    nats_password: Annotated[str | None, Meta(description="Password of NATS_USER")] = None
    nats_creds: Annotated[
        str | None, Meta(description="Instead: what a .creds file holds (NATS_CREDS_FILE is its path)")
    ] = None
    nats_nkey: Annotated[str | None, Meta(description="Instead: the seed of a user's nkey (NATS_NKEY_FILE)")] = None
    nats_ca: Annotated[
        str | None, Meta(description="CA of the NATS servers in PEM form (NATS_CA_FILE); TLS is required then")
    ] = None
    nats_cert: Annotated[
        str | None, Meta(description="Our certificate for NATS servers that ask for one, in PEM form (NATS_CERT_FILE)")
    ] = None
    nats_key: Annotated[str | None, Meta(description="Its key (NATS_KEY_FILE)")] = None
    max_event_age_days: Annotated[
        int,
        Meta(ge=1, le=365, description="An event older than this is rejected, at the door and when storing"),
    ] = 7
    max_event_ahead_seconds: Annotated[
        int, Meta(ge=0, le=86_400, description="How far an event's timestamp may lie ahead of our clock")
    ] = 3600
    stream_max_bytes: Annotated[
        int,
        Meta(
            ge=MEBIBYTE,
            description="Room of each EVENTS_ stream; the default holds 30 minutes of the publisher's load",
        ),
    ] = 11 * 1024 * MEBIBYTE
    rejected_stream_max_bytes: Annotated[int, Meta(ge=MEBIBYTE, description="Room of the stream REJECTED")] = (
        1024 * MEBIBYTE
    )
    stream_replicas: Annotated[
        int, Meta(ge=1, le=5, description="Copies of each stream: 3 on a NATS cluster, 1 on a single server")
    ] = 1
    otel_exporter_otlp_endpoint: Annotated[
        Url | None,
        Meta(description="Where spans are sent by OTLP/HTTP, like http://otel-collector:4318; unset: none are made"),
    ] = None
    otel_traces_sampler: Annotated[
        TracesSampler, Meta(description="Which traces are sampled; parentbased_ ones go by the sender's traceparent")
    ] = "parentbased_always_on"
    otel_traces_sampler_arg: Annotated[
        float, Meta(ge=0, le=1, description="Share of traces that samplers by ratio sample")
    ] = 1.0


# How one system's NATS is reached: they belong together, so who sets one of them sets or clears all of them.
NATS_LOGIN: Final = (
    "NATS_URL",
    "NATS_USER",
    "NATS_PASSWORD",
    "NATS_CREDS",
    "NATS_NKEY",
    "NATS_CA",
    "NATS_CERT",
    "NATS_KEY",
)

PREFIXES: Final = ("SLUICE_", "NATS_")
SERVICE_PREFIXES: Final = ("GATEWAY_", "COLLECTOR_", "REPORTER_")
# What other programs of ours read: migrations, operators' commands, docker-compose, the local stack, NATS, tests.
ELSEWHERE: Final = frozenset(
    {
        *("SLUICE_ENVIRONMENT", "SLUICE_VERSION", "SLUICE_IMAGE", "SLUICE_REQUIRE_TOOLS"),
        *("SLUICE_MIGRATE_DSN", "GATEWAY_URL", "REPORTER_URL", "NATS_MONITOR_URL"),
        *("SLUICE_FAULTS", "SLUICE_FAULTS_FOLDER", "SLUICE_FAULTS_REPORT", "SLUICE_FOLDER", "SLUICE_RUNBOOKS_URL"),
        *("SLUICE_POSTGRES_PORT", "SLUICE_NATS_PORT", "SLUICE_NATS_MONITOR_PORT"),
        *("NATS_HOST", "NATS_PORT", "NATS_MONITOR_PORT", "NATS_MAX_FILE_STORE", "NATS_SYNC_INTERVAL"),
    }
)
# What Kubernetes sets in every pod for a Service that is called gateway, reporter or nats.
_SERVICE_LINK: Final = re.compile(r"_SERVICE_(HOST|PORT)|_PORT_[0-9]+_(TCP|UDP)|_PORT$")

RENAMED: Final = {
    "GATEWAY_PIN": "GATEWAY_CPU_PINNING",
    "GATEWAY_PIN_OFFSET": "GATEWAY_CPU_PINNING_OFFSET",
    "GATEWAY_PUBLISH_SECONDS": "GATEWAY_PUBLISH_TIMEOUT_SECONDS",
    "GATEWAY_SIGNATURE_SECONDS": "GATEWAY_SIGNATURE_TOLERANCE_SECONDS",
    "LETTER_RETENTION_DAYS": "DEAD_LETTER_RETENTION_DAYS",
    "REFUSED_STREAM_MAX_BYTES": "REJECTED_STREAM_MAX_BYTES",
    "REPORTER_STATEMENT_SECONDS": "REPORTER_STATEMENT_TIMEOUT_SECONDS",
}
"""Settings of earlier versions. A service that finds one does not start: it would silently use the default instead."""

log = structlog.get_logger()

AnySettings = TypeVar("AnySettings", bound=Settings)


def nats_at(url: str) -> dict[str, str]:
    """The variables for a NATS that this URL is enough for, whatever the environment says of another one."""
    return {**{f"{name}{suffix}": "" for name in NATS_LOGIN for suffix in ("", "_FILE")}, "NATS_URL": url}


def load(settings_type: type[AnySettings], environment: Mapping[str, str] = os.environ) -> AnySettings:
    """Read the settings of one service. White space around a value, also the line end of a file, does not belong to it.

    Raises Misconfigured with each wrong variable's name and what is allowed, never with what it holds.
    """
    values: dict[str, Any] = {}
    wrong = [
        f"{old} was renamed: set {new} instead"
        for old, new in RENAMED.items()
        if new.lower() in settings_type.__struct_fields__ and (environment.get(old) or environment.get(f"{old}_FILE"))
    ]
    for field in msgspec.structs.fields(settings_type):
        variable = field.name.upper()
        if not (value := _read(variable, environment)):
            continue
        if len(value) > 1 and value[0] == value[-1] and value[0] in QUOTES:
            wrong.append(f"{variable}: is in quotes, which are part of it here: write it without")
            continue
        try:
            values[field.name] = msgspec.convert(value, field.type, strict=False)
        except msgspec.ValidationError:
            example = f", like {variable}={field.default}" if field.default is not None else ""
            wrong.append(f"{variable}: has to be {allowed(field.type)}{example}{hint(value)}")
    if wrong:
        raise Misconfigured(" | ".join(wrong))
    return settings_type(**values)


def _read(variable: str, environment: Mapping[str, str]) -> str:
    """The value of a variable or of its file; empty where neither is set. Raises Misconfigured."""
    value, path = (environment.get(name, "").strip() for name in (variable, f"{variable}_FILE"))
    if not path:
        return value  # an empty line in a .env file means the default
    if value:
        raise Misconfigured(f"{variable} and {variable}_FILE are both set: keep one")
    try:
        return Path(path).read_text(encoding="utf-8-sig").strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        # What begins otherwise may be the secret itself, set under the wrong name.
        which = path if path.startswith(("/", "./", "../")) else "the file that it names"
        raise Misconfigured(f"{variable}_FILE: cannot read {which}: {why}") from error


def variables(*settings_types: type[Settings]) -> set[str]:
    """The variables of these settings."""
    return {field.name.upper() for settings_type in settings_types for field in msgspec.structs.fields(settings_type)}


def unknown(*settings_types: type[Settings], environment: Mapping[str, str] = os.environ) -> dict[str, str | None]:
    """Variables that look like settings of these services and are none, each with the most similar known name.

    A variable looks like a setting of theirs if it begins with SLUICE_ or NATS_, or with a service's name that one of
    their settings begins with. The variables of another service are left to that service and to `python -m ops`.
    """
    theirs = variables(*settings_types)
    prefixes = (*PREFIXES, *(prefix for prefix in SERVICE_PREFIXES if any(name.startswith(prefix) for name in theirs)))
    known = theirs | ELSEWHERE
    known |= {f"{name}_FILE" for name in known}
    return {
        name: next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.8)), None)
        for name in sorted(environment)
        if name.startswith(prefixes) and name not in known and not _SERVICE_LINK.search(name)
    }


def warn_of_unknown(settings_type: type[Settings], environment: Mapping[str, str] = os.environ) -> None:
    """Log one line for all variables that look like settings of this service and are none."""
    if found := unknown(settings_type, environment=environment):
        log.warning("variables that are no settings", variables=found)
