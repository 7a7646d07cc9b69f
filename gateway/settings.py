"""The settings of the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from core.settings import MEBIBYTE, Port, Positive, Seconds, Settings
from core.sources import SOURCES

Scheme = Literal["off", "meta", "tiktok", "standard", "key"]


class _GatewaySettings(Settings, frozen=True, kw_only=True):
    gateway_host: Annotated[str, Meta(description="IP address or name to listen on; :: for IPv4 and IPv6")] = (
        "127.0.0.1"
    )
    gateway_port: Annotated[Port, Meta(description="Port of POST /events, health and metrics")] = 8080
    gateway_workers: Annotated[int, Meta(ge=1, le=64, description="Number of worker processes")] = 2
    gateway_cpu_pinning: Annotated[
        Literal["auto", "off"],
        Meta(description="auto: pin each worker to one CPU core"),
    ] = "off"
    gateway_cpu_pinning_offset: Annotated[
        int,
        Meta(ge=0, description="First core to pin to; give each replica on one machine other cores"),
    ] = 0
    gateway_max_body_bytes: Annotated[
        Positive, Meta(description="Maximum size of a body, also after decompression")
    ] = 64 * MEBIBYTE
    gateway_max_in_flight_bytes: Annotated[
        Positive,
        Meta(description="Maximum bytes in flight in all workers; over it requests get 503"),
    ] = 128 * MEBIBYTE
    gateway_publish_timeout_seconds: Annotated[
        Seconds, Meta(description="How long publishing is retried while the PubAck is missing")
    ] = 15.0
    gateway_drain_seconds: Annotated[Seconds, Meta(description="Maximum time to drain after SIGTERM")] = 20.0
    gateway_signature_tolerance_seconds: Annotated[
        Seconds, Meta(description="Maximum difference between the time in a signature and this clock")
    ] = 300.0
    gateway_meta_verify_token: Annotated[
        str | None, Meta(description="Token for Meta's GET /events?hub.mode=subscribe; unset: 405")
    ] = None


if TYPE_CHECKING:

    class GatewaySettings(_GatewaySettings, frozen=True, kw_only=True):
        """The gateway's settings, with a scheme and secrets for each source: `gateway_<source>_scheme`."""

        def __init__(self, **fields: Any) -> None: ...

else:
    _PROOF = "Authentication of {} events: off, meta, tiktok, standard (Standard Webhooks) or key"
    _SECRETS = "Accepted secrets for {} events, separated by spaces; several during a rotation"
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
