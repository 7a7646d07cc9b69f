"""Settings: each is an environment variable, typed, bounded and with a default where one is safe.

A field `gateway_port` is read from `GATEWAY_PORT`. Where `GATEWAY_PORT_FILE` is set instead, the value is
that file's content (Docker and Kubernetes secrets). `.env.example` lists every field; a test holds both equal.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar

import msgspec
import structlog
from msgspec import Meta

from core.allowed import QUOTES, allowed, hint
from core.errors import Misconfigured
from core.sources import SOURCES

MEBIBYTE = 1024 * 1024

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Positive = Annotated[int, Meta(ge=1)]
Scheme = Literal["off", "meta", "tiktok", "standard", "key"]
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
        Meta(ge=1, le=365, description="An event older than this is refused, at the door and when storing"),
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
    refused_stream_max_bytes: Annotated[int, Meta(ge=MEBIBYTE, description="Room of the stream REFUSED")] = (
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


class _GatewaySettings(Settings, frozen=True, kw_only=True):
    gateway_host: Annotated[
        str, Meta(description="IP address or name the gateway listens on; :: for IPv4 and IPv6")
    ] = "127.0.0.1"
    gateway_port: Annotated[Port, Meta(description="Port of POST /events, health and metrics")] = 8080
    gateway_workers: Annotated[int, Meta(ge=1, le=64, description="Robyn processes that share the port")] = 2
    gateway_pin: Annotated[
        Literal["auto", "off"],
        Meta(description="Whether each worker is pinned to one of the cores it may use"),
    ] = "off"
    gateway_pin_offset: Annotated[
        int,
        Meta(ge=0, description="First core of this instance, so that replicas on one machine do not stack"),
    ] = 0
    gateway_max_body_bytes: Annotated[Positive, Meta(description="Largest body, counted again after inflating")] = (
        64 * MEBIBYTE
    )
    gateway_max_in_flight_bytes: Annotated[
        Positive,
        Meta(description="Bytes of bodies held by all workers together; past it the answer is 503 at once"),
    ] = 128 * MEBIBYTE
    gateway_publish_seconds: Annotated[Seconds, Meta(description="How long a missing PubAck is asked for again")] = 15.0
    gateway_drain_seconds: Annotated[Seconds, Meta(description="Longest stop after SIGTERM")] = 20.0
    gateway_signature_seconds: Annotated[
        Seconds, Meta(description="How far the time in a signature may lie from our clock")
    ] = 300.0
    gateway_meta_verify_token: Annotated[
        str | None, Meta(description="What Meta has to know when it asks GET /events?hub.mode=subscribe; unset: 405")
    ] = None


if TYPE_CHECKING:

    class GatewaySettings(_GatewaySettings, frozen=True, kw_only=True):
        """The gateway's own, with a scheme and secrets for each source: `gateway_<source>_scheme`."""

        def __init__(self, **fields: Any) -> None: ...

else:
    _PROOF = "Proof for {} events: off, meta, tiktok, standard (Standard Webhooks) or key"
    _SECRETS = "Secrets for {} events, any of which is valid, for rotation; separated by spaces"
    GatewaySettings = msgspec.defstruct(
        "GatewaySettings",
        [
            field
            for source in SOURCES
            for field in (
                (f"gateway_{source}_scheme", Annotated[Scheme, Meta(description=_PROOF.format(source))], "off"),
                (f"gateway_{source}_secrets", Annotated[str | None, Meta(description=_SECRETS.format(source))], None),
            )
        ],
        bases=(_GatewaySettings,),
        module=__name__,
        frozen=True,
        kw_only=True,
    )


class CollectorSettings(Settings, frozen=True, kw_only=True):
    """A collector's own. The source comes from the command line."""

    collector_dsn: Annotated[Dsn, Meta(description="PostgreSQL, as the role that writes")] = (
        "postgresql://sluice_collector@127.0.0.1:5432/sluice"
    )
    sluice_migrate_dsn: Annotated[
        Dsn | None,
        Meta(description="PostgreSQL, as the owner: migrations run at start; unset: wait for them"),
    ] = None
    collector_host: Annotated[str, Meta(description="The same for a collector's health and metrics")] = "127.0.0.1"
    collector_port: Annotated[Port, Meta(description="Port of a collector's health and metrics; 0 picks one")] = 0
    collector_batch_rows: Annotated[int, Meta(ge=1, le=200_000, description="Most events stored at once")] = 20_000
    collector_batch_milliseconds: Annotated[
        int, Meta(ge=0, le=10_000, description="Longest wait for a batch to fill")
    ] = 50
    collector_ack_wait_seconds: Annotated[Seconds, Meta(description="JetStream redelivers after this silence")] = 10.0
    collector_drain_seconds: Annotated[Seconds, Meta(description="Longest stop after SIGTERM")] = 20.0
    partitions_ahead_days: Annotated[int, Meta(ge=1, le=60, description="Daily partitions made in advance")] = 7
    retention_days: Annotated[
        int, Meta(ge=5, le=3650, description="Days of events kept; at least MAX_EVENT_AGE_DAYS + 4")
    ] = 90
    receipt_retention_days: Annotated[int, Meta(ge=3, le=365, description="Days of receipts kept one by one")] = 3
    letter_retention_days: Annotated[
        int, Meta(ge=1, le=3650, description="Days that refused events and dead letters are kept")
    ] = 90


class ReporterSettings(Settings, frozen=True, kw_only=True):
    """The reporter's own."""

    reporter_dsn: Annotated[Dsn, Meta(description="PostgreSQL, as the role that only reads")] = (
        "postgresql://sluice_reporter@127.0.0.1:5432/sluice"
    )
    sluice_migrate_dsn: Annotated[
        Dsn | None,
        Meta(description="PostgreSQL, as the owner: migrations run at start; unset: wait for them"),
    ] = None
    reporter_host: Annotated[str, Meta(description="The same for the reporter")] = "127.0.0.1"
    reporter_port: Annotated[Port, Meta(description="Port of the reports, health and metrics")] = 8081
    reporter_connections: Annotated[int, Meta(ge=1, le=100, description="Most connections to PostgreSQL")] = 8
    reporter_statement_seconds: Annotated[Seconds, Meta(description="A report that takes longer is answered 504")] = (
        10.0
    )
    reporter_rows_range_hours: Annotated[
        int,
        Meta(
            ge=1,
            le=24 * 366,
            description="Longest range of figures that only rows can give: cities, campaigns",
        ),
    ] = 24
    reporter_drain_seconds: Annotated[Seconds, Meta(description="Longest stop after SIGTERM")] = 15.0


class OperatorSettings(CollectorSettings, frozen=True, kw_only=True):
    """What `python -m ops` goes by: the owner's database, the collectors' settings, and where the others answer."""

    gateway_url: Annotated[Url, Meta(description="Where the gateway answers /health/ready")] = "http://127.0.0.1:8080"
    reporter_url: Annotated[Url, Meta(description="Where the reporter answers /health/ready")] = "http://127.0.0.1:8081"
    nats_monitor_url: Annotated[Url, Meta(description="Where NATS answers /varz")] = "http://127.0.0.1:8222"


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

PREFIXES: Final = ("GATEWAY_", "COLLECTOR_", "REPORTER_", "SLUICE_", "NATS_")
# What other programs of ours read: docker-compose, the local stack, the NATS server, tests.
ELSEWHERE: Final = frozenset(
    {
        *("SLUICE_ENVIRONMENT", "SLUICE_VERSION", "SLUICE_IMAGE", "SLUICE_REQUIRE_TOOLS"),
        *("SLUICE_FAULTS", "SLUICE_FAULTS_FOLDER", "SLUICE_FAULTS_REPORT", "SLUICE_FOLDER", "SLUICE_RUNBOOKS_URL"),
        *("SLUICE_POSTGRES_PORT", "SLUICE_NATS_PORT", "SLUICE_NATS_MONITOR_PORT"),
        *("NATS_HOST", "NATS_PORT", "NATS_MONITOR_PORT", "NATS_MAX_FILE_STORE", "NATS_SYNC_INTERVAL"),
    }
)
# What Kubernetes sets in every pod for a Service that is called gateway, reporter or nats.
_SERVICE_LINK: Final = re.compile(r"_SERVICE_(HOST|PORT)|_PORT_[0-9]+_(TCP|UDP)|_PORT$")

log = structlog.get_logger()

Chosen = TypeVar("Chosen", bound=Settings)


def nats_at(url: str) -> dict[str, str]:
    """The variables for a NATS that this URL is enough for, whatever the environment says of another one."""
    return {**{f"{name}{suffix}": "" for name in NATS_LOGIN for suffix in ("", "_FILE")}, "NATS_URL": url}


def load(kind: type[Chosen], environment: Mapping[str, str] = os.environ) -> Chosen:
    """Read the settings of one service. White space around a value, also the line end of a file, does not belong to it.

    Raises Misconfigured with each wrong variable's name and what is allowed, never with what it holds.
    """
    values: dict[str, Any] = {}
    wrong: list[str] = []
    for field in msgspec.structs.fields(kind):
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
    return kind(**values)


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


def variables() -> set[str]:
    """The variables of all settings."""
    kinds = (GatewaySettings, ReporterSettings, OperatorSettings)
    return {field.name.upper() for kind in kinds for field in msgspec.structs.fields(kind)}


def unknown(environment: Mapping[str, str] = os.environ) -> dict[str, str | None]:
    """Variables with a prefix of ours that nothing of ours reads, each with the known name that is nearest."""
    known = variables() | ELSEWHERE
    known |= {f"{name}_FILE" for name in known}
    return {
        name: next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.8)), None)
        for name in sorted(environment)
        if name.startswith(PREFIXES) and name not in known and not _SERVICE_LINK.search(name)
    }


def warn_of_unknown(environment: Mapping[str, str] = os.environ) -> None:
    """Log one line for all variables that look like settings and are none."""
    if found := unknown(environment):
        log.warning("variables that are no settings", variables=found)
