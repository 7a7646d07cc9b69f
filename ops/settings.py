"""The settings of operators' commands, and those of all programs."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from collector.settings import CollectorSettings
from core.settings import Url
from gateway.settings import GatewaySettings
from reporter.settings import ReporterSettings


class OperatorSettings(CollectorSettings, frozen=True, kw_only=True):
    """What `python -m ops` goes by: the owner's database, the collectors' settings, and where the others answer."""

    gateway_url: Annotated[Url, Meta(description="Where the gateway answers /health/ready")] = "http://127.0.0.1:8080"
    reporter_url: Annotated[Url, Meta(description="Where the reporter answers /health/ready")] = "http://127.0.0.1:8081"
    nats_monitor_url: Annotated[Url, Meta(description="Where NATS answers /varz")] = "http://127.0.0.1:8222"


EVERY: Final = (GatewaySettings, ReporterSettings, OperatorSettings)
"""The settings of all programs: OperatorSettings has the collectors' too."""
