"""The settings of the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta

from core.settings import MEBIBYTE, Port, Positive, Seconds, Settings
from core.sources import SOURCES

Scheme = Literal["off", "meta", "tiktok", "standard", "key"]


class _GatewaySettings(Settings, frozen=True, kw_only=True):
    gateway_host: Annotated[
        str, Meta(description="IP address or name the gateway listens on; :: for IPv4 and IPv6")
    ] = "127.0.0.1"
    gateway_port: Annotated[Port, Meta(description="Port of POST /events, health and metrics")] = 8080
    gateway_workers: Annotated[int, Meta(ge=1, le=64, description="Robyn processes that share the port")] = 2
    gateway_cpu_pinning: Annotated[
        Literal["auto", "off"],
        Meta(description="Whether each worker is pinned to one of the cores it may use"),
    ] = "off"
    gateway_cpu_pinning_offset: Annotated[
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
    gateway_publish_timeout_seconds: Annotated[
        Seconds, Meta(description="How long a missing PubAck is asked for again")
    ] = 15.0
    gateway_drain_seconds: Annotated[Seconds, Meta(description="Longest stop after SIGTERM")] = 20.0
    gateway_signature_tolerance_seconds: Annotated[
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
