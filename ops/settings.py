"""The settings of operators' commands, and those of all programs."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from collector.settings import CollectorSettings
from core.settings import Url
from gateway.settings import GatewaySettings
from reporter.settings import ReporterSettings


class OperatorSettings(CollectorSettings, frozen=True, kw_only=True):
    """The settings of `sluice`: the owner's database, those of collectors, and the addresses of the other services."""

    gateway_url: Annotated[Url, Meta(description="Base URL of the gateway")] = "http://127.0.0.1:8080"
    reporter_url: Annotated[Url, Meta(description="Base URL of the reporter")] = "http://127.0.0.1:8081"
    reporter_token: Annotated[str | None, Meta(description="Token for the reporter, if it needs one")] = None
    nats_monitor_url: Annotated[Url, Meta(description="Base URL of the monitoring port of NATS")] = (
        "http://127.0.0.1:8222"
    )


EVERY: Final = (GatewaySettings, ReporterSettings, OperatorSettings)
"""The settings of all programs. OperatorSettings includes those of collectors."""
