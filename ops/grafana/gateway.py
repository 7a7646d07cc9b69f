"""The dashboard Gateway: events received, accepted and rejected, latency, and requests in flight."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from ops.grafana.boards import board
from ops.grafana.panels import (
    BYTES,
    EVENTS,
    EVENTS_A_SECOND,
    EXACT,
    REQUESTS_A_SECOND,
    SECONDS,
    curves,
    number,
)

_OF = '{instance=~"$instance"}'
_BY_SOURCE = '{instance=~"$instance", source=~"$source"}'


def _quantile(share: float, metric: str, by: str = "") -> str:
    return f"histogram_quantile({share}, sum by (le{by}) (rate({metric}_bucket{_OF}[$__rate_interval])))"


def gateway() -> Dashboard:
    """Build the dashboard."""
    events = [
        number(
            "Accepted",
            EXACT,
            f"sum(increase(gateway_events_accepted_total{_BY_SOURCE}[$__range]))",
            meaning="Events in requests answered 202, in the time range shown",
        ),
        number(
            "Processed",
            EXACT,
            f"sum(increase(gateway_events_processed_total{_BY_SOURCE}[$__range]))",
            meaning="Events that JetStream confirmed as written to disk. At rest, at least as many as accepted",
        ),
        number(
            "Failed",
            EXACT,
            f"sum(increase(gateway_events_failed_total{_OF}[$__range]))",
            meaning="Events that break the contract: rejected, and kept with the reason",
            warning_from=1,
            runbook="EventsFailing",
        ),
        number(
            "Unconfirmed",
            EXACT,
            f"sum(increase(gateway_events_unconfirmed_total{_BY_SOURCE}[$__range]))",
            meaning="Valid events in requests answered 503: the sender must send them again",
            critical_from=1,
            runbook="RequestsTurnedAway",
        ),
        number(
            "Rejected and not kept",
            EXACT,
            f"sum(increase(gateway_rejected_events_not_kept_total{_OF}[$__range]))",
            meaning="Rejected events whose copy did not reach the stream REJECTED",
            critical_from=1,
            runbook="RejectedNotKept",
        ),
        number(
            "Worker restarts",
            EXACT,
            f"sum(increase(gateway_worker_restarts_total{_OF}[$__range]))",
            meaning="Workers that ended unexpectedly",
            critical_from=1,
            runbook="RestartLoop",
        ),
    ]
    rates = [
        curves(
            "Accepted events",
            EVENTS_A_SECOND,
            (f"sum by (source) (rate(gateway_events_accepted_total{_BY_SOURCE}[$__rate_interval]))", "{{source}}"),
            meaning="By source",
            stacked=True,
        ),
        curves(
            "Rejected events",
            EVENTS_A_SECOND,
            (f"sum by (reason) (rate(gateway_events_failed_total{_OF}[$__rate_interval])) > 0", "{{reason}}"),
            meaning="By reason",
            stacked=True,
            runbook="EventsFailing",
        ),
        curves(
            "Requests",
            REQUESTS_A_SECOND,
            (f"sum by (status) (rate(gateway_requests_total{_OF}[$__rate_interval])) > 0", "{{status}}"),
            meaning="By status of the response",
            stacked=True,
            runbook="RequestsTurnedAway",
        ),
        curves(
            "Requests rejected as a whole",
            REQUESTS_A_SECOND,
            (f"sum by (rejection) (rate(gateway_requests_rejected_total{_OF}[$__rate_interval]))", "{{rejection}}"),
            meaning="Rejected before validation of their events: not JSON, too large, no valid signature",
            runbook="SignatureFailures",
        ),
    ]
    latency = [
        curves(
            "Request stages, p99",
            SECONDS,
            (_quantile(0.99, "gateway_stage_seconds", ", stage"), "{{stage}}"),
            meaning="Duration of receive (reads the body), decode (validates events) and publish (waits for PubAcks)",
        ),
        curves(
            "Publish latency: first attempt to PubAck",
            SECONDS,
            *((_quantile(share, "gateway_publish_seconds"), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)),
            meaning="Per message, including JetStream's fsync",
            critical_from=1,
            runbook="PublishSlow",
        ),
        curves(
            "Events per published message",
            EVENTS,
            *((_quantile(share, "gateway_batch_events"), f"p{share * 100:g}") for share in (0.5, 0.95)),
            meaning="Each message costs one fsync: the more events share it, the less an event costs",
        ),
        curves(
            "Publish errors",
            EVENTS_A_SECOND,
            *(
                (f"sum(rate(gateway_publish_{what}_total{_OF}[$__rate_interval]))", what)
                for what in ("retries", "full", "unexpected_duplicates")
            ),
            meaning="Messages per second: retried, rejected by a full stream, reported as a duplicate (must be 0)",
            usually_zero=True,
        ),
    ]
    held = [
        curves(
            "Bytes in flight",
            BYTES,
            (f"sum(gateway_bytes_in_flight{_OF})", "held"),
            (f"sum(gateway_bytes_in_flight_max{_OF})", "limit"),
            meaning="Request bodies in memory. Over the limit, the gateway returns 503 at once",
        ),
        curves(
            "Requests in flight",
            EVENTS,
            (f"sum by (instance) (gateway_requests_in_flight{_OF})", "{{instance}}"),
            meaning="Requests that wait for their response",
        ),
        curves(
            "CPU: cores in use",
            "none",
            (f"sum by (instance) (rate(gateway_cpu_seconds_total{_OF}[$__rate_interval]))", "{{instance}}"),
            meaning="All workers of an instance",
        ),
        curves(
            "Memory",
            BYTES,
            (f"sum by (instance) (gateway_resident_bytes{_OF})", "{{instance}}"),
            meaning="All workers of an instance",
        ),
    ]
    return board(
        "Sluice: Gateway",
        "sluice-gateway",
        "Events received, accepted and rejected, latency, and requests in flight",
        [("Events", events), ("Rates", rates), ("Latency", latency), ("In flight and resources", held)],
        'job="gateway"',
    )
