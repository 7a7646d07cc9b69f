"""Settings: typed environment variables with limits, and with a default if one is safe.

A service's own settings are in its `settings.py`; this module has those that several services share.

A field `gateway_port` is read from `GATEWAY_PORT`. If `GATEWAY_PORT_FILE` is set instead, the value is that file's
content (Docker and Kubernetes secrets). `.env.example` lists every field; a test compares both.
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

from core.errors import Misconfigured
from core.setting_errors import QUOTES, describe_problem, describe_type

MEBIBYTE = 1024 * 1024

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Positive = Annotated[int, Meta(ge=1)]
Url = Annotated[str, Meta(pattern="^https?://[^/]", title="a URL that begins with http:// or https://")]
# asyncpg reads / ? # [ in a password as the start of a port or an address, and shows it in its error.
_HOST: Final = r"(\[[0-9A-Fa-f:.]+\]|[^/?#@:,\[\]\s]*)(:[0-9]*)?"
Dsn = Annotated[
    str,
    Meta(
        pattern=rf"^postgres(ql)?://([^/?#\[\]]*@)?{_HOST}(,{_HOST})*([/?][^#\s]*)?$",
        title="a URL that begins with postgresql://, with / ? # [ ] in a user or password percent-encoded",
    ),
]
OwnerDsn = Annotated[Dsn | None, Meta(description="DSN of the owner: migrations run at start; unset: wait for them")]
TracesSampler = Literal[
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that every service has."""

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Minimum severity of log lines")
    ] = "info"
    nats_url: Annotated[
        str, Meta(description="NATS servers, comma separated; user and password percent-encoded; tls:// for TLS")
    ] = "nats://127.0.0.1:4222"
    nats_user: Annotated[str | None, Meta(description="NATS user, if NATS_URL has none")] = None
    nats_password: Annotated[str | None, Meta(description="Password of NATS_USER")] = None
    nats_creds: Annotated[
        str | None, Meta(description="Alternative: content of a .creds file (NATS_CREDS_FILE: its path)")
    ] = None
    nats_nkey: Annotated[
        str | None, Meta(description="Alternative: seed of a user's nkey (NATS_NKEY_FILE: its path)")
    ] = None
    nats_ca: Annotated[
        str | None, Meta(description="CA of the NATS servers, PEM (NATS_CA_FILE: its path); TLS is then required")
    ] = None
    nats_cert: Annotated[
        str | None, Meta(description="Client certificate for NATS, PEM (NATS_CERT_FILE: its path)")
    ] = None
    nats_key: Annotated[str | None, Meta(description="Key of NATS_CERT (NATS_KEY_FILE: its path)")] = None
    max_event_age_days: Annotated[
        int,
        Meta(ge=1, le=365, description="Older events are rejected, by the gateway and when storing"),
    ] = 7
    max_event_ahead_seconds: Annotated[
        int, Meta(ge=0, le=86_400, description="How far an event's timestamp may be ahead of the clock")
    ] = 3600
    stream_max_bytes: Annotated[
        int,
        Meta(
            ge=MEBIBYTE,
            description="Size limit of each EVENTS_ stream; the default stores 30 minutes of the publisher's load",
        ),
    ] = 11 * 1024 * MEBIBYTE
    rejected_stream_max_bytes: Annotated[int, Meta(ge=MEBIBYTE, description="Size limit of the stream REJECTED")] = (
        1024 * MEBIBYTE
    )
    stream_replicas: Annotated[
        int, Meta(ge=1, le=5, description="Replicas of each stream: 3 on a NATS cluster, 1 on a single server")
    ] = 1
    otel_exporter_otlp_endpoint: Annotated[
        Url | None,
        Meta(description="OTLP/HTTP endpoint for spans, such as http://otel-collector:4318; unset: no tracing"),
    ] = None
    otel_traces_sampler: Annotated[
        TracesSampler, Meta(description="Sampler of traces; parentbased_ samplers follow the sender's traceparent")
    ] = "parentbased_always_on"
    otel_traces_sampler_arg: Annotated[float, Meta(ge=0, le=1, description="Ratio for the traceidratio samplers")] = 1.0


# The connection to one NATS system. A program that overrides one of them sets or clears all of them.
NATS_VARIABLES: Final = (
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
# Read by other programs: migrations, the CLI, docker-compose, the local stack, NATS, tests.
OTHER_VARIABLES: Final = frozenset(
    {
        *("SLUICE_ENVIRONMENT", "SLUICE_VERSION", "SLUICE_IMAGE", "SLUICE_REQUIRE_TOOLS"),
        *("SLUICE_MIGRATE_DSN", "GATEWAY_URL", "REPORTER_URL", "REPORTER_TOKEN", "NATS_MONITOR_URL"),
        *("SLUICE_FAULTS", "SLUICE_FAULTS_FOLDER", "SLUICE_FAULTS_REPORT", "SLUICE_FOLDER", "SLUICE_RUNBOOKS_URL"),
        *("SLUICE_POSTGRES_PORT", "SLUICE_NATS_PORT", "SLUICE_NATS_MONITOR_PORT"),
        *("NATS_HOST", "NATS_PORT", "NATS_MONITOR_PORT", "NATS_MAX_FILE_STORE", "NATS_SYNC_INTERVAL"),
        *("GATEWAY_REPLICAS", "SLUICE_ENGINE", "SLUICE_ENGINE_FOLDER"),
    }
)
# Kubernetes sets these in every pod for a Service named gateway, reporter or nats.
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
"""Settings of earlier versions. A service does not start with one set: it would silently use the default."""

log = structlog.get_logger()

AnySettings = TypeVar("AnySettings", bound=Settings)


def nats_variables(url: str) -> dict[str, str]:
    """Return the variables for a NATS that needs only this URL, which override all others in the environment."""
    return {**{f"{name}{suffix}": "" for name in NATS_VARIABLES for suffix in ("", "_FILE")}, "NATS_URL": url}


def load(settings_type: type[AnySettings], environment: Mapping[str, str] = os.environ) -> AnySettings:
    """Read the settings of one service. White space around a value, and a file's line end, are removed.

    Raises Misconfigured with the name of each invalid variable and what is allowed, never with its value.
    """
    values: dict[str, Any] = {}
    errors = [
        f"{old} was renamed: set {new} instead"
        for old, new in RENAMED.items()
        if new.lower() in settings_type.__struct_fields__ and (environment.get(old) or environment.get(f"{old}_FILE"))
    ]
    for field in msgspec.structs.fields(settings_type):
        variable = field.name.upper()
        if not (value := _read(variable, environment)):
            continue
        if len(value) > 1 and value[0] == value[-1] and value[0] in QUOTES:
            errors.append(f"{variable}: remove the quotes, which are part of the value")
            continue
        try:
            values[field.name] = msgspec.convert(value, field.type, strict=False)
        except msgspec.ValidationError:
            example = f", for example {variable}={field.default}" if field.default is not None else ""
            errors.append(f"{variable}: must be {describe_type(field.type)}{example}{describe_problem(value)}")
    if errors:
        raise Misconfigured(" | ".join(errors))
    return settings_type(**values)


def _read(variable: str, environment: Mapping[str, str]) -> str:
    """Return the value of a variable or of its file; empty if neither is set. Raises Misconfigured."""
    value, path = (environment.get(name, "").strip() for name in (variable, f"{variable}_FILE"))
    if not path:
        return value  # an empty value in a .env file means the default
    if value:
        raise Misconfigured(f"{variable} and {variable}_FILE are both set: unset one")
    try:
        return Path(path).read_text(encoding="utf-8-sig").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        # Anything else may be the secret itself, set under the wrong name.
        shown_path = path if path.startswith(("/", "./", "../")) else "the file that it names"
        raise Misconfigured(f"{variable}_FILE: cannot read {shown_path}: {reason}") from error


def variables(*settings_types: type[Settings]) -> set[str]:
    """Return the variables of these settings."""
    return {field.name.upper() for settings_type in settings_types for field in msgspec.structs.fields(settings_type)}


def unknown_variables(
    *settings_types: type[Settings], environment: Mapping[str, str] = os.environ
) -> dict[str, str | None]:
    """Return unknown variables that look like settings of these services, each with the most similar known name.

    A variable looks like a setting if it begins with SLUICE_ or NATS_, or with the prefix of a service whose settings
    are included. Variables of another service are left to that service and to the CLI.
    """
    declared = variables(*settings_types)
    prefixes = (
        *PREFIXES,
        *(prefix for prefix in SERVICE_PREFIXES if any(name.startswith(prefix) for name in declared)),
    )
    known = declared | OTHER_VARIABLES
    known |= {f"{name}_FILE" for name in known}
    return {
        name: next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.8)), None)
        for name in sorted(environment)
        if name.startswith(prefixes) and name not in known and not _SERVICE_LINK.search(name)
    }


def warn_of_unknown(settings_type: type[Settings], environment: Mapping[str, str] = os.environ) -> None:
    """Log one line with all unknown variables that look like settings of this service."""
    if unknown := unknown_variables(settings_type, environment=environment):
        log.warning("unknown settings", variables=unknown)
